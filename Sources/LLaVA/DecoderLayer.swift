package import Kernels
package import ModelFormats

/// One layer of the decoder, in two halves so that visual tokens can be ranked and dropped between them.
///
/// Before a drop the layer makes the keys of all rows, before rotation. Ranking needs just that of it; and what it leaves
/// is what the layer goes on with, so that it costs next to nothing.
struct DecoderLayer: Sendable {
  let attentionNorm: [Float]
  let queries: Linear
  let keys: Linear
  let values: Linear
  let output: Linear
  let mlpNorm: [Float]
  let gate: Linear
  let up: Linear
  let down: Linear
  let heads: HeadLayout
  let epsilon: Float

  init(_ scope: CheckpointScope, _ configuration: TextConfiguration) throws(CheckpointError) {
    let (size, inner) = (configuration.hiddenSize, configuration.intermediateSize)
    heads = configuration.heads
    epsilon = configuration.rmsNormEpsilon
    attentionNorm = try scope.scope("input_layernorm").vector("weight", count: size)
    let projections = scope.scope("self_attn")
    let bias = configuration.attentionBias
    queries = try projections.linear("q_proj", inputs: size, outputs: heads.queryColumns, bias: bias != .none)
    keys = try projections.linear("k_proj", inputs: size, outputs: heads.keyValueColumns, bias: bias != .none)
    values = try projections.linear("v_proj", inputs: size, outputs: heads.keyValueColumns, bias: bias != .none)
    output = try projections.linear("o_proj", inputs: heads.queryColumns, outputs: size, bias: bias == .all)
    mlpNorm = try scope.scope("post_attention_layernorm").vector("weight", count: size)
    let mlp = scope.scope("mlp")
    gate = try mlp.linear("gate_proj", inputs: size, outputs: inner)
    up = try mlp.linear("up_proj", inputs: size, outputs: inner)
    down = try mlp.linear("down_proj", inputs: inner, outputs: size)
  }

  var linears: [Linear] { [queries, keys, values, output, gate, up, down] }

  /// Norms `state.hidden` and makes its keys, not yet rotated: all that ranking needs of the layer.
  func projectKeys(_ state: inout DecoderState, on compute: ComputeContext) {
    compute.rmsNorm(&state.normalized, state.hidden, weight: attentionNorm, epsilon: epsilon)
    compute.matmul(&state.keys, state.normalized, by: keys, .keys)
  }

  /// Makes the values of all normed rows, for a ranking that weighs them.
  func projectValues(_ state: inout DecoderState, on compute: ComputeContext) {
    compute.matmul(&state.values, state.normalized, by: values, .values)
  }

  /// Makes what `projectKeys` and `projectValues` have left.
  func projectQueries(_ state: inout DecoderState, on compute: ComputeContext) {
    compute.matmul(&state.queries, state.normalized, by: queries, .queries)
  }

  /// Makes what `projectKeys` has left, for the rows that are still there.
  func projectQueriesAndValues(_ state: inout DecoderState, on compute: ComputeContext) {
    compute.matmul(&state.queries, &state.values, state.normalized, by: queries, values, (.queries, .values))
  }

  /// Norms `state.hidden` and makes its queries, keys and values, none yet rotated.
  func project(_ state: inout DecoderState, on compute: ComputeContext) {
    compute.rmsNorm(&state.normalized, state.hidden, weight: attentionNorm, epsilon: epsilon)
    compute.matmul(
      &state.queries, &state.keys, &state.values, state.normalized, by: queries, keys, values,
      (.queries, .keys, .values))
  }

  /// Attention and feed-forward for the projected rows of one sequence, which join its cache at `state.positions`.
  func finish(_ state: inout DecoderState, _ cache: LayerCache, on compute: ComputeContext) {
    rotate(&state, on: compute)
    cache.append(
      keys: state.keys, values: state.values, rows: 0..<state.keys.rows, lastPosition: state.positions.last ?? -1)
    compute.causalAttention(
      &state.attentionOutput, queries: state.queries, keys: cache.keys, values: cache.values, heads: heads,
      with: attention)
    feedForward(&state, on: compute)
  }

  /// Attention and feed-forward for one projected row of each of several sequences, which join their caches.
  func finish(_ state: inout DecoderState, _ caches: [KVCache], layer: Int, on compute: ComputeContext) {
    rotate(&state, on: compute)
    for (row, cache) in caches.enumerated() {
      cache.layers[layer].append(
        keys: state.keys, values: state.values, rows: row..<row + 1, lastPosition: state.positions[row])
    }
    compute.cachedAttention(&state.attentionOutput, queries: state.queries, heads: heads, with: attention) {
      caches[$0].layers[layer]
    }
    feedForward(&state, on: compute)
  }

  private var attention: InstructionSet { .attention(for: queries.computeType) }

  private func rotate(_ state: inout DecoderState, on compute: ComputeContext) {
    compute.rotate(&state.queries, to: state.positions, &state.rotary)
    compute.rotate(&state.keys, to: state.positions, &state.rotary)
  }

  /// The layer after attention.
  private func feedForward(_ state: inout DecoderState, on compute: ComputeContext) {
    compute.matmulAdd(to: &state.hidden, state.attentionOutput, by: output, .attentionOutput)
    compute.rmsNorm(&state.normalized, state.hidden, weight: mlpNorm, epsilon: epsilon)
    compute.matmul(&state.gate, &state.up, state.normalized, by: gate, up, (.mlpGate, .mlpUp))
    compute.gatedSiLU(&state.gate, state.up)
    compute.matmulAdd(to: &state.hidden, state.gate, by: down, .mlpDown)
  }
}

/// The working memory of the decoder: rows on their way through the layers.
///
/// One owner at a time; requests that follow each other share it, so that they touch no new memory.
package struct DecoderState: ~Copyable {
  /// The residual stream, `[T, D]`.
  package var hidden: Matrix
  /// If set, the last row of `hidden` before the first layer and after each layer is kept in `lastRows`.
  package var recordsLastRows = false
  package var lastRows: [[Float]] = []

  var normalized: Matrix
  /// Queries of the layer that ran last, rotated.
  var queries: Matrix
  var keys: Matrix
  var values: Matrix
  var attentionOutput: Matrix
  var gate: Matrix
  var up: Matrix
  var rotary: RotaryTable
  /// The position of each row in the layer at work.
  private(set) var positions: [Int] = []

  package init(_ configuration: TextConfiguration) {
    func matrix(_ columns: Int) -> Matrix { Matrix(rows: 0, columns: columns) }
    let heads = configuration.heads
    hidden = matrix(configuration.hiddenSize)
    normalized = matrix(configuration.hiddenSize)
    queries = matrix(heads.queryColumns)
    keys = matrix(heads.keyValueColumns)
    values = matrix(heads.keyValueColumns)
    attentionOutput = matrix(heads.queryColumns)
    gate = matrix(configuration.intermediateSize)
    up = matrix(configuration.intermediateSize)
    rotary = RotaryTable(
      headDimension: heads.headDimension, theta: configuration.ropeTheta, scaling: configuration.ropeScaling)
  }

  /// Sets `positions` for rows that go on where a layer's cache ends.
  mutating func place(_ rows: some Sequence<Int>, after cache: LayerCache) {
    positions.removeAll(keepingCapacity: true)
    for row in rows { positions.append(cache.nextPosition + row) }
  }

  /// Sets `positions` for rows that each go on where the cache of its own sequence ends.
  mutating func place(after caches: [KVCache], layer: Int) {
    positions.removeAll(keepingCapacity: true)
    for cache in caches { positions.append(cache.layers[layer].nextPosition) }
  }

  mutating func recordLastRow() {
    guard recordsLastRows, hidden.rows > 0 else { return }
    lastRows.append(hidden.rowValues(hidden.rows - 1))
  }
}
