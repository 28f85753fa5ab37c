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
  let layers: [VisionLayer]
  /// The norm after the last layer; `nil` for models that use the residual stream before it.
  let finalNorm: LayerNorm?

  init(
    _ scope: CheckpointScope, _ vision: VisionConfiguration, _ configuration: LLaVAConfiguration
  ) throws(CheckpointError) {
    self.configuration = vision
    dropsClassToken = configuration.dropsClassToken
    embedding = try PatchEmbedding(scope.scope("embeddings"), vision)
    // The checkpoints spell it this way.
    inputNorm =
      vision.family == .clip ? try LayerNorm(scope.scope("pre_layrnorm"), size: vision.hiddenSize) : nil
    var layers: [VisionLayer] = []
    for i in 0..<configuration.visionLayersNeeded {
      layers.append(try VisionLayer(scope.scope("encoder.layers.\(i)"), vision))
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
    var scratch = VisionScratch(rows: views * configuration.rowsPerView, configuration)
    return features(pixels, views: views, &scratch, &none, on: compute)
  }

  /// The features of the patches of separate views, as above.
  ///
  /// - Parameters:
  ///   - scratch: Working memory, which later batches may use again.
  ///   - attention: Receives the attention of the class token, unless it is `nil`.
  func features(
    _ pixels: [Float], views: Int, _ scratch: inout VisionScratch, _ attention: inout ClassAttention?,
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
    var scratch = VisionScratch(rows: views * configuration.rowsPerView, configuration)
    return hidden(pixels, views: views, layers: count, &scratch, &none, on: compute)
  }

  private func hidden(
    _ pixels: [Float], views: Int, layers count: Int, _ scratch: inout VisionScratch,
    _ attention: inout ClassAttention?, on compute: ComputeContext
  ) -> Matrix {
    var hidden = embedding(pixels, views: views, on: compute)
    func apply(_ norm: LayerNorm?) {
      guard let norm else { return }
      var normalized = Matrix(rows: 0, columns: configuration.hiddenSize, capacity: hidden.rows)
      compute.layerNorm(
        &normalized, hidden, weight: norm.weight, bias: norm.bias, epsilon: configuration.layerNormEpsilon)
      hidden = normalized
    }
    apply(inputNorm)
    for (index, layer) in layers.prefix(count).enumerated() {
      guard compute.begins(layer: index) else { break }
      layer(&hidden, &scratch, views: views, configuration, on: compute)
      attention?.record(layer: index, of: layers.count, scratch, views: views, configuration, on: compute)
    }
    if count >= layers.count { apply(finalNorm) }
    return hidden
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
  ///   - hidden: The residual stream, `[views · rowsPerView, D]`.
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

/// Working memory of the vision encoder for `T = views · rowsPerView` rows.
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
