package import Kernels

/// What the first rows of a prompt have become in front of the first drop, for all prompts that begin with them.
package final class PromptPrefix {
  /// The rows behind the layers in front of the first drop, `[P, D]`.
  let hidden: Matrix
  /// The keys and values of these rows in these layers.
  package let cache: KVCache

  init(hidden: consuming Matrix, cache: KVCache) {
    self.hidden = hidden
    self.cache = cache
  }

  package var rowCount: Int { hidden.rows }

  package var byteCount: Int { hidden.count * ElementType.f32.byteCount + cache.byteCount }
}

extension DropPlan {
  /// How many layers see all rows of a prompt.
  package func depth(layerCount: Int) -> Int { drops.first?.afterLayer ?? layerCount }
}

extension SequenceLayout {
  /// The rows up to and including the last picture's: what other questions about the same pictures begin with too; 0 when
  /// nothing follows.
  package var prefixRowCount: Int {
    let end = visualBlocks.last?.rows.upperBound ?? 0
    return end < rowCount ? end : 0
  }
}

extension LanguageModel {
  /// Runs a prompt's rows in `state.hidden` through all layers, dropping visual tokens as planned.
  ///
  /// Rows up to the last picture and rows behind it pass the layers in front of the first drop one part after the other, so
  /// that a prompt is computed in the same steps, and to the same bits, whether its first part is new or known.
  ///
  /// - Parameters:
  ///   - cache: Is empty; receives keys and values.
  ///   - layout: Describes the rows; shrinks with them.
  ///   - room: Rows to come later, for which the cache makes room at once.
  /// - Returns: What each drop did.
  package func prefill(
    _ state: inout DecoderState, _ cache: KVCache, _ layout: inout SequenceLayout, _ plan: DropPlan, room: Int = 0,
    on compute: Compute
  ) -> [DropRecord] {
    let (prefixRows, rows) = (layout.prefixRowCount, layout.rowCount)
    guard prefixRows > 0 else { return prefill(&state, cache, &layout, plan, after: nil, room: room, on: compute) }
    var rest = Matrix(rows: 0, columns: state.hidden.columns)
    rest.assign(state.hidden, rows: prefixRows..<rows)
    state.hidden.resize(rows: prefixRows)
    let prefix = prefix(
      &state, cache, depth: plan.depth(layerCount: layers.count), room: rows - prefixRows + room, on: compute)
    state.hidden.assign(rest, rows: 0..<rest.rows)
    return prefill(&state, cache, &layout, plan, after: prefix, room: room, on: compute)
  }

  /// Runs the first rows of a prompt, in `state.hidden`, through the first `depth` layers.
  ///
  /// - Parameter cache: Is empty; becomes the prefix's.
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
      if depth < layers.count { hidden.assign(state.hidden, rows: 0..<rows) } else { hidden.resize(rows: rows) }
      return PromptPrefix(hidden: hidden, cache: cache)
    }
  }

  /// Runs the rows behind `prefix`, in `state.hidden`, through all layers, and from the first drop on those of the prefix too.
  ///
  /// - Parameters:
  ///   - cache: The prefix's, or a copy of it.
  ///   - layout: Describes all rows, those of the prefix included.
  package func prefill(
    _ state: inout DecoderState, _ cache: KVCache, _ layout: inout SequenceLayout, _ plan: DropPlan,
    after prefix: PromptPrefix?, room: Int = 0, on compute: Compute
  ) -> [DropRecord] {
    compute.during(.prefill) {
      compute.ledger.stage = 0
      state.recordLastRow()
      let (depth, rows) = (plan.depth(layerCount: layers.count), state.hidden.rows)
      for index in 0..<depth { run(index, &state, cache, 0..<rows, room: room, on: compute) }
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
