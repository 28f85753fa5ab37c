package import Kernels
import ModelFormats

/// CLIP's vision transformer up to the layer whose output LLaVA uses.
///
/// In this file `D` and `F` are the hidden and the intermediate size of the vision encoder.
package struct VisionEncoder: Sendable {
  let configuration: VisionConfiguration
  let dropsClassToken: Bool
  let embedding: PatchEmbedding
  let inputNorm: LayerNorm
  let layers: [VisionLayer]

  init(
    _ scope: CheckpointScope, _ vision: VisionConfiguration, _ configuration: LLaVAConfiguration
  ) throws(CheckpointError) {
    self.configuration = vision
    dropsClassToken = configuration.dropsClassToken
    embedding = try PatchEmbedding(scope.scope("embeddings"), vision)
    // The checkpoints spell it this way.
    inputNorm = try LayerNorm(scope.scope("pre_layrnorm"), size: vision.hiddenSize)
    var layers: [VisionLayer] = []
    for i in 0..<configuration.visionLayersNeeded {
      layers.append(try VisionLayer(scope.scope("encoder.layers.\(i)"), vision))
    }
    self.layers = layers
  }

  /// The linear layers, the patch embedding's first.
  var linears: [Linear] { [embedding.projection] + layers.flatMap(\.linears) }

  /// The features of the patches of separate views.
  ///
  /// - Parameter pixels: Normalized values, `[views, 3, imageSize, imageSize]`.
  /// - Returns: `[views · patches, D]`, patches row by row, without the class row unless the configuration keeps it.
  package func callAsFunction(_ pixels: [Float], views: Int, on compute: ComputeContext) -> Matrix {
    var none: ClassAttention?
    return features(pixels, views: views, &none, on: compute)
  }

  /// The features of the patches of separate views, as above.
  ///
  /// - Parameter attention: Receives the attention of the class token, unless it is `nil`.
  func features(
    _ pixels: [Float], views: Int, _ attention: inout ClassAttention?, on compute: ComputeContext
  ) -> Matrix {
    var hidden = self.hidden(pixels, views: views, layers: layers.count, &attention, on: compute)
    if dropsClassToken {
      let rowsPerView = 1 + configuration.patchCount
      hidden.keepRows((0..<hidden.rows).filter { !$0.isMultiple(of: rowsPerView) })
    }
    return hidden
  }

  /// The residual stream after the first `count` layers, class rows included, `[views · (1 + patches), D]`.
  package func hidden(_ pixels: [Float], views: Int, layers count: Int, on compute: ComputeContext) -> Matrix {
    var none: ClassAttention?
    return hidden(pixels, views: views, layers: count, &none, on: compute)
  }

  private func hidden(
    _ pixels: [Float], views: Int, layers count: Int, _ attention: inout ClassAttention?, on compute: ComputeContext
  ) -> Matrix {
    let embedded = embedding(pixels, views: views, on: compute)
    var hidden = Matrix(rows: 0, columns: configuration.hiddenSize, capacity: embedded.rows)
    compute.layerNorm(
      &hidden, embedded, weight: inputNorm.weight, bias: inputNorm.bias, epsilon: configuration.layerNormEpsilon)
    var scratch = VisionScratch(rows: hidden.rows, configuration)
    for (index, layer) in layers.prefix(count).enumerated() {
      guard compute.begins(layer: index) else { break }
      layer(&hidden, &scratch, views: views, configuration, on: compute)
      attention?.record(layer: index, of: layers.count, scratch, views: views, configuration, on: compute)
    }
    return hidden
  }
}

/// Patch embedding: a convolution whose stride equals its width, computed as a matmul over the patches.
struct PatchEmbedding: Sendable {
  /// `[D, 3 · patch · patch]`.
  let projection: Linear
  /// `[D]`, the row before the patches of each view.
  let classEmbedding: [Float]
  /// `[1 + patches, D]`.
  let positions: [Float]
  let imageSize: Int
  let patchSize: Int

  init(_ scope: CheckpointScope, _ configuration: VisionConfiguration) throws(CheckpointError) {
    let (size, patch) = (configuration.hiddenSize, configuration.patchSize)
    projection = try scope.convolution("patch_embedding", channels: 3, side: patch, outputs: size)
    classEmbedding = try scope.vector("class_embedding", count: size)
    positions = try scope.scope("position_embedding")
      .tensor("weight", shape: [1 + configuration.patchCount, size]).floats()
    imageSize = configuration.imageSize
    patchSize = patch
  }

  /// The embeddings of separate views.
  ///
  /// - Parameter pixels: Normalized values, `[views, 3, imageSize, imageSize]`.
  /// - Returns: `[views · (1 + patches), D]`: for each view the class row, then its patches row by row.
  func callAsFunction(_ pixels: [Float], views: Int, on compute: ComputeContext) -> Matrix {
    let patches = patchRows(pixels, views: views)
    let (size, patchCount) = (classEmbedding.count, patches.rows / views)
    var embedded = Matrix(rows: 0, columns: size)
    compute.matmul(&embedded, patches, by: projection, .patchEmbedding)

    var result = Matrix(rows: views * (1 + patchCount), columns: size)
    let source = embedded.span
    var target = result.mutableSpan
    for view in 0..<views {
      for i in 0...patchCount {
        var row = target.row(view * (1 + patchCount) + i, columns: size)
        if i == 0 {
          for d in 0..<size { row[d] = classEmbedding[d] + positions[d] }
        } else {
          let patch = source.row(view * patchCount + i - 1, columns: size)
          for d in 0..<size { row[d] = patch[d] + positions[i * size + d] }
        }
      }
    }
    return result
  }

  /// The pixels of each patch as a row, `[views · patches, 3 · patch · patch]`.
  private func patchRows(_ pixels: [Float], views: Int) -> Matrix {
    precondition(pixels.count == views * 3 * imageSize * imageSize, "\(pixels.count) pixels for \(views) views")
    let side = imageSize / patchSize
    var rows = Matrix(rows: views * side * side, columns: 3 * patchSize * patchSize)
    let columns = rows.columns
    let source = pixels.span
    var target = rows.mutableSpan
    for index in 0..<views * side * side {
      let (view, y, x) = (index / (side * side), index / side % side, index % side)
      var row = target.row(index, columns: columns)
      for channel in 0..<3 {
        for dy in 0..<patchSize {
          let line = ((view * 3 + channel) * imageSize + y * patchSize + dy) * imageSize + x * patchSize
          let from = source.extracting(line..<line + patchSize)
          var to = row.row(channel * patchSize + dy, columns: patchSize)
          for i in from.indices { to[i] = from[i] }
        }
      }
    }
    return rows
  }
}

/// Weight and bias of a LayerNorm, `[D]` each.
struct LayerNorm: Sendable {
  let weight: [Float]
  let bias: [Float]

  init(_ scope: CheckpointScope, size: Int) throws(CheckpointError) {
    weight = try scope.vector("weight", count: size)
    bias = try scope.vector("bias", count: size)
  }
}

/// One layer of the vision encoder, `x += attention(norm(x))`, then `x += mlp(norm(x))`.
struct VisionLayer: Sendable {
  let attentionNorm: LayerNorm
  /// `[D, D]`, as are `keys`, `values` and `output`.
  let queries: Linear
  let keys: Linear
  let values: Linear
  let output: Linear
  let mlpNorm: LayerNorm
  /// `[F, D]`.
  let expand: Linear
  /// `[D, F]`.
  let contract: Linear

  init(_ scope: CheckpointScope, _ configuration: VisionConfiguration) throws(CheckpointError) {
    let (size, inner) = (configuration.hiddenSize, configuration.intermediateSize)
    let attention = scope.scope("self_attn")
    attentionNorm = try LayerNorm(scope.scope("layer_norm1"), size: size)
    queries = try attention.linear("q_proj", inputs: size, outputs: size, bias: true)
    keys = try attention.linear("k_proj", inputs: size, outputs: size, bias: true)
    values = try attention.linear("v_proj", inputs: size, outputs: size, bias: true)
    output = try attention.linear("out_proj", inputs: size, outputs: size, bias: true)
    mlpNorm = try LayerNorm(scope.scope("layer_norm2"), size: size)
    expand = try scope.scope("mlp").linear("fc1", inputs: size, outputs: inner, bias: true)
    contract = try scope.scope("mlp").linear("fc2", inputs: inner, outputs: size, bias: true)
  }

  var linears: [Linear] { [queries, keys, values, output, expand, contract] }

  /// Updates the rows of separate views in place; attention is within a view.
  ///
  /// - Parameters:
  ///   - hidden: The residual stream, `[views · (1 + patches), D]`.
  ///   - scratch: Working memory for these rows.
  func callAsFunction(
    _ hidden: inout Matrix, _ scratch: inout VisionScratch, views: Int, _ configuration: VisionConfiguration,
    on compute: ComputeContext
  ) {
    let epsilon = configuration.layerNormEpsilon
    compute.layerNorm(
      &scratch.normalized, hidden, weight: attentionNorm.weight, bias: attentionNorm.bias, epsilon: epsilon)
    compute.matmul(
      &scratch.queries, &scratch.keys, &scratch.values, scratch.normalized, by: queries, keys, values,
      (.queries, .keys, .values))
    compute.fullAttention(
      &scratch.attentionOutput, queries: scratch.queries, keys: scratch.keys, values: scratch.values,
      heads: configuration.heads, sequences: views, with: .attention(for: queries.computeType))
    compute.matmulAdd(to: &hidden, scratch.attentionOutput, by: output, .attentionOutput)

    compute.layerNorm(&scratch.normalized, hidden, weight: mlpNorm.weight, bias: mlpNorm.bias, epsilon: epsilon)
    compute.matmul(
      &scratch.expanded, scratch.normalized, by: expand, .mlpUp, activation: configuration.activation)
    compute.matmulAdd(to: &hidden, scratch.expanded, by: contract, .mlpDown)
  }
}

/// Working memory of the vision encoder for `T = views · (1 + patches)` rows.
struct VisionScratch: ~Copyable {
  /// Input of the projections, `[T, D]`.
  var normalized: Matrix
  /// `[T, D]`.
  var queries: Matrix
  /// `[T, D]`.
  var keys: Matrix
  /// `[T, D]`.
  var values: Matrix
  /// Before the output projection, `[T, D]`.
  var attentionOutput: Matrix
  /// Output of the MLP's first projection, `[T, F]`.
  var expanded: Matrix

  init(rows: Int, _ configuration: VisionConfiguration) {
    func matrix(_ columns: Int) -> Matrix { Matrix(rows: 0, columns: columns, capacity: rows) }
    let size = configuration.hiddenSize
    normalized = matrix(size)
    queries = matrix(size)
    keys = matrix(size)
    values = matrix(size)
    attentionOutput = matrix(size)
    expanded = matrix(configuration.intermediateSize)
  }
}

/// The MLP from vision features to decoder embeddings: two linear layers with an activation between them.
struct Projector: Sendable {
  /// `[D, visionHiddenSize]`, with the decoder's `D`.
  let expand: Linear
  /// `[D, D]`, with the decoder's `D`.
  let contract: Linear
  let activation: Activation

  init(
    _ scope: CheckpointScope, inputs: Int, _ configuration: LLaVAConfiguration
  ) throws(CheckpointError) {
    let outputs = configuration.text.hiddenSize
    let bias = configuration.projectorHasBias
    expand = try scope.linear("linear_1", inputs: inputs, outputs: outputs, bias: bias)
    contract = try scope.linear("linear_2", inputs: outputs, outputs: outputs, bias: bias)
    activation = configuration.projectorActivation
  }

  /// The decoder embeddings of vision features.
  ///
  /// - Parameter features: `[V, visionHiddenSize]`.
  /// - Returns: `[V, D]`, with the decoder's `D`.
  func callAsFunction(_ features: borrowing Matrix, on compute: ComputeContext) -> Matrix {
    var inner = Matrix(rows: 0, columns: expand.outputSize, capacity: features.rows)
    compute.matmul(&inner, features, by: expand, .projector, activation: activation)
    var result = Matrix(rows: 0, columns: contract.outputSize, capacity: features.rows)
    compute.matmul(&result, inner, by: contract, .projector)
    return result
  }
}
