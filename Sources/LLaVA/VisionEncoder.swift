package import Kernels
import ModelFormats

/// The vision transformer of CLIP or SigLIP, up to the layer whose output LLaVA uses.
///
/// In this file `D` and `F` are the hidden and the intermediate size of the vision encoder.
package struct VisionEncoder: Sendable {
  let configuration: VisionConfiguration
  let dropsClassToken: Bool
  let embedding: PatchEmbedding
  /// The norm before the first layer; `nil` for SigLIP.
  let inputNorm: LayerNorm?
  let layers: [EncoderLayer]
  /// The norm after the last layer; `nil` for models that use the residual stream before it.
  let finalNorm: LayerNorm?

  init(
    _ scope: CheckpointScope, _ vision: VisionConfiguration, _ configuration: LLaVAConfiguration, scores: ScoreType
  ) throws(CheckpointError) {
    self.configuration = vision
    dropsClassToken = configuration.dropsClassToken
    embedding = try PatchEmbedding(scope.scope("embeddings"), vision)
    // The checkpoints spell it this way.
    inputNorm =
      vision.family == .clip ? try LayerNorm(scope.scope("pre_layrnorm"), size: vision.hiddenSize) : nil
    var layers: [EncoderLayer] = []
    for i in 0..<configuration.visionLayersNeeded {
      layers.append(try EncoderLayer(scope.scope("encoder.layers.\(i)"), vision.layer, scores: scores))
    }
    self.layers = layers
    finalNorm = vision.appliesFinalNorm ? try LayerNorm(scope.scope("post_layernorm"), size: vision.hiddenSize) : nil
  }

  /// Views that are encoded together: more rows would need more memory without being faster.
  package var viewsPerBatch: Int { max(1, 3072 / configuration.rowsPerView) }

  /// The linear layers, the patch embedding's first.
  var linears: [Linear] { [embedding.projection] + layers.flatMap(\.linears) }

  /// The features of the patches of separate views.
  ///
  /// - Parameter pixels: Normalized values, `[views, 3, imageSize, imageSize]`.
  /// - Returns: `[views · patches, D]`, patches row by row, without the class row unless the configuration keeps it.
  package func callAsFunction(_ pixels: [Float], views: Int, on compute: ComputeContext) -> Matrix {
    var none: ClassAttention?
    var scratch = EncoderScratch(rows: views * configuration.rowsPerView, configuration.layer)
    return features(pixels, views: views, &scratch, &none, on: compute)
  }

  /// The features of the patches of separate views, as above.
  ///
  /// - Parameters:
  ///   - scratch: Working memory, which later batches may use again.
  ///   - attention: Receives the attention of the class token, unless it is `nil`.
  func features(
    _ pixels: [Float], views: Int, _ scratch: inout EncoderScratch, _ attention: inout ClassAttention?,
    on compute: ComputeContext
  ) -> Matrix {
    var hidden = self.hidden(pixels, views: views, layers: layers.count, &scratch, &attention, on: compute)
    if dropsClassToken, configuration.hasClassToken {
      let rowsPerView = configuration.rowsPerView
      hidden.keepRows((0..<hidden.rows).filter { !$0.isMultiple(of: rowsPerView) })
    }
    return hidden
  }

  /// The residual stream after the first `count` layers, class rows included, `[views · rowsPerView, D]`; after all
  /// layers with the final norm, if there is one.
  package func hidden(_ pixels: [Float], views: Int, layers count: Int, on compute: ComputeContext) -> Matrix {
    var none: ClassAttention?
    var scratch = EncoderScratch(rows: views * configuration.rowsPerView, configuration.layer)
    return hidden(pixels, views: views, layers: count, &scratch, &none, on: compute)
  }

  private func hidden(
    _ pixels: [Float], views: Int, layers count: Int, _ scratch: inout EncoderScratch,
    _ attention: inout ClassAttention?, on compute: ComputeContext
  ) -> Matrix {
    var hidden = embedding(pixels, views: views, on: compute)
    if let inputNorm { normalize(&hidden, by: inputNorm, on: compute) }
    for (index, layer) in layers.prefix(count).enumerated() {
      guard compute.begins(layer: index) else { break }
      layer(&hidden, &scratch, sequences: views, configuration.layer, on: compute)
      attention?.record(layer: index, of: layers.count, scratch, views: views, configuration, on: compute)
    }
    if count >= layers.count, let finalNorm { normalize(&hidden, by: finalNorm, on: compute) }
    return hidden
  }

  private func normalize(_ hidden: inout Matrix, by norm: LayerNorm, on compute: ComputeContext) {
    var normalized = Matrix(rows: 0, columns: configuration.hiddenSize, capacity: hidden.rows)
    compute.layerNorm(
      &normalized, hidden, weight: norm.weight, bias: norm.bias, epsilon: configuration.layerNormEpsilon)
    hidden = normalized
  }
}
