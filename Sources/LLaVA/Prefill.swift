package import Kernels

/// What the first rows of a prompt have become before the first drop, for all prompts that begin with them.
package final class PrefixCacheEntry {
  /// The rows after the layers before the first drop, `[P, D]`; none when nothing drops.
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
  /// The rows up to and including the last image's: what other questions about the same images begin with too.
  ///
  /// `nil` when these, or those after them, are so few that they alone would be computed in another way than among the others.
  package var prefixRowCount: Int? {
    guard let end = visualBlocks.last?.rows.upperBound, end > ComputeContext.maxSmallRows,
      rowCount - end >= ComputeContext.minBlockedQueries
    else { return nil }
    return end
  }
}

extension LanguageModel {
  /// Runs the first rows of a prompt, in `state.hidden`, through the first `depth` layers.
  ///
  /// - Parameters:
  ///   - cache: Is empty; becomes the prefix's.
  ///   - depth: Layers before the first drop.
  package func prefix(
    _ state: inout DecoderState, _ cache: KVCache, depth: Int, reservedRows: Int, on compute: ComputeContext
  ) -> PrefixCacheEntry {
    compute.during(.prefill) {
      compute.ledger.stage = 0
      let recordsLastRows = state.recordsLastRows
      state.recordsLastRows = false
      let rows = state.hidden.rows
      for index in 0..<depth { run(index, &state, cache, 0..<rows, reservedRows: reservedRows, on: compute) }
      state.recordsLastRows = recordsLastRows
      var hidden = Matrix(rows: 0, columns: state.hidden.columns)
      // After the last layer nobody looks at them.
      if depth < layers.count { hidden.assign(state.hidden, rows: 0..<rows) }
      return PrefixCacheEntry(rowCount: rows, hidden: hidden, cache: cache)
    }
  }

  /// Runs a prompt's rows in `state.hidden` through all layers, dropping visual tokens as planned.
  ///
  /// With a prefix these are the rows after it, which it joins at the first drop.
  ///
  /// - Parameters:
  ///   - cache: Empty, or a copy of the prefix's; receives keys and values.
  ///   - layout: Describes all rows, those of the prefix included; shrinks with them.
  ///   - room: Rows to come later, for which the cache makes room at once.
  /// - Returns: What each drop did.
  package func prefill(
    _ state: inout DecoderState, _ cache: KVCache, _ layout: inout SequenceLayout, _ plan: DropPlan,
    after prefix: PrefixCacheEntry? = nil, reservedRows: Int = 0, on compute: ComputeContext
  ) -> [DropResult] {
    compute.during(.prefill) {
      compute.ledger.stage = 0
      state.recordLastRow()
      let (depth, rows) = (plan.depth(layerCount: layers.count), state.hidden.rows)
      compute.isPartOfMany = prefix != nil
      for index in 0..<depth { run(index, &state, cache, 0..<rows, reservedRows: reservedRows, on: compute) }
      compute.isPartOfMany = false
      if let prefix, depth < layers.count { state.hidden.prepend(prefix.hidden) }
      var records: [DropResult] = []
      for index in depth..<layers.count {
        compute.ledger.layer = index
        let drop = plan.drops.first { $0.afterLayer == index }
        if let drop { records.append(dropAndProject(drop, &state, cache, &layout, on: compute)) }
        run(index, &state, cache, layout.positions, isProjected: drop != nil, reservedRows: reservedRows, on: compute)
      }
      return records
    }
  }

  /// Runs one layer; the rows in `state.hidden` stand `rows` after the end of its cache.
  private func run(
    _ index: Int, _ state: inout DecoderState, _ cache: KVCache, _ rows: some Collection<Int>,
    isProjected: Bool = false, reservedRows: Int, on compute: ComputeContext
  ) {
    compute.ledger.layer = index
    let cache = cache.layers[index]
    if !isProjected { layers[index].project(&state, on: compute) }
    cache.reserve(rows: cache.length + rows.count + reservedRows)
    state.place(rows, after: cache)
    layers[index].finish(&state, cache, on: compute)
    state.recordLastRow()
  }
}

extension LanguageModel {
  /// Whether the rows of a prompt get the same bits in two parts as in one: sums of integers are exact, and rows of brain
  /// floats were found not to depend on their number; those of OpenBLAS do.
  package var splitsPrompts: Bool { layers.allSatisfy { $0.queries.computeType != .f32 } }

  /// Whether products on this machine give rows the same bits in two parts as in one, found by doing both.
  ///
  /// What `splitsPrompts` says of bf16 holds for the libraries that it was found with, and is promised by none.
  ///
  /// - Parameters:
  ///   - rows: Of the whole.
  ///   - first: Of the first part.
  package func splitsMatmuls(rows: Int, first: Int, on compute: ComputeContext) -> Bool {
    guard splitsPrompts, let layer = layers.first else { return false }
    return [layer.queries, layer.gate, layer.down].allSatisfy { linear in
      linear.computeType == .int8 || splitsMatmul(linear, rows: rows, first: first, on: compute)
    }
  }

  private func splitsMatmul(_ linear: Linear, rows: Int, first: Int, on compute: ComputeContext) -> Bool {
    var generator = SplitMix64(seed: 1)
    let values = (0..<rows * linear.inputSize).map { _ in Float(generator.next() >> 40) * 0x1p-23 - 1 }
    let input = Matrix(values, columns: linear.inputSize)
    func product(_ range: Range<Int>, isPart: Bool) -> [UInt32] {
      var part = Matrix(rows: 0, columns: linear.inputSize)
      var result = Matrix(rows: 0, columns: linear.outputSize)
      part.assign(input, rows: range)
      compute.isPartOfMany = isPart
      compute.matmul(&result, part, by: linear, .queries)
      compute.isPartOfMany = false
      return result.values.map(\.bitPattern)
    }
    return product(0..<rows, isPart: false)
      == product(0..<first, isPart: false) + product(first..<rows, isPart: true)
  }
}
