import Kernels
import ModelFormats

/// One layer of the vision encoder or of CLIP's text encoder: `x += attention(norm(x))`, then `x += mlp(norm(x))`.
///
/// In this file `D` and `F` are the hidden and the intermediate size of the encoder.
struct EncoderLayer: Sendable {
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
  /// The type of attention scores, unless the layer is computed in f32.
  let scores: ScoreType

  init(
    _ scope: CheckpointScope, _ configuration: EncoderLayerConfiguration, scores: ScoreType = .float
  ) throws(CheckpointError) {
    self.scores = scores
    let (size, inner) = (configuration.hiddenSize, configuration.intermediateSize)
    let attention = scope.scope("self_attn")
    let attentionFactors, mlpFactors: [Float]?
    (attentionNorm, attentionFactors) = try LayerNorm(scope.scope("layer_norm1"), size: size).balanced(
      for: scope.computeType)
    queries = try attention.linear("q_proj", inputs: size, outputs: size, bias: true, columnFactors: attentionFactors)
    keys = try attention.linear("k_proj", inputs: size, outputs: size, bias: true, columnFactors: attentionFactors)
    values = try attention.linear("v_proj", inputs: size, outputs: size, bias: true, columnFactors: attentionFactors)
    output = try attention.linear("out_proj", inputs: size, outputs: size, bias: true)
    (mlpNorm, mlpFactors) = try LayerNorm(scope.scope("layer_norm2"), size: size).balanced(for: scope.computeType)
    expand = try scope.scope("mlp").linear("fc1", inputs: size, outputs: inner, bias: true, columnFactors: mlpFactors)
    contract = try scope.scope("mlp").linear("fc2", inputs: inner, outputs: size, bias: true)
  }

  var linears: [Linear] { [queries, keys, values, output, expand, contract] }

  /// Updates the rows of separate sequences in place; attention is within a sequence.
  ///
  /// - Parameters:
  ///   - hidden: The residual stream, `[T, D]`, of sequences of equal length.
  ///   - scratch: Working memory for these rows.
  ///   - isCausal: Whether a row sees only those before it, in a single sequence.
  func callAsFunction(
    _ hidden: inout Matrix, _ scratch: inout EncoderScratch, sequences: Int, isCausal: Bool = false,
    _ configuration: EncoderLayerConfiguration, on compute: ComputeContext
  ) {
    let epsilon = configuration.layerNormEpsilon
    compute.layerNorm(
      &scratch.normalized, hidden, weight: attentionNorm.weight, bias: attentionNorm.bias, epsilon: epsilon)
    compute.matmul(
      &scratch.queries, &scratch.keys, &scratch.values, scratch.normalized, by: queries, keys, values,
      (.queries, .keys, .values))
    let kernel = AttentionKernel(for: queries.computeType, scores: scores)
    if isCausal {
      precondition(sequences == 1, "EncoderLayer: \(sequences) causal sequences")
      compute.causalAttention(
        &scratch.attentionOutput, queries: scratch.queries, keys: scratch.keys, values: scratch.values,
        heads: configuration.heads, with: kernel)
    } else {
      compute.fullAttention(
        &scratch.attentionOutput, queries: scratch.queries, keys: scratch.keys, values: scratch.values,
        heads: configuration.heads, sequences: sequences, with: kernel)
    }
    compute.matmulAdd(to: &hidden, scratch.attentionOutput, by: output, .attentionOutput)

    compute.layerNorm(&scratch.normalized, hidden, weight: mlpNorm.weight, bias: mlpNorm.bias, epsilon: epsilon)
    compute.matmul(
      &scratch.expanded, scratch.normalized, by: expand, .mlpUp, activation: configuration.activation)
    compute.matmulAdd(to: &hidden, scratch.expanded, by: contract, .mlpDown)
  }
}

/// Working memory of an encoder for `T` rows.
struct EncoderScratch: ~Copyable {
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

  init(rows: Int, _ configuration: EncoderLayerConfiguration) {
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
