package import Kernels

/// What the first rows of a prompt have become in front of the first drop, for all prompts that begin with them.
package final class PromptPrefix {
  /// The rows behind the layers in front of the first drop, `[P, D]`; none when nothing drops.
  let hidden: Matrix
  package let rowCount: Int
  /// The keys and values of these rows in these layers.
  package let cache: KVCache

  init(rowCount: Int, hidden: consuming Matrix, cache: KVCache) {
    self.rowCount = rowCount
    self.hidden = hidden
    self.cache = cache
  }

  package var byteCount: Int { hidden.count * ElementType.f32.byteCount + cache.byteCount }
}

extension DropPlan {
  /// How many layers see all rows of a prompt.
  package func depth(layerCount: Int) -> Int { drops.first?.afterLayer ?? layerCount }
}

extension SequenceLayout {
  /// The rows up to and including the last picture's: what other questions about the same pictures begin with too.
  ///
  /// `nil` when these, or those behind them, are so few that they alone would be computed in another way than among the others.
  package var prefixRowCount: Int? {
    guard let end = visualBlocks.last?.rows.upperBound, end > Compute.fewRows, rowCount - end >= Compute.fewQueries
    else { return nil }
    return end
  }
}

extension LanguageModel {
  /// Runs the first rows of a prompt, in `state.hidden`, through the first `depth` layers.
  ///
  /// - Parameters:
  ///   - cache: Is empty; becomes the prefix's.
  ///   - depth: Layers in front of the first drop.
  package func prefix(
    _ state: inout DecoderState, _ cache: KVCache, depth: Int, room: Int, on compute: Compute
  ) -> PromptPrefix {
    compute.during(.prefill) {
      compute.ledger.stage = 0
      let recordsLastRows = state.recordsLastRows
      state.recordsLastRows = false
      let rows = state.hidden.rows
      for index in 0..<depth { run(index, &state, cache, 0..<rows, room: room, on: compute) }
      state.recordsLastRows = recordsLastRows
      var hidden = Matrix(rows: 0, columns: state.hidden.columns)
      // Behind the last layer nobody looks at them.
      if depth < layers.count { hidden.assign(state.hidden, rows: 0..<rows) }
      return PromptPrefix(rowCount: rows, hidden: hidden, cache: cache)
    }
  }

  /// Runs a prompt's rows in `state.hidden` through all layers, dropping visual tokens as planned.
  ///
  /// With a prefix these are the rows behind it, which it joins at the first drop.
  ///
  /// - Parameters:
  ///   - cache: Empty, or a copy of the prefix's; receives keys and values.
  ///   - layout: Describes all rows, those of the prefix included; shrinks with them.
  ///   - room: Rows to come later, for which the cache makes room at once.
  /// - Returns: What each drop did.
  package func prefill(
    _ state: inout DecoderState, _ cache: KVCache, _ layout: inout SequenceLayout, _ plan: DropPlan,
    after prefix: PromptPrefix? = nil, room: Int = 0, on compute: Compute
  ) -> [DropRecord] {
    compute.during(.prefill) {
      compute.ledger.stage = 0
      state.recordLastRow()
      let (depth, rows) = (plan.depth(layerCount: layers.count), state.hidden.rows)
      compute.isPartOfMany = prefix != nil
      for index in 0..<depth { run(index, &state, cache, 0..<rows, room: room, on: compute) }
      compute.isPartOfMany = false
      if let prefix, depth < layers.count { state.hidden.prepend(prefix.hidden) }
      var records: [DropRecord] = []
      for index in depth..<layers.count {
        compute.ledger.layer = index
        let drop = plan.drops.first { $0.afterLayer == index }
        if let drop { records.append(dropAndProject(drop, &state, cache, &layout, on: compute)) }
        run(index, &state, cache, layout.positions, isProjected: drop != nil, room: room, on: compute)
      }
      return records
    }
  }

  /// Runs one layer; the rows in `state.hidden` stand `rows` behind the end of its cache.
  private func run(
    _ index: Int, _ state: inout DecoderState, _ cache: KVCache, _ rows: some Collection<Int>,
    isProjected: Bool = false, room: Int, on compute: Compute
  ) {
    compute.ledger.layer = index
    let cache = cache.layers[index]
    if !isProjected { layers[index].project(&state, on: compute) }
    cache.reserve(rows: cache.length + rows.count + room)
    state.place(rows, after: cache)
    layers[index].finish(&state, cache, on: compute)
    state.recordLastRow()
  }

  /// Drops visual tokens in front of a layer, and makes that layer's queries, keys and values of the others.
  ///
  /// Only a ranking by the layer's own keys needs them before the drop.
  private func dropAndProject(
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
    layer.makeQueriesAndValues(&state, on: compute)
    return record
  }

  /// Scores all rows, keeps the best visual ones of each picture in their order, and lets the others go.
  private func rankAndDrop(
    _ drop: DropPlan.Drop, _ state: inout DecoderState, _ cache: KVCache, _ layout: inout SequenceLayout,
    on compute: Compute
  ) -> DropRecord {
    compute.during(.rank) {
      let ranker = VisualTokenRanker(layers: layers)
      let scores = ranker.scores(for: drop, before: drop.afterLayer, &state, cache, layout, on: compute)
      let (blocks, rowsBefore) = (layout.visualBlocks, layout.rowCount)
      let blockScores = blocks.map { Array(scores[$0.rows]) }
      let kept = zip(blockScores, drop.keepCounts).map { topIndices($0, count: $1) }
      let rows = layout.keep(kept, positions: drop.positions)
      state.hidden.keepRows(rows)
      if drop.scoresWithNextLayer {
        state.normed.keepRows(rows)
        state.keys.keepRows(rows)
        // Keys were made for all rows; those of the dropped ones served the ranking alone.
        let keys = layers[drop.afterLayer].keys
        let extra = (rowsBefore - layout.rowCount) * keys.inputSize * keys.outputSize
        compute.ledger.move(.keys, extra, from: .prefill, to: .rank)
      }
      compute.ledger.stage += 1
      return DropRecord(
        layer: drop.afterLayer, scoringLayer: drop.scoringLayer, tokensBefore: rowsBefore,
        tokensAfter: layout.rowCount,
        pictures: blocks.indices.map { i in
          DropRecord.Picture(
            start: blocks[i].start, count: blocks[i].tokens.count, kept: layout.visualBlocks[i].tokens,
            scores: blockScores[i])
        })
    }
  }
}
