internal import Kernels
internal import TokenDropping

/// Scores the visual tokens of a sequence; higher scores stay.
struct VisualTokenRanker {
  let layers: [DecoderLayer]

  /// One score per row of the sequence for a drop in front of layer `index`; its rows have been projected if the drop scores
  /// with that layer.
  func scores(
    for drop: DropPlan.Drop, before index: Int, _ state: inout DecoderState, _ cache: KVCache,
    _ layout: SequenceLayout, on compute: Compute
  ) -> [Float] {
    switch drop.ranking {
    case .attention where drop.scoresWithNextLayer:
      return attentionOfNextLayer(layers[index], &state, layout.positions, on: compute)
    case .attention:
      // The layer that ran last: its rotated queries are still in the state, its rotated keys in the cache.
      precondition(drop.scoringLayer == index - 1, "cannot score in layer \(drop.scoringLayer) before layer \(index)")
      return compute.lastRowAttention(
        queries: state.queries, keys: cache.layers[index - 1].keys, heads: layers[index - 1].heads)
    case .random(let seed):
      var generator = SplitMix64(seed: seed &+ UInt64(index) &* 0x9E37_79B9_7F4A_7C15)
      return (0..<layout.rowCount).map { _ in Float(generator.next() >> 40) }
    case .uniform:
      return evenlySpaced(drop, layout)
    }
  }

  /// What the last row would attend to in the next layer, at the positions before the drop.
  ///
  /// The layer's own keys, made for all rows already, are rotated in a copy; of the queries only the last row is made.
  private func attentionOfNextLayer(
    _ layer: DecoderLayer, _ state: inout DecoderState, _ positions: [Int], on compute: Compute
  ) -> [Float] {
    let rows = state.normed.rows
    var lastRow = Matrix(rows: 0, columns: state.normed.columns)
    lastRow.assign(state.normed, rows: rows - 1..<rows)
    compute.multiply(&state.queries, lastRow, by: layer.queries, .queries)
    compute.rotate(&state.queries, to: [positions[rows - 1]], &state.rotary)
    // `values` is free until the layer goes on.
    state.values.assign(state.keys, rows: 0..<rows)
    compute.rotate(&state.values, to: positions, &state.rotary)
    return compute.lastRowAttention(queries: state.queries, keys: state.values, heads: layer.heads)
  }

  /// 1 for every token that an even spacing of each picture's tokens meets, 0 for the others.
  private func evenlySpaced(_ drop: DropPlan.Drop, _ layout: SequenceLayout) -> [Float] {
    var scores = [Float](repeating: 0, count: layout.rowCount)
    for (block, keepCount) in zip(layout.visualBlocks, drop.keepCounts) {
      for i in 0..<keepCount { scores[block.start + (2 * i + 1) * block.tokens.count / (2 * keepCount)] = 1 }
    }
    return scores
  }
}
