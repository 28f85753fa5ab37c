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
    func byRow(_ scores: [Float]) -> [[Float]] { blocks.map { $0.rows.map { scores[$0] } } }
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
    case .textRaters:
      let raters = textRaters(state.hidden, layout, on: compute)
      return byRow(raterAttention(raters, drop, &state, cache, layout.positions, on: compute))
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

  /// The rows of the text tokens after the last image whose relevance to the visual tokens is above the mean.
  private func textRaters(
    _ hidden: borrowing Matrix, _ layout: SequenceLayout, on compute: ComputeContext
  ) -> [Int] {
    let lastRow = layout.rowCount - 1
    let visualRows = layout.visualBlocks.flatMap(\.rows)
    let textRows = (layout.visualBlocks.last?.end ?? 0)..<layout.rowCount
    guard !visualRows.isEmpty, !textRows.isEmpty else { return [lastRow] }
    var visual = Matrix(rows: 0, columns: hidden.columns)
    var text = Matrix(rows: 0, columns: hidden.columns)
    visual.assign(hidden, rows: 0..<hidden.rows)
    visual.keepRows(visualRows)
    text.assign(hidden, rows: textRows)
    var products = Matrix(rows: 0, columns: textRows.count)
    compute.matmul(
      &products, visual, by: Linear(weight: Tensor(text.values, shape: [textRows.count, text.columns])), .ranking)
    for row in 0..<products.rows {
      var values = products.mutableSpan
      var row = values.row(row, columns: textRows.count)
      softmax(&row)
    }
    let relevance = columnMeans(products)
    let mean = relevance.reduce(0, +) / Float(relevance.count)
    let raters = relevance.indices.filter { relevance[$0] > mean }.map { textRows.lowerBound + $0 }
    return raters.isEmpty ? [lastRow] : raters
  }

  /// The attention of rows to all rows in the scoring layer, as a mean over heads and rows, `[S]`.
  private func raterAttention(
    _ raters: [Int], _ drop: DropPlan.Drop, _ state: inout DecoderState, _ cache: KVCache, _ positions: [Int],
    on compute: ComputeContext
  ) -> [Float] {
    let layer = layers[drop.scoringLayer]
    var means = [Float](repeating: 0, count: positions.count)
    func add(_ queries: borrowing Matrix, row: Int, rater: Int, _ keys: borrowing Matrix) {
      let probabilities = compute.lastRowProbabilities(
        queries: queries, row: row, keys: keys, visibleKeys: rater + 1, heads: layer.heads)
      for (i, value) in columnMeans(probabilities).enumerated() { means[i] += value / Float(raters.count) }
    }
    guard drop.scoresWithNextLayer else {
      // Its rotated queries are still in the state. With a prompt prefix they are those of the rows after it.
      let keys = cache.layers[drop.scoringLayer].keys.widened()
      let first = positions.count - state.queries.rows
      for rater in raters { add(state.queries, row: rater - first, rater: rater, keys) }
      return means
    }
    var rows = Matrix(rows: 0, columns: state.normalized.columns)
    rows.assign(state.normalized, rows: 0..<state.normalized.rows)
    rows.keepRows(raters)
    compute.matmul(&state.queries, rows, by: layer.queries, .queries)
    compute.rotate(&state.queries, to: raters.map { positions[$0] }, &state.rotary)
    // `values` is unused until the layer projects its values.
    state.values.assign(state.keys, rows: 0..<state.keys.rows)
    compute.rotate(&state.values, to: positions, &state.rotary)
    for (row, rater) in raters.enumerated() { add(state.queries, row: row, rater: rater, state.values) }
    return means
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
