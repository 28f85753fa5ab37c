internal import Kernels
internal import ModelFormats

/// A norm with gain and bias.
struct LayerNorm: Sendable {
  let gain: [Float]
  let bias: [Float]

  init(_ scope: CheckpointScope, size: Int) throws(CheckpointError) {
    gain = try scope.vector("weight", count: size)
    bias = try scope.vector("bias", count: size)
  }
}

/// One layer of the tower: attention over the picture, then an MLP, each on a normed copy and added back.
struct VisionLayer: Sendable {
  let attentionNorm: LayerNorm
  let queries: Linear
  let keys: Linear
  let values: Linear
  let output: Linear
  let mlpNorm: LayerNorm
  let expand: Linear
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

  /// Updates the rows of `views` pictures in place.
  func callAsFunction(
    _ hidden: inout Matrix, _ scratch: inout VisionScratch, views: Int, _ configuration: VisionConfiguration,
    on compute: Compute
  ) {
    let epsilon = configuration.layerNormEpsilon
    compute.layerNorm(
      &scratch.normed, hidden, gain: attentionNorm.gain, bias: attentionNorm.bias, epsilon: epsilon)
    compute.multiply(
      &scratch.queries, &scratch.keys, &scratch.values, scratch.normed, by: queries, keys, values,
      (.queries, .keys, .values))
    compute.fullAttention(
      &scratch.attended, queries: scratch.queries, keys: scratch.keys, values: scratch.values,
      heads: configuration.heads, sequences: views, with: AttentionVariant(suiting: queries.arithmetic))
    compute.addProduct(to: &hidden, scratch.attended, by: output, .attentionOutput)

    compute.layerNorm(&scratch.normed, hidden, gain: mlpNorm.gain, bias: mlpNorm.bias, epsilon: epsilon)
    compute.multiply(&scratch.expanded, scratch.normed, by: expand, .feedForwardUp)
    compute.apply(configuration.activation, to: &scratch.expanded)
    compute.addProduct(to: &hidden, scratch.expanded, by: contract, .feedForwardDown)
  }
}

/// Working memory of the tower.
struct VisionScratch: ~Copyable {
  var normed: Matrix
  var queries: Matrix
  var keys: Matrix
  var values: Matrix
  var attended: Matrix
  var expanded: Matrix

  init(rows: Int, _ configuration: VisionConfiguration) {
    func matrix(_ columns: Int) -> Matrix { Matrix(rows: 0, columns: columns, capacity: rows) }
    let size = configuration.hiddenSize
    normed = matrix(size)
    queries = matrix(size)
    keys = matrix(size)
    values = matrix(size)
    attended = matrix(size)
    expanded = matrix(configuration.intermediateSize)
  }
}
