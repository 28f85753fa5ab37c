import CKernels

/// Number and size of the attention heads: the layout of the columns of queries, keys and values.
package struct HeadLayout: Hashable, Sendable {
  package let headCount: Int
  package let keyValueHeadCount: Int
  package let headDimension: Int

  /// - Precondition: `headCount` is a multiple of `keyValueHeadCount`.
  package init(headCount: Int, keyValueHeadCount: Int, headDimension: Int) {
    precondition(
      keyValueHeadCount > 0 && headDimension > 0 && headCount.isMultiple(of: keyValueHeadCount),
      "HeadLayout: \(headCount) heads, \(keyValueHeadCount) key-value heads of \(headDimension)")
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount
    self.headDimension = headDimension
  }

  /// Columns of queries and of attention outputs.
  package var queryColumns: Int { headCount * headDimension }
  /// Columns of keys and of values.
  package var keyValueColumns: Int { keyValueHeadCount * headDimension }

  /// Query heads that share a key-value head (grouped-query attention); they are neighbours.
  var groupSize: Int { headCount / keyValueHeadCount }

  /// The key-value head of a query head.
  func keyValueHead(of head: Int) -> Int { head / groupSize }
}

/// Keys or values in memory, of one type: the rows of each key-value head.
@safe struct StoredRows {
  /// Rows to read, from the first on.
  fileprivate(set) var rows: Int
  let columns: Int
  let type: CacheType
  private let base: UnsafeRawPointer
  /// Elements from a row of a head to the next one.
  let rowStride: Int
  /// Elements from a head to the next one.
  private let headStride: Int
  /// The scales of int8, `[kvHeads, headScales]`.
  private let scales: UnsafePointer<Float>?
  private let headScales: Int

  /// The rows of a matrix, `[rows, kvHeads · d]`.
  init(_ matrix: borrowing Matrix, _ heads: HeadLayout) {
    (rows, columns, type) = (matrix.rows, matrix.columns, .f32)
    unsafe base = UnsafeRawPointer(matrix.base)
    (rowStride, headStride, headScales) = (columns, heads.headDimension, 0)
    unsafe scales = nil
  }

  init(_ cache: borrowing CacheRows) {
    (rows, columns, type) = (cache.rows, cache.columns, cache.type)
    unsafe base = UnsafeRawPointer(cache.base)
    (rowStride, headStride) = (cache.heads.headDimension, cache.capacity * cache.heads.headDimension)
    unsafe scales = cache.type == .int8 ? UnsafePointer(cache.scales) : nil
    headScales = cache.capacity
  }

  /// The address of a row of a head.
  func address(head: Int, row: Int) -> UnsafeRawPointer {
    unsafe base + (head * headStride + row * rowStride) * type.elementByteCount
  }

  /// The address of the scale of a row of a head, for int8.
  func scale(head: Int, row: Int) -> UnsafePointer<Float>? {
    unsafe scales.map { unsafe $0 + head * headScales + row }
  }
}

/// Keys and values in memory, valid until their cache changes.
package struct StoredKeyValues {
  fileprivate(set) var keys: StoredRows
  fileprivate(set) var values: StoredRows
}

extension LayerCache {
  /// The rows of the cache, for attention.
  package var stored: StoredKeyValues { StoredKeyValues(keys: StoredRows(keys), values: StoredRows(values)) }

  /// The rows of the cache up to the one at a position, which was decoded, as all rows after it.
  package func stored(through position: Int) -> StoredKeyValues {
    var stored = stored
    let rows = length - (nextPosition - 1 - position)
    precondition(1...length ~= rows, "stored: \(rows) of \(length) rows")
    (stored.keys.rows, stored.values.rows) = (rows, rows)
    return stored
  }
}

extension ComputeContext {
  /// The minimum number of queries, of a sequence or of heads that share keys, that are computed as a block. Fewer are
  /// computed one at a time.
  package static let minBlockedQueries = 3

  /// Causal attention of the last rows of a sequence over the whole sequence.
  ///
  /// - Parameters:
  ///   - result: `[T, heads · d]`; resized.
  ///   - queries: The last `T` rows of the sequence, `[T, heads · d]`.
  ///   - keys: All `S` rows, `[S, kvHeads · d]`.
  ///   - values: All `S` rows, `[S, kvHeads · d]`.
  ///
  /// Row `t` sees the keys `0...S-T+t`. Cost: 2·heads·d multiply-adds per pair of a query and a visible key.
  package func causalAttention(
    _ result: inout Matrix, queries: borrowing Matrix, keys: borrowing CacheRows, values: borrowing CacheRows,
    heads: HeadLayout, with kernel: AttentionKernel = .exact
  ) {
    precondition(keys.rows >= queries.rows, "causalAttention: \(queries.rows) queries, \(keys.rows) keys")
    attention(
      &result, queries, StoredKeyValues(keys: StoredRows(keys), values: StoredRows(values)), heads, sequences: 1,
      isCausal: true, kernel)
  }

  /// Causal attention of every row of one sequence, without a cache.
  ///
  /// - Parameters:
  ///   - result: `[T, heads · d]`; resized.
  ///   - queries: `[T, heads · d]`.
  ///   - keys: `[T, heads · d]`.
  ///   - values: `[T, heads · d]`.
  ///
  /// Row `t` sees the keys `0...t`. Cost: heads·d·T·(T+1) multiply-adds.
  package func causalAttention(
    _ result: inout Matrix, queries: borrowing Matrix, keys: borrowing Matrix, values: borrowing Matrix,
    heads: HeadLayout, with kernel: AttentionKernel = .exact
  ) {
    precondition(keys.rows == queries.rows, "causalAttention: \(queries.rows) queries, \(keys.rows) keys")
    attention(
      &result, queries, StoredKeyValues(keys: StoredRows(keys, heads), values: StoredRows(values, heads)), heads,
      sequences: 1, isCausal: true, kernel)
  }

  /// Attention of rows over sequences of their own, as in decode.
  ///
  /// - Parameters:
  ///   - result: `[T, heads · d]`; resized.
  ///   - queries: `[T, heads · d]`.
  ///   - cache: Returns the keys and values that a row sees.
  ///
  /// Batch-invariant: a row's result does not depend on the other rows. Scores are never in int8. Cost: 2·heads·d
  /// multiply-adds per key.
  package func cachedAttention(
    _ result: inout Matrix, queries: borrowing Matrix, heads: HeadLayout,
    with kernel: AttentionKernel = .exact, _ cache: (_ row: Int) -> StoredKeyValues
  ) {
    result.resize(rows: queries.rows)
    precondition(
      queries.columns == heads.queryColumns && result.columns == queries.columns,
      "cachedAttention: queries of \(queries.columns) columns, \(heads)")
    visibleRows.removeAll(keepingCapacity: true)
    for row in 0..<queries.rows {
      visibleRows.append(cache(row))
      let keys = visibleRows[row].keys
      precondition(
        keys.rows > 0 && keys.columns == heads.keyValueColumns,
        "cachedAttention: \(keys.rows) keys of \(keys.columns) columns, \(heads)")
      ledger.add(.attention, 2 * heads.queryColumns * keys.rows)
    }
    let attention = unsafe AttentionTasks(
      compute: self, queries: queries.base, result: result.base, heads: heads,
      kernel: AttentionKernel(kernel.instructions), isCausal: false, oneByOne: heads.groupSize < Self.minBlockedQueries)
    workers.run(tasks: queries.rows * heads.keyValueHeadCount, attention) { attention, task, worker in
      let heads = attention.heads
      let (row, head) = (task / heads.keyValueHeadCount, task % heads.keyValueHeadCount)
      let cache = attention.compute.visibleRows[row]
      let first = row * heads.queryColumns + head * heads.groupSize * heads.headDimension
      // Usually one pass: only an unusual model has more query heads per key head than a block has rows.
      for start in stride(from: 0, to: heads.groupSize, by: Int(PDROP_ATTENTION_ROWS)) {
        let block = AttentionBlock(
          first: first + start * heads.headDimension, stride: heads.headDimension,
          rows: min(Int(PDROP_ATTENTION_ROWS), heads.groupSize - start), heads: 1, keyHead: head, firstKey: 0,
          visible: cache.keys.rows)
        attention.attend(block, cache, worker)
      }
    }
  }

  /// Attention of every row over all rows of its own sequence.
  ///
  /// - Parameters:
  ///   - result: `[sequences · n, heads · d]`; resized.
  ///   - queries: `[sequences · n, heads · d]`.
  ///   - keys: `[sequences · n, heads · d]`.
  ///   - values: `[sequences · n, heads · d]`.
  ///   - sequences: The number of sequences, which have equal length and follow each other.
  package func fullAttention(
    _ result: inout Matrix, queries: borrowing Matrix, keys: borrowing Matrix, values: borrowing Matrix,
    heads: HeadLayout, sequences: Int, with kernel: AttentionKernel = .exact
  ) {
    attention(
      &result, queries, StoredKeyValues(keys: StoredRows(keys, heads), values: StoredRows(values, heads)), heads,
      sequences: sequences, isCausal: false, kernel)
  }

  /// Attention over whole sequences, in blocks of queries.
  private func attention(
    _ result: inout Matrix, _ queries: borrowing Matrix, _ stored: StoredKeyValues, _ heads: HeadLayout,
    sequences: Int, isCausal: Bool, _ kernel: AttentionKernel
  ) {
    let (keys, values) = (stored.keys, stored.values)
    precondition(
      queries.columns == heads.queryColumns && keys.columns == heads.keyValueColumns
        && result.columns == queries.columns && values.columns == keys.columns && values.rows == keys.rows
        && values.type == keys.type && keys.rows > 0 && queries.rows.isMultiple(of: sequences)
        && keys.rows.isMultiple(of: sequences),
      "attention: queries \(queries.rows)×\(queries.columns), keys \(keys.rows)×\(keys.columns) \(keys.type), "
        + "values \(values.rows)×\(values.columns) \(values.type), \(heads), \(sequences) sequences")
    result.resize(rows: queries.rows)
    let (rows, keyRows, dimension) = (queries.rows / sequences, keys.rows / sequences, heads.headDimension)
    let pairs = isCausal ? rows * (keyRows - rows) + rows * (rows + 1) / 2 : rows * keyRows
    ledger.add(.attention, 2 * sequences * heads.headCount * dimension * pairs)

    let split = AttentionSplit(heads: heads, sequences: sequences, rows: rows, keyRows: keyRows, isCausal: isCausal)
    let tasks = unsafe AttentionTasks(
      compute: self, queries: queries.base, result: result.base, heads: heads, kernel: kernel,
      isCausal: isCausal && rows > 1, oneByOne: split.queryCount < Self.minBlockedQueries)
    workers.run(tasks: split.count, (tasks, split, stored)) { context, task, worker in
      let (tasks, split, stored) = context
      tasks.attend(split.block(task), stored, worker)
    }
  }
}

/// The queries of a task of attention, and the keys that they see.
private struct AttentionBlock {
  /// The place of the first query, and of its result.
  let first: Int
  /// Floats between consecutive queries.
  let stride: Int
  /// Queries of each head.
  let rows: Int
  /// Query heads, which share a key head.
  let heads: Int
  let keyHead: Int
  let firstKey: Int
  /// Keys from `firstKey` on that the first query sees; without a causal mask, all queries.
  let visible: Int
}

/// The blocks of attention over whole sequences: the query heads that share a key head, and as many rows as a block
/// holds, so that keys and values are packed once for all of them.
private struct AttentionSplit {
  let heads: HeadLayout
  /// Queries of each sequence.
  let rows: Int
  /// Keys of each sequence.
  let keyRows: Int
  let isCausal: Bool
  /// Queries of each head: with a single row, those of all heads of a group, which are the rows of one panel.
  let queryCount: Int
  private let queryStride: Int
  /// Query heads and rows of a block.
  private let (blockHeads, blockRows): (Int, Int)
  /// Blocks of the heads of a group, and of the rows of a sequence.
  private let (headBlocks, rowBlocks): (Int, Int)
  /// The number of blocks of all sequences.
  let count: Int

  init(heads: HeadLayout, sequences: Int, rows: Int, keyRows: Int, isCausal: Bool) {
    (self.heads, self.rows, self.keyRows, self.isCausal) = (heads, rows, keyRows, isCausal)
    let (group, panelRows) = (heads.groupSize, Int(PDROP_ATTENTION_PANEL))
    (queryCount, queryStride) = rows == 1 ? (group, heads.headDimension) : (rows, heads.queryColumns)
    let maxPanels = Int(PDROP_ATTENTION_ROWS) / panelRows
    blockHeads = rows == 1 ? 1 : min(group, maxPanels)
    // Nearly equal blocks of whole panels.
    let panels = (queryCount + panelRows - 1) / panelRows
    let parts = (panels + maxPanels / blockHeads - 1) / (maxPanels / blockHeads)
    blockRows = (panels + parts - 1) / parts * panelRows
    headBlocks = rows == 1 ? 1 : (group + blockHeads - 1) / blockHeads
    rowBlocks = (queryCount + blockRows - 1) / blockRows
    count = sequences * heads.keyValueHeadCount * headBlocks * rowBlocks
  }

  func block(_ index: Int) -> AttentionBlock {
    let (row, head) = (index % rowBlocks * blockRows, index / rowBlocks % headBlocks * blockHeads)
    let keyHead = index / rowBlocks / headBlocks % heads.keyValueHeadCount
    let sequence = index / rowBlocks / headBlocks / heads.keyValueHeadCount
    return AttentionBlock(
      first: sequence * rows * heads.queryColumns + (keyHead * heads.groupSize + head) * heads.headDimension
        + row * queryStride,
      stride: queryStride, rows: min(blockRows, queryCount - row),
      heads: rows == 1 ? 1 : min(blockHeads, heads.groupSize - head), keyHead: keyHead, firstKey: sequence * keyRows,
      visible: isCausal && rows > 1 ? keyRows - rows + row + 1 : keyRows)
  }
}

/// What all tasks of attention share.
@safe private struct AttentionTasks {
  let compute: ComputeContext
  let queries: UnsafePointer<Float>
  let result: UnsafeMutablePointer<Float>
  let heads: HeadLayout
  let kernel: AttentionKernel
  let isCausal: Bool
  /// Whether there are too few queries for a block.
  let oneByOne: Bool

  /// Attention of a block of queries.
  func attend(_ block: AttentionBlock, _ stored: StoredKeyValues, _ worker: Int) {
    let (keys, values, dimension) = (stored.keys, stored.values, heads.headDimension)
    let (keyHead, firstKey) = (block.keyHead, block.firstKey)
    let panels = block.heads * ((block.rows + Int(PDROP_ATTENTION_PANEL) - 1) / Int(PDROP_ATTENTION_PANEL))
    var arguments = unsafe pdrop_attention_block(
      queries: queries + block.first, result: result + block.first, query_stride: block.stride, rows: block.rows,
      heads: block.heads, dimension: dimension, keys: keys.address(head: keyHead, row: firstKey),
      values: values.address(head: keyHead, row: firstKey), key_stride: keys.rowStride, type: keys.type.code,
      key_scales: keys.scale(head: keyHead, row: firstKey), value_scales: values.scale(head: keyHead, row: firstKey),
      visible: block.visible, is_causal: isCausal, one_by_one: oneByOne,
      has_int8_scores: kernel.scores == .int8,
      scratch: compute.scratch(worker, count: pdrop_attention_scratch(panels, dimension)))
    unsafe pdrop_attention(kernel.instructions.code, &arguments)
  }
}
