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
}

extension LanguageModel {
  /// Whether the rows of a prompt get the same bits in two parts as in one: sums of whole numbers are exact, and rows of brain
  /// floats were found not to depend on their number; those of OpenBLAS do.
  package var splitsPrompts: Bool { layers.allSatisfy { $0.queries.arithmetic != .f32 } }

  /// Whether products on this machine give rows the same bits in two parts as in one, found by doing both.
  ///
  /// What `splitsPrompts` says of brain floats holds for the libraries that it was found with, and is promised by none.
  ///
  /// - Parameters:
  ///   - rows: Of the whole.
  ///   - first: Of the first part.
  package func splitsProducts(rows: Int, first: Int, on compute: Compute) -> Bool {
    guard splitsPrompts, let layer = layers.first else { return false }
    return [layer.queries, layer.gate, layer.down].allSatisfy { linear in
      linear.arithmetic == .int8 || splitsProduct(linear, rows: rows, first: first, on: compute)
    }
  }

  private func splitsProduct(_ linear: Linear, rows: Int, first: Int, on compute: Compute) -> Bool {
    var generator = SplitMix64(seed: 1)
    let values = (0..<rows * linear.inputSize).map { _ in Float(generator.next() >> 40) * 0x1p-23 - 1 }
    let input = Matrix(values, columns: linear.inputSize)
    func product(_ range: Range<Int>, isPart: Bool) -> [UInt32] {
      var part = Matrix(rows: 0, columns: linear.inputSize)
      var result = Matrix(rows: 0, columns: linear.outputSize)
      part.assign(input, rows: range)
      compute.isPartOfMany = isPart
      compute.multiply(&result, part, by: linear, .queries)
      compute.isPartOfMany = false
      return result.values.map(\.bitPattern)
    }
    return product(0..<rows, isPart: false)
      == product(0..<first, isPart: false) + product(first..<rows, isPart: true)
  }
}
