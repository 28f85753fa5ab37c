import BasicContainers
package import Kernels

/// Hidden states and KV of a shared prompt prefix, up to the first drop.
package final class PrefixCacheEntry {
  /// Hidden states of the prefix after the layers before the first drop, `[rowCount, D]`; empty if nothing is dropped.
  package let hidden: Matrix
  package let rowCount: Int
  /// Keys and values of these rows in these layers.
  package let cache: KVCache
  /// Multiply-adds of computing the entry.
  package let multiplyAdds: Int

  package init(rowCount: Int, hidden: consuming Matrix, cache: KVCache, multiplyAdds: Int) {
    self.multiplyAdds = multiplyAdds
    self.rowCount = rowCount
    self.hidden = hidden
    self.cache = cache
  }

  package var byteCount: Int { hidden.count * ElementType.f32.byteCount + cache.byteCount }
}

extension DropPlan {
  /// Number of layers before the first drop, which see all rows of a prompt.
  package func depth(layerCount: Int) -> Int { drops.first?.afterLayer ?? layerCount }
}

extension SequenceLayout {
  /// Rows up to and including those of the last image's place: the part that other questions about the same images share.
  ///
  /// `nil` if this part or the rest has too few rows to be computed by the same kernels as the whole prompt.
  package var prefixRowCount: Int? {
    guard let end = visualBlocks.last?.end, end > ComputeContext.maxSmallRows,
      rowCount - end >= ComputeContext.minBlockedQueries
    else { return nil }
    return end
  }
}

extension DropPlan {
  /// The results of the drops without scores, and the layout after them.
  ///
  /// - Parameters:
  ///   - layout: The sequence before any drop.
  ///   - kept: Indices of the tokens that each drop keeps of each image, ascending, among its tokens before any drop.
  /// - Returns: `nil` unless each list is a part of the one before, with the number of tokens of the plan.
  package func replayed(on layout: SequenceLayout, keeping kept: [[[Int]]]) -> ReplayedDrops? {
    guard kept.count == drops.count else { return nil }
    var (layout, results, positions) = (layout, [DropResult](), [layout.nextPosition])
    for (drop, kept) in zip(drops, kept) {
      let (blocks, rowsBefore) = (layout.visualBlocks, layout.rowCount)
      guard kept.map(\.count) == drop.keepCounts, kept.count == blocks.count else { return nil }
      var indices: [[Int]] = []
      for (block, tokens) in zip(blocks, kept) {
        let places = Dictionary(uniqueKeysWithValues: block.tokens.enumerated().map { ($1, $0) })
        let found = tokens.compactMap { places[$0] }
        guard found.count == tokens.count, zip(found, found.dropFirst()).allSatisfy(<) else { return nil }
        indices.append(found)
      }
      _ = layout.keep(indices, positions: drop.positions)
      positions.append(layout.nextPosition)
      results.append(
        DropResult(
          layer: drop.afterLayer, scoringLayer: drop.scoringLayer, tokensBefore: rowsBefore,
          tokensAfter: layout.rowCount,
          images: zip(blocks, kept).map {
            DropResult.Image(start: $0.start, count: $0.tokens.count, kept: $1, scores: [])
          }))
    }
    return ReplayedDrops(results: results, nextPositions: positions)
  }
}

/// The drops of a prompt that was prefilled before.
package struct ReplayedDrops {
  package let results: [DropResult]
  /// The position of the next token before the first drop, and after each drop.
  package let nextPositions: [Int]
}

extension LanguageModel {
  /// Runs the first rows of a prompt, in `state.hidden`, through the first `depth` layers. If `compute` is cancelled,
  /// the entry is incomplete.
  ///
  /// - Parameters:
  ///   - cache: Empty; becomes the prefix's.
  ///   - depth: Number of layers before the first drop.
  package func prefix(
    _ state: inout DecoderState, _ cache: KVCache, depth: Int, reservedRows: Int, on compute: ComputeContext
  ) -> PrefixCacheEntry {
    compute.during(.prefill) {
      compute.ledger.stage = 0
      let before = compute.ledger.total(.prefill)
      let recordsLastRows = state.recordsLastRows
      state.recordsLastRows = false
      let rows = state.hidden.rows
      for index in 0..<depth where compute.begins(layer: index) {
        run(index, &state, cache, 0..<rows, reservedRows: reservedRows, on: compute)
      }
      state.recordsLastRows = recordsLastRows
      var hidden = Matrix(rows: 0, columns: state.hidden.columns)
      // The rows after the last layer are not needed.
      if depth < layers.count { hidden.assign(state.hidden, rows: 0..<rows) }
      return PrefixCacheEntry(
        rowCount: rows, hidden: hidden, cache: cache, multiplyAdds: compute.ledger.total(.prefill) - before)
    }
  }

  /// Runs the rows of a prompt, in `state.hidden`, through all layers, dropping visual tokens as planned.
  ///
  /// With a prefix these are the rows after it; the prefix joins them at the first drop. If `compute` is cancelled,
  /// state, cache and results are incomplete.
  ///
  /// - Parameters:
  ///   - cache: Empty, or a copy of the prefix's; receives keys and values.
  ///   - layout: Describes all rows, those of the prefix included; shrinks with them.
  ///   - reservedRows: KV capacity for rows that will be decoded later.
  /// - Returns: The result of each drop.
  package func prefill(
    _ state: inout DecoderState, _ cache: KVCache, _ layout: inout SequenceLayout, _ plan: DropPlan,
    after prefix: PrefixCacheEntry? = nil, reservedRows: Int = 0, on compute: ComputeContext
  ) -> [DropResult] {
    compute.during(.prefill) {
      compute.ledger.stage = 0
      state.recordLastRow()
      let (depth, rows) = (plan.depth(layerCount: layers.count), state.hidden.rows)
      for index in 0..<depth where compute.begins(layer: index) {
        run(
          index, &state, cache, 0..<rows, forcesLargeKernels: prefix != nil, reservedRows: reservedRows, on: compute)
      }
      if let prefix, depth < layers.count { state.hidden.prepend(prefix.hidden) }
      var results: [DropResult] = []
      for index in depth..<layers.count where compute.begins(layer: index) {
        var isProjected = false
        if let planned = plan.drops.first(where: { $0.afterLayer == index }) {
          let dropped = drop(planned, &state, cache, &layout, on: compute)
          results.append(dropped.result)
          isProjected = dropped.isProjected
        }
        run(
          index, &state, cache, layout.positions, isProjected: isProjected, reservedRows: reservedRows, on: compute)
      }
      return results
    }
  }

  /// Runs one layer over the rows in `state.hidden`.
  ///
  /// - Parameter rows: The place of each row after the end of the layer's cache.
  private func run(
    _ index: Int, _ state: inout DecoderState, _ cache: KVCache, _ rows: some Collection<Int>,
    isProjected: Bool = false, forcesLargeKernels: Bool = false, reservedRows: Int, on compute: ComputeContext
  ) {
    cache.reserve(layer: index, moreRows: rows.count + reservedRows)
    state.place(rows, after: cache.layers[index])
    layers[index](
      &state, .one(cache, layer: index), isProjected: isProjected, forcesLargeKernels: forcesLargeKernels, on: compute)
    state.recordLastRow()
  }
}

extension LanguageModel {
  /// Whether a prompt can give the same bits in two parts as in one: int8 sums are exact, and in bf16 rows were found
  /// not to depend on their number. Rows of OpenBLAS in f32 do.
  package var splitsPrompts: Bool {
    // A weight whose size is not a multiple of a block's stays f32.
    layers.allSatisfy { layer in layer.linears.allSatisfy { $0.computeType != .f32 } }
  }

  /// Whether matmuls on this machine give rows the same bits in two parts as in one, found by computing both.
  ///
  /// For bf16 `splitsPrompts` relies on behaviour that was measured and that no library guarantees.
  ///
  /// - Parameters:
  ///   - rows: Row count of the whole input.
  ///   - first: Row count of the first part.
  package func splitsMatmuls(rows: Int, first: Int, on compute: ComputeContext) -> Bool {
    guard splitsPrompts, let layer = layers.first else { return false }
    return [layer.queries, layer.gate, layer.down].allSatisfy { linear in
      [.int8, .blocks].contains(linear.computeType) || splitsMatmul(linear, rows: rows, first: first, on: compute)
    }
  }

  private func splitsMatmul(_ linear: Linear, rows: Int, first: Int, on compute: ComputeContext) -> Bool {
    var generator = SplitMix64(seed: 1)
    let values = (0..<rows * linear.inputSize).map { _ in Float(generator.next() >> 40) * 0x1p-23 - 1 }
    let input = Matrix(values, columns: linear.inputSize)
    func bits(_ range: Range<Int>, isPart: Bool) -> [UInt32] {
      var part = Matrix(rows: 0, columns: linear.inputSize)
      var result = Matrix(rows: 0, columns: linear.outputSize)
      part.assign(input, rows: range)
      compute.matmul(&result, part, by: linear, .queries, forcesLargeKernels: isPart)
      return result.values.map(\.bitPattern)
    }
    return bits(0..<rows, isPart: false) == bits(0..<first, isPart: false) + bits(first..<rows, isPart: true)
  }
}
