package import Kernels
internal import ModelFormats

/// The vision tower: CLIP's vision transformer up to the layer whose output LLaVA uses.
package struct VisionEncoder: Sendable {
  let configuration: VisionConfiguration
  let dropsClassToken: Bool
  let embedding: PatchEmbedding
  let inputNorm: LayerNorm
  let layers: [VisionLayer]

  init(_ scope: CheckpointScope, _ configuration: LLaVAConfiguration) throws(CheckpointError) {
    let vision = configuration.vision
    self.configuration = vision
    dropsClassToken = configuration.dropsClassToken
    embedding = try PatchEmbedding(scope.scope("embeddings"), vision)
    // Spelt this way in the checkpoints.
    inputNorm = try LayerNorm(scope.scope("pre_layrnorm"), size: vision.hiddenSize)
    var layers: [VisionLayer] = []
    for i in 0..<configuration.visionLayersNeeded {
      layers.append(try VisionLayer(scope.scope("encoder.layers.\(i)"), vision))
    }
    self.layers = layers
  }

  /// The linear layers, the patch embedding's first.
  var linears: [Linear] { [embedding.projection] + layers.flatMap(\.linears) }

  /// What the patches of `views` pictures look like to the tower.
  ///
  /// - Parameter pixels: Normalised values, `[views, 3, imageSize, imageSize]`.
  /// - Returns: `[views · patches, D]` in reading order, without the class row unless the configuration keeps it.
  package func callAsFunction(_ pixels: [Float], views: Int, on compute: Compute) -> Matrix {
    var hidden = self.hidden(pixels, views: views, layers: layers.count, on: compute)
    if dropsClassToken {
      let rowsPerView = 1 + configuration.patchCount
      hidden.keepRows((0..<hidden.rows).filter { !$0.isMultiple(of: rowsPerView) })
    }
    return hidden
  }

  /// The residual stream after some of the layers, class rows included, `[views · (1 + patches), D]`.
  package func hidden(_ pixels: [Float], views: Int, layers count: Int, on compute: Compute) -> Matrix {
    let embedded = embedding(pixels, views: views, on: compute)
    var hidden = Matrix(rows: 0, columns: configuration.hiddenSize, capacity: embedded.rows)
    compute.layerNorm(
      &hidden, embedded, gain: inputNorm.gain, bias: inputNorm.bias, epsilon: configuration.layerNormEpsilon)
    var scratch = VisionScratch(rows: hidden.rows, configuration)
    for (index, layer) in layers.prefix(count).enumerated() {
      compute.ledger.layer = index
      layer(&hidden, &scratch, views: views, configuration, on: compute)
    }
    return hidden
  }
}
