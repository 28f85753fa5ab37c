import BasicContainers
package import Kernels
package import ModelFormats

/// One block of the decoder, `x += attention(norm(x))`, then `x += mlp(norm(x))`.
///
/// Before a drop that scores with this layer's keys, `projectKeys` runs first, for all rows. Ranking needs only these
/// keys, before RoPE, and the layer reuses those of the kept rows, so scoring is almost free.
struct DecoderLayer: Sendable {
  /// `[D]`.
  let attentionNorm: [Float]
  /// `[H · d, D]`.
  let queries: Linear
  /// `[kvHeads · d, D]`.
  let keys: Linear
  /// `[kvHeads · d, D]`.
  let values: Linear
  /// `[D, H · d]`.
  let output: Linear
  /// `[D]`.
  let mlpNorm: [Float]
  /// `[F, D]`.
  let gate: Linear
  /// `[F, D]`.
  let up: Linear
  /// `[D, F]`.
  let down: Linear
  let heads: HeadLayout
  let epsilon: Float
  /// The type of attention scores, unless the layer is computed in f32.
  let scores: ScoreType

  init(
    _ scope: CheckpointScope, _ configuration: TextConfiguration, scores: ScoreType
  ) throws(CheckpointError) {
    self.scores = scores
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

  // MARK: - Block

  /// Updates the rows of `state.hidden`, whose keys and values join the cache.
  ///
  /// - Parameters:
  ///   - sequences: The caches of the rows; `state.positions` has the position of each row.
  ///   - isProjected: Whether queries, keys and values of the rows are in the state already.
  ///   - forcesLargeKernels: As in `ComputeContext.matmul`.
  func callAsFunction(
    _ state: inout DecoderState, _ sequences: RowSequences, isProjected: Bool = false, forcesLargeKernels: Bool = false,
    on compute: ComputeContext
  ) {
    if !isProjected { projectQKV(&state, forcesLargeKernels, on: compute) }
    attend(&state, sequences, on: compute)
    compute.matmulAdd(
      to: &state.hidden, state.attentionOutput, by: output, .attentionOutput, forcesLargeKernels: forcesLargeKernels)
    mlp(&state, forcesLargeKernels, on: compute)
  }

  /// Queries, keys and values of the normalized rows, before RoPE.
  private func projectQKV(_ state: inout DecoderState, _ forcesLargeKernels: Bool, on compute: ComputeContext) {
    compute.rmsNorm(&state.normalized, state.hidden, weight: attentionNorm, epsilon: epsilon)
    compute.matmul(
      &state.queries, &state.keys, &state.values, state.normalized, by: queries, keys, values,
      (.queries, .keys, .values), forcesLargeKernels: forcesLargeKernels)
  }

  /// `state.attentionOutput` of the projected rows, over the cache of their sequence and the rows themselves.
  private func attend(_ state: inout DecoderState, _ sequences: RowSequences, on compute: ComputeContext) {
    compute.rotate(&state.queries, to: state.positions, &state.rotary)
    compute.rotate(&state.keys, to: state.positions, &state.rotary)
    let kernel = AttentionKernel(for: queries.computeType, scores: scores)
    switch sequences {
    case .one(let cache, let layer):
      cache.append(
        layer: layer, keys: state.keys, values: state.values, rows: 0..<state.keys.rows,
        lastPosition: state.positions.last ?? -1, workers: compute.workers)
      compute.causalAttention(
        &state.attentionOutput, queries: state.queries, keys: cache.layers[layer].keys,
        values: cache.layers[layer].values, heads: heads, with: kernel)
    case .each(let caches, let layer):
      for (row, cache) in caches.enumerated() {
        cache.append(
          layer: layer, keys: state.keys, values: state.values, rows: row..<row + 1,
          lastPosition: state.positions[row], workers: compute.workers)
      }
      let positions = state.positions
      compute.cachedAttention(&state.attentionOutput, queries: state.queries, heads: heads, with: kernel) {
        caches[$0].layers[layer].stored(through: positions[$0])
      }
    }
  }

  /// Adds the MLP of the rows to `state.hidden`. Many rows are computed in parts, as its matrices are the widest.
  private func mlp(_ state: inout DecoderState, _ forcesLargeKernels: Bool, on compute: ComputeContext) {
    let rows = state.hidden.rows
    guard rows > DecoderState.mlpRowLimit else {
      compute.rmsNorm(&state.normalized, state.hidden, weight: mlpNorm, epsilon: epsilon)
      gatedMLP(&state, forcesLargeKernels, on: compute)
      compute.matmulAdd(to: &state.hidden, state.gate, by: down, .mlpDown, forcesLargeKernels: forcesLargeKernels)
      return
    }
    for part in DecoderState.mlpParts(of: rows) {
      state.part.assign(state.hidden, rows: part)
      compute.rmsNorm(&state.normalized, state.part, weight: mlpNorm, epsilon: epsilon)
      gatedMLP(&state, true, on: compute)
      compute.matmulAdd(to: &state.part, state.gate, by: down, .mlpDown, forcesLargeKernels: true)
      state.hidden.replaceRows(from: part.lowerBound, with: state.part)
    }
  }

  /// `state.gate` of the normalized rows, the input of the MLP's down projection: `silu(gate(x)) · up(x)`.
  private func gatedMLP(_ state: inout DecoderState, _ forcesLargeKernels: Bool, on compute: ComputeContext) {
    compute.matmul(
      &state.gate, &state.up, state.normalized, by: gate, up, (.mlpGate, .mlpUp),
      forcesLargeKernels: forcesLargeKernels)
    compute.gatedSiLU(&state.gate, state.up)
  }

  // MARK: - Projections around a drop

  /// The keys of the normalized rows, before RoPE: all that ranking needs of the layer.
  func projectKeys(_ state: inout DecoderState, on compute: ComputeContext) {
    compute.rmsNorm(&state.normalized, state.hidden, weight: attentionNorm, epsilon: epsilon)
    compute.matmul(&state.keys, state.normalized, by: keys, .keys)
  }

  /// The values of the normalized rows, for a ranking that weights by them.
  func projectValues(_ state: inout DecoderState, on compute: ComputeContext) {
    compute.matmul(&state.values, state.normalized, by: values, .values)
  }

  /// The projections that the ranking has not computed, for the kept rows.
  func projectRest(_ state: inout DecoderState, hasValues: Bool, on compute: ComputeContext) {
    if hasValues {
      compute.matmul(&state.queries, state.normalized, by: queries, .queries)
    } else {
      compute.matmul(&state.queries, &state.values, state.normalized, by: queries, values, (.queries, .values))
    }
  }
}

/// The sequences that the rows of the decoder's state belong to.
enum RowSequences {
  /// Prefill: all rows follow each other in one sequence.
  case one(KVCache, layer: Int)
  /// Decode: row `i` is the next one of the sequence of cache `i`. Rows with the same cache follow each other in it.
  case each([KVCache], layer: Int)
}

/// The working memory of the decoder: the rows in a layer, `T` of them.
///
/// One owner at a time; requests that follow each other share it, so that they touch no new memory.
package struct DecoderState: ~Copyable {
  /// The residual stream, `[T, D]`.
  package var hidden: Matrix
  /// If set, the last row of `hidden` before the first layer and after each layer is kept in `lastRows`.
  package var recordsLastRows = false
  /// The recorded rows, `[layers + 1, D]`.
  package var lastRows: [[Float]] = []

  /// Input of the projections, `[T, D]`.
  var normalized: Matrix
  /// Queries of the layer that ran last, after RoPE, `[T, H · d]`.
  var queries: Matrix
  /// Keys of the layer, `[T, kvHeads · d]`.
  var keys: Matrix
  /// Values of the layer, `[T, kvHeads · d]`.
  var values: Matrix
  /// Before the output projection, `[T, H · d]`.
  var attentionOutput: Matrix
  /// Gate projection, then the input of the down projection, `[T, F]`.
  var gate: Matrix
  /// Up projection, `[T, F]`.
  var up: Matrix
  /// Rows of the MLP, if it is computed in parts, `[mlpRowLimit, D]` at most.
  var part: Matrix
  /// Cosines and sines of RoPE.
  var rotary: RotaryTable
  /// The position of each row in the layer at work, `[T]`.
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
    part = matrix(configuration.hiddenSize)
    rotary = RotaryTable(
      headDimension: heads.headDimension, theta: configuration.ropeTheta, scaling: configuration.ropeScaling)
  }

  /// The largest number of rows of the MLP's matrices.
  package static let mlpRowLimit = 2048

  /// Parts of nearly equal size, within the limit.
  static func mlpParts(of rows: Int) -> [Range<Int>] {
    let count = (rows + mlpRowLimit - 1) / mlpRowLimit
    return (0..<count).map { rows * $0 / count..<rows * ($0 + 1) / count }
  }

  /// Sets `positions` of rows that follow the end of a layer's cache.
  mutating func place(_ rows: some Sequence<Int>, after cache: borrowing LayerCache) {
    positions.removeAll(keepingCapacity: true)
    let next = cache.nextPosition
    for row in rows { positions.append(next + row) }
  }

  /// Sets `positions` of rows that each follow the end of the cache of their own sequence, or the row before with the
  /// same cache.
  mutating func place(after caches: [KVCache], layer: Int) {
    positions.removeAll(keepingCapacity: true)
    for (row, cache) in caches.enumerated() {
      let follows = row > 0 && caches[row - 1] === cache
      positions.append(follows ? positions[row - 1] + 1 : cache.layers[layer].nextPosition)
    }
  }

  /// Keeps the last row of `hidden` if `recordsLastRows` is set.
  mutating func recordLastRow() {
    guard recordsLastRows, hidden.rows > 0 else { return }
    lastRows.append(hidden.rowValues(hidden.rows - 1))
  }
}
