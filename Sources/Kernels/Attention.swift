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

  /// The key-value head of a query head; neighbouring query heads share one (grouped-query attention).
  func keyValueHead(of head: Int) -> Int { head / (headCount / keyValueHeadCount) }
}

/// Instruction sets of the attention kernels. The last bits of a result depend on the instruction set.
extension InstructionSet {
  /// The fastest attention kernel of this processor that computes in f32 throughout.
  package static let exactAttention = min(detected, .avx512)

  /// The fastest attention kernel of this processor.
  ///
  /// With `avx512BF16`, the operands of both matmuls are rounded to bf16 for blocks of more than two queries; scores
  /// and sums are not.
  package static let fastAttention = detected

  /// The attention kernel for a compute type: f32 throughout for f32, otherwise the fastest.
  package static func attention(for computeType: ComputeType) -> InstructionSet {
    computeType == .f32 ? exactAttention : fastAttention
  }
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
    heads: HeadLayout, with variant: InstructionSet = .exactAttention
  ) {
    precondition(keys.rows >= queries.rows, "causalAttention: \(queries.rows) queries, \(keys.rows) keys")
    attention(
      &result, queries, StoredKeyValues(keys: StoredRows(keys), values: StoredRows(values)), heads, sequences: 1,
      isCausal: true, variant)
  }

  /// Attention of rows over sequences of their own, as in decode.
  ///
  /// - Parameters:
  ///   - result: `[T, heads · d]`; resized.
  ///   - queries: `[T, heads · d]`.
  ///   - cache: Returns the keys and values that a row sees.
  ///
  /// Batch-invariant: a row's result does not depend on the other rows. Cost: 2·heads·d multiply-adds per key.
  package func cachedAttention(
    _ result: inout Matrix, queries: borrowing Matrix, heads: HeadLayout,
    with variant: InstructionSet = .exactAttention, _ cache: (_ row: Int) -> StoredKeyValues
  ) {
    result.resize(rows: queries.rows)
    precondition(
      queries.columns == heads.queryColumns && result.columns == queries.columns,
      "cachedAttention: queries of \(queries.columns) columns, \(heads)")
    let (dimension, group) = (heads.headDimension, heads.headCount / heads.keyValueHeadCount)
    for row in 0..<queries.rows {
      let keys = cache(row).keys
      precondition(
        keys.rows > 0 && keys.columns == heads.keyValueColumns,
        "cachedAttention: \(keys.rows) keys of \(keys.columns) columns, \(heads)")
      ledger.add(.attention, 2 * heads.queryColumns * keys.rows)
    }
    let (input, output) = unsafe (queries.base, result.base)
    workers.run(tasks: queries.rows * heads.keyValueHeadCount) { task, worker in
      let (row, head) = (task / heads.keyValueHeadCount, task % heads.keyValueHeadCount)
      let (cache, query) = (cache(row), row * heads.queryColumns + head * group * dimension)
      // Usually one pass: only an unusual model has more query heads per key head than a block has rows.
      for first in stride(from: 0, to: group, by: Int(PDROP_ATTENTION_ROWS)) {
        let rows = min(Int(PDROP_ATTENTION_ROWS), group - first)
        let start = query + first * dimension
        unsafe attend(
          input + start, output + start, stride: dimension, rows: rows, heads: 1, cache, keyHead: head, layout: heads,
          firstKey: 0, visible: cache.keys.rows, isCausal: false, oneByOne: group < Self.minBlockedQueries, variant,
          worker)
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
    heads: HeadLayout, sequences: Int, with variant: InstructionSet = .exactAttention
  ) {
    attention(
      &result, queries, StoredKeyValues(keys: StoredRows(keys, heads), values: StoredRows(values, heads)), heads,
      sequences: sequences, isCausal: false, variant)
  }

  /// Attention in tasks of one sequence, the query heads that share a key head, and as many rows as a block holds, so
  /// that keys and values are packed once for all of them.
  private func attention(
    _ result: inout Matrix, _ queries: borrowing Matrix, _ stored: StoredKeyValues, _ heads: HeadLayout,
    sequences: Int, isCausal: Bool, _ variant: InstructionSet
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

    // With a single row, the heads of a group are the rows of one panel.
    let group = heads.headCount / heads.keyValueHeadCount
    let (queryCount, queryStride) = rows == 1 ? (group, dimension) : (rows, heads.queryColumns)
    let maxPanels = Int(PDROP_ATTENTION_ROWS / PDROP_ATTENTION_PANEL)
    let taskHeads = rows == 1 ? 1 : min(group, maxPanels)
    // Nearly equal tasks of whole panels.
    let panels = (queryCount + Int(PDROP_ATTENTION_PANEL) - 1) / Int(PDROP_ATTENTION_PANEL)
    let tasks = (panels + maxPanels / taskHeads - 1) / (maxPanels / taskHeads)
    let taskRows = (panels + tasks - 1) / tasks * Int(PDROP_ATTENTION_PANEL)
    let headTasks = rows == 1 ? 1 : (group + taskHeads - 1) / taskHeads
    let blocks = (queryCount + taskRows - 1) / taskRows
    let (input, output) = unsafe (queries.base, result.base)
    workers.run(tasks: sequences * heads.keyValueHeadCount * headTasks * blocks) { task, worker in
      let (first, part) = (task % blocks * taskRows, task / blocks % headTasks * taskHeads)
      let (keyHead, sequence) = (
        task / blocks / headTasks % heads.keyValueHeadCount, task / blocks / headTasks / heads.keyValueHeadCount
      )
      let start =
        sequence * rows * heads.queryColumns + (keyHead * group + part) * dimension + first * queryStride
      unsafe attend(
        input + start, output + start, stride: queryStride, rows: min(taskRows, queryCount - first),
        heads: rows == 1 ? 1 : min(taskHeads, group - part), stored, keyHead: keyHead, layout: heads,
        firstKey: sequence * keyRows, visible: isCausal && rows > 1 ? keyRows - rows + first + 1 : keyRows,
        isCausal: isCausal && rows > 1, oneByOne: queryCount < Self.minBlockedQueries, variant, worker)
    }
  }

  /// Attention of a block of queries to the rows of a key head from `firstKey` on.
  private func attend(
    _ queries: UnsafePointer<Float>, _ result: UnsafeMutablePointer<Float>, stride: Int, rows: Int, heads: Int,
    _ stored: StoredKeyValues, keyHead: Int, layout: HeadLayout, firstKey: Int, visible: Int, isCausal: Bool,
    oneByOne: Bool, _ variant: InstructionSet, _ worker: Int
  ) {
    let (keys, values, dimension) = (stored.keys, stored.values, layout.headDimension)
    let panels = heads * ((rows + Int(PDROP_ATTENTION_PANEL) - 1) / Int(PDROP_ATTENTION_PANEL))
    var block = unsafe pdrop_attention_block(
      queries: queries, result: result, query_stride: stride, rows: rows, heads: heads, dimension: dimension,
      keys: keys.address(head: keyHead, row: firstKey), values: values.address(head: keyHead, row: firstKey),
      key_stride: keys.rowStride, type: keys.type.code, key_scales: keys.scale(head: keyHead, row: firstKey),
      value_scales: values.scale(head: keyHead, row: firstKey), visible: visible, is_causal: isCausal,
      one_by_one: oneByOne,
      scratch: scratch(worker, count: pdrop_attention_scratch(panels, dimension)))
    unsafe pdrop_attention(variant.code, &block)
  }
}
