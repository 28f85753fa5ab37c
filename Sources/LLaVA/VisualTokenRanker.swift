import Kernels
import TokenDropping

/// Scores the visual tokens of a sequence; higher scores stay.
///
/// What the rankings are is said at `Ranking`.
struct VisualTokenRanker {
  let layers: [DecoderLayer]

  /// A score for each visual token of each image that is still there, for a drop before layer `drop.afterLayer`.
  ///
  /// That layer has made its keys of all rows, not yet rotated, if the drop scores with it; else the layer before it, which
  /// ran last, scores.
  func scores(
    for drop: DropPlan.Drop, _ state: inout DecoderState, _ cache: KVCache, _ layout: SequenceLayout,
    on compute: ComputeContext
  ) -> [[Float]] {
    precondition(
      !drop.ranking.readsLayer || drop.scoresWithNextLayer || drop.scoringLayer == drop.afterLayer - 1,
      "cannot score in layer \(drop.scoringLayer) before layer \(drop.afterLayer)")
    let blocks = layout.visualBlocks
    func byRow(_ scores: [Float]) -> [[Float]] { blocks.map { Array(scores[$0.rows]) } }
    func probabilities(rotated: Bool) -> Matrix {
      self.probabilities(drop, &state, cache, layout.positions, rotated: rotated, on: compute)
    }
    let heads = layers[drop.scoringLayer].heads
    switch drop.ranking {
    case .attention: return byRow(columnMeans(probabilities(rotated: true)))
    case .attentionWithoutRotation: return byRow(columnMeans(probabilities(rotated: false)))
    case .attentionDebiased:
      return zip(byRow(columnMeans(probabilities(rotated: true))), blocks).map {
        compute.logExcess($0, over: $1.tokens)
      }
    case .valueWeighted:
      // In this order, as rotated keys stand where the values will.
      let probabilities = probabilities(rotated: true)
      let norms = valueNorms(drop, &state, cache, on: compute)
      return byRow(compute.weightedMean(probabilities, by: norms, heads: heads))
    case .keyNorm:
      let norms =
        drop.scoresWithNextLayer
        ? compute.headNorms(state.keys, heads: heads)
        : compute.headNorms(cache.layers[drop.scoringLayer].keys.widened(), heads: heads)
      return byRow(columnMeans(norms).map { -$0 })
    case .random(let seed):
      var generator = SplitMix64(seed: seed &+ UInt64(drop.afterLayer) &* 0x9E37_79B9_7F4A_7C15)
      return byRow((0..<layout.rowCount).map { _ in Float(generator.next() >> 40) })
    case .uniform:
      return blocks.indices.map { evenlySpaced(drop.keepCounts[$0], blocks[$0], drop.droppedFirst(of: blocks[$0], $0)) }
    }
  }

  /// What the last row attends to in the scoring layer, `[heads, S]`.
  private func probabilities(
    _ drop: DropPlan.Drop, _ state: inout DecoderState, _ cache: KVCache, _ positions: [Int], rotated: Bool,
    on compute: ComputeContext
  ) -> Matrix {
    let layer = layers[drop.scoringLayer]
    guard drop.scoresWithNextLayer else {
      return probabilitiesOfLastLayer(
        &state, cache.layers[drop.scoringLayer], layer.heads, positions, rotated: rotated, on: compute)
    }
    // The layer's own keys serve, rotated in a copy; of the queries only the last row is made.
    let rows = state.normalized.rows
    var lastRow = Matrix(rows: 0, columns: state.normalized.columns)
    lastRow.assign(state.normalized, rows: rows - 1..<rows)
    compute.matmul(&state.queries, lastRow, by: layer.queries, .queries)
    guard rotated else {
      return compute.lastRowProbabilities(queries: state.queries, keys: state.keys, heads: layer.heads)
    }
    compute.rotate(&state.queries, to: [positions[rows - 1]], &state.rotary)
    // `values` is free until the layer goes on.
    state.values.assign(state.keys, rows: 0..<rows)
    compute.rotate(&state.values, to: positions, &state.rotary)
    return compute.lastRowProbabilities(queries: state.queries, keys: state.values, heads: layer.heads)
  }

  /// The same in the layer that ran last: its rotated queries are still in the state, its rotated keys in the cache.
  private func probabilitiesOfLastLayer(
    _ state: inout DecoderState, _ cache: LayerCache, _ heads: HeadLayout, _ positions: [Int], rotated: Bool,
    on compute: ComputeContext
  ) -> Matrix {
    var keys = cache.keys.widened()
    guard !rotated else { return compute.lastRowProbabilities(queries: state.queries, keys: keys, heads: heads) }
    var table = state.rotary.reversed
    var query = Matrix(rows: 0, columns: state.queries.columns)
    query.assign(state.queries, rows: state.queries.rows - 1..<state.queries.rows)
    compute.rotate(&query, to: [positions[positions.count - 1]], &table)
    compute.rotate(&keys, to: positions, &table)
    return compute.lastRowProbabilities(queries: query, keys: keys, heads: heads)
  }

  /// The norms of all values in the scoring layer, `[kvHeads, S]`; where that is the layer after the drop, its values are left
  /// in the state.
  private func valueNorms(
    _ drop: DropPlan.Drop, _ state: inout DecoderState, _ cache: KVCache, on compute: ComputeContext
  ) -> Matrix {
    let layer = layers[drop.scoringLayer]
    guard drop.makesNextValues else {
      return compute.headNorms(cache.layers[drop.scoringLayer].values.widened(), heads: layer.heads)
    }
    layer.projectValues(&state, on: compute)
    return compute.headNorms(state.values, heads: layer.heads)
  }

  /// 1 for every token that an even spacing of an image's tokens meets, 0 for the others.
  ///
  /// - Parameter leaving: Tokens that the spacing leaves out.
  private func evenlySpaced(_ keepCount: Int, _ block: SequenceLayout.VisualBlock, _ leaving: [Int]) -> [Float] {
    var scores = [Float](repeating: 0, count: block.tokens.count)
    let isLeaving = Set(leaving)
    let tokens = scores.indices.filter { !isLeaving.contains($0) }
    let count = min(keepCount, tokens.count)
    for i in 0..<count { scores[tokens[(2 * i + 1) * tokens.count / (2 * count)]] = 1 }
    return scores
  }
}
