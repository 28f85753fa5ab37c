internal import Kernels
internal import TokenDropping

extension LanguageModel {
  /// Drops visual tokens in front of a layer, and makes that layer's queries, keys and values of the others.
  ///
  /// Only a ranking by the layer's own keys needs them before the drop; one that weighs values makes these too.
  func dropAndProject(
    _ drop: DropPlan.Drop, _ state: inout DecoderState, _ cache: KVCache, _ layout: inout SequenceLayout,
    on compute: Compute
  ) -> DropRecord {
    let layer = layers[drop.afterLayer]
    guard drop.scoresWithNextLayer else {
      let record = rankAndDrop(drop, &state, cache, &layout, on: compute)
      layer.project(&state, on: compute)
      return record
    }
    layer.makeKeys(&state, on: compute)
    let record = rankAndDrop(drop, &state, cache, &layout, on: compute)
    if drop.makesNextValues {
      layer.makeQueries(&state, on: compute)
    } else {
      layer.makeQueriesAndValues(&state, on: compute)
    }
    return record
  }

  /// Scores all rows, keeps the best visual ones of each picture in their order, and lets the others go.
  private func rankAndDrop(
    _ drop: DropPlan.Drop, _ state: inout DecoderState, _ cache: KVCache, _ layout: inout SequenceLayout,
    on compute: Compute
  ) -> DropRecord {
    compute.during(.rank) {
      let ranker = VisualTokenRanker(layers: layers)
      let scores = ranker.scores(for: drop, &state, cache, layout, on: compute)
      let (blocks, rowsBefore) = (layout.visualBlocks, layout.rowCount)
      let kept = blocks.indices.map { i in
        topIndices(scores[i], count: drop.keepCounts[i], last: drop.firstToLeave(of: blocks[i], i))
      }
      let rows = layout.keep(kept, positions: drop.positions)
      state.hidden.keepRows(rows)
      if drop.scoresWithNextLayer { keep(rows, of: rowsBefore, drop, &state, on: compute) }
      compute.ledger.stage += 1
      return DropRecord(
        layer: drop.afterLayer, scoringLayer: drop.scoringLayer, tokensBefore: rowsBefore,
        tokensAfter: layout.rowCount,
        pictures: blocks.indices.map { i in
          DropRecord.Picture(
            start: blocks[i].start, count: blocks[i].tokens.count, kept: layout.visualBlocks[i].tokens,
            scores: scores[i])
        })
    }
  }

  /// Keeps some rows of what the layer behind the drop has made for all; what it made for the others served the ranking alone.
  private func keep(
    _ rows: [Int], of rowsBefore: Int, _ drop: DropPlan.Drop, _ state: inout DecoderState, on compute: Compute
  ) {
    let (keys, values) = (layers[drop.afterLayer].keys, layers[drop.afterLayer].values)
    state.normed.keepRows(rows)
    state.keys.keepRows(rows)
    let dropped = rowsBefore - rows.count
    compute.ledger.move(.keys, dropped * keys.inputSize * keys.outputSize, from: .prefill, to: .rank)
    if drop.makesNextValues {
      state.values.keepRows(rows)
      compute.ledger.move(.values, rows.count * values.inputSize * values.outputSize, from: .rank, to: .prefill)
    }
  }
}

extension DropPlan.Drop {
  /// Whether the layer behind the drop makes its values of all rows, to rank by them.
  var makesNextValues: Bool { scoresWithNextLayer && ranking == .valueWeighted }

  /// Which of a picture's tokens that are still there leave before the others, 0 the first of them.
  func firstToLeave(of block: SequenceLayout.VisualBlock, _ picture: Int) -> [Int] {
    guard !firstToLeave.isEmpty else { return [] }
    let leaving = Set(firstToLeave[picture])
    return block.tokens.indices.filter { leaving.contains(block.tokens[$0]) }
  }
}
