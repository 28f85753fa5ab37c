import BasicContainers
import Kernels
import TokenDropping

/// Scores of the visual tokens of a sequence; the highest are kept.
///
/// `Ranking` defines the scores. `S` is the number of rows that are scored.
struct VisualTokenRanker {
  let layers: [DecoderLayer]

  /// Scores of each image's remaining tokens, for a drop before layer `drop.afterLayer`.
  ///
  /// If the drop scores with that layer, its keys of all rows are in `state.keys`, before RoPE, `[S, kvHeads · d]`.
  /// Otherwise the layer before it scores, which ran last.
  func scores(
    for drop: DropPlan.Drop, _ state: inout DecoderState, _ cache: KVCache, _ layout: SequenceLayout,
    on compute: ComputeContext
  ) -> [[Float]] {
    precondition(
      !drop.ranking.needsScoringLayer || drop.scoresWithNextLayer || drop.scoringLayer == drop.afterLayer - 1,
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
        compute.logResiduals($0, over: $1.tokens)
      }
    case .valueWeighted:
      // Before the norms, as the probabilities use `state.values` for the rotated keys.
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

  /// Attention probabilities of the last row in the scoring layer, `[H, S]`.
  private func probabilities(
    _ drop: DropPlan.Drop, _ state: inout DecoderState, _ cache: KVCache, _ positions: [Int], rotated: Bool,
    on compute: ComputeContext
  ) -> Matrix {
    let layer = layers[drop.scoringLayer]
    guard drop.scoresWithNextLayer else {
      return probabilitiesOfLastLayer(
        &state, cache.layers[drop.scoringLayer], layer.heads, positions, rotated: rotated, on: compute)
    }
    // The layer's own keys are used, rotated in a copy; only the last row of the queries is projected.
    let rows = state.normalized.rows
    var lastRow = Matrix(rows: 0, columns: state.normalized.columns)
    lastRow.assign(state.normalized, rows: rows - 1..<rows)
    compute.matmul(&state.queries, lastRow, by: layer.queries, .queries)
    guard rotated else {
      return compute.lastRowProbabilities(queries: state.queries, keys: state.keys, heads: layer.heads)
    }
    compute.rotate(&state.queries, to: [positions[rows - 1]], &state.rotary)
    // `values` is unused until the layer projects its values.
    state.values.assign(state.keys, rows: 0..<rows)
    compute.rotate(&state.values, to: positions, &state.rotary)
    return compute.lastRowProbabilities(queries: state.queries, keys: state.values, heads: layer.heads)
  }

  /// Attention probabilities of the last row in the layer that ran last, `[H, S]`.
  ///
  /// Its rotated queries are still in the state, `[S, H · d]`, its rotated keys in the cache, `[S, kvHeads · d]`.
  private func probabilitiesOfLastLayer(
    _ state: inout DecoderState, _ cache: borrowing LayerCache, _ heads: HeadLayout, _ positions: [Int], rotated: Bool,
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

  /// Norms of all values in the scoring layer, `[kvHeads, S]`.
  ///
  /// If that is the layer after the drop, its values remain in the state.
  private func valueNorms(
    _ drop: DropPlan.Drop, _ state: inout DecoderState, _ cache: KVCache, on compute: ComputeContext
  ) -> Matrix {
    let layer = layers[drop.scoringLayer]
    guard drop.projectsNextValues else {
      return compute.headNorms(cache.layers[drop.scoringLayer].values.widened(), heads: layer.heads)
    }
    layer.projectValues(&state, on: compute)
    return compute.headNorms(state.values, heads: layer.heads)
  }

  /// Scores of an image's tokens: 1 for `keepCount` evenly spaced tokens, 0 for the others.
  ///
  /// - Parameter droppedFirst: Indices of tokens that are left out of the spacing.
  private func evenlySpaced(_ keepCount: Int, _ block: SequenceLayout.VisualBlock, _ droppedFirst: [Int]) -> [Float] {
    var scores = [Float](repeating: 0, count: block.tokens.count)
    let skipped = Set(droppedFirst)
    let tokens = scores.indices.filter { !skipped.contains($0) }
    let count = min(keepCount, tokens.count)
    for i in 0..<count { scores[tokens[(2 * i + 1) * tokens.count / (2 * count)]] = 1 }
    return scores
  }
}
