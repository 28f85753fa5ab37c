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

/// Keys or values in memory: contiguous rows of one element type, `[rows, columns]`.
@safe struct StoredRows {
  let base: UnsafeRawPointer
  let rows: Int
  let columns: Int
  let element: ElementType

  init(_ matrix: borrowing Matrix) {
    unsafe base = UnsafeRawPointer(matrix.base)
    (rows, columns, element) = (matrix.rows, matrix.columns, .f32)
  }

  init(_ cache: borrowing CacheRows) {
    unsafe base = UnsafeRawPointer(cache.base)
    (rows, columns, element) = (cache.rows, cache.columns, cache.element)
  }

  /// The address of the element with an index.
  func address(of index: Int) -> UnsafeRawPointer { unsafe base + index * element.byteCount }
}

/// Keys and values in memory, valid until their cache changes.
package struct StoredKeyValues {
  let keys: StoredRows
  let values: StoredRows
}

extension LayerCache {
  /// The rows of the cache, for attention.
  package var stored: StoredKeyValues { StoredKeyValues(keys: StoredRows(keys), values: StoredRows(values)) }
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
      &result, queries, StoredRows(keys), StoredRows(values), heads, sequences: 1, isCausal: true, variant)
  }

  /// Attention of the last row of each of several sequences over its own sequence, as in decode.
  ///
  /// - Parameters:
  ///   - result: `[sequences, heads · d]`; resized.
  ///   - queries: The last row of each sequence, `[sequences, heads · d]`.
  ///   - cache: Returns the keys and values of a sequence.
  ///
  /// Batch-invariant: a row's result does not depend on the other sequences. Cost: 2·heads·d multiply-adds per key.
  package func cachedAttention(
    _ result: inout Matrix, queries: borrowing Matrix, heads: HeadLayout,
    with variant: InstructionSet = .exactAttention, _ cache: (_ sequence: Int) -> StoredKeyValues
  ) {
    result.resize(rows: queries.rows)
    precondition(
      queries.columns == heads.queryColumns && result.columns == queries.columns,
      "cachedAttention: queries of \(queries.columns) columns, \(heads)")
    let (dimension, group) = (heads.headDimension, heads.headCount / heads.keyValueHeadCount)
    for sequence in 0..<queries.rows {
      let keys = cache(sequence).keys
      precondition(
        keys.rows > 0 && keys.columns == heads.keyValueColumns,
        "cachedAttention: \(keys.rows) keys of \(keys.columns) columns, \(heads)")
      ledger.add(.attention, 2 * heads.queryColumns * keys.rows)
    }
    let (input, output) = unsafe (queries.base, result.base)
    workers.run(tasks: queries.rows * heads.keyValueHeadCount) { task, worker in
      let (sequence, head) = (task / heads.keyValueHeadCount, task % heads.keyValueHeadCount)
      let (cache, query) = (cache(sequence), sequence * heads.queryColumns + head * group * dimension)
      let (keys, values) = (cache.keys, cache.values)
      // Usually one pass: only an unusual model has more query heads per key head than a block has rows.
      for first in stride(from: 0, to: group, by: Int(PDROP_ATTENTION_ROWS)) {
        var block = unsafe pdrop_attention_block(
          queries: input + query + first * dimension, result: output + query + first * dimension,
          query_stride: dimension, rows: min(Int(PDROP_ATTENTION_ROWS), group - first), dimension: dimension,
          keys: keys.address(of: head * dimension), values: values.address(of: head * dimension),
          key_stride: keys.columns, keys_are_bf16: keys.element == .bf16, visible: keys.rows, is_causal: false,
          one_by_one: group < Self.minBlockedQueries,
          scratch: scratch(worker, count: pdrop_attention_scratch(dimension)))
        unsafe pdrop_attention(variant.code, &block)
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
      &result, queries, StoredRows(keys), StoredRows(values), heads, sequences: sequences, isCausal: false, variant)
  }

  /// Attention in tasks of one sequence, one or more heads and a block of queries.
  ///
  /// A block holds rows of one head. With a single row, it holds the query heads that share a key head, so that keys
  /// and values are read once for all of them.
  private func attention(
    _ result: inout Matrix, _ queries: borrowing Matrix, _ keys: StoredRows, _ values: StoredRows,
    _ heads: HeadLayout, sequences: Int, isCausal: Bool, _ variant: InstructionSet
  ) {
    precondition(
      queries.columns == heads.queryColumns && keys.columns == heads.keyValueColumns
        && result.columns == queries.columns && values.columns == keys.columns && values.rows == keys.rows
        && values.element == keys.element && keys.rows > 0 && queries.rows.isMultiple(of: sequences)
        && keys.rows.isMultiple(of: sequences),
      "attention: queries \(queries.rows)×\(queries.columns), keys \(keys.rows)×\(keys.columns) \(keys.element), "
        + "values \(values.rows)×\(values.columns) \(values.element), \(heads), \(sequences) sequences")
    result.resize(rows: queries.rows)
    let (rows, keyRows, dimension) = (queries.rows / sequences, keys.rows / sequences, heads.headDimension)
    let pairs = isCausal ? rows * (keyRows - rows) + rows * (rows + 1) / 2 : rows * keyRows
    ledger.add(.attention, 2 * sequences * heads.headCount * dimension * pairs)

    let group = rows == 1 ? heads.headCount / heads.keyValueHeadCount : 1
    let (queryCount, queryStride) = rows == 1 ? (group, dimension) : (rows, heads.queryColumns)
    let blockRows = Int(PDROP_ATTENTION_ROWS)
    let (blocks, groups) = ((queryCount + blockRows - 1) / blockRows, heads.headCount / group)
    let (input, output) = unsafe (queries.base, result.base)
    workers.run(tasks: sequences * groups * blocks) { task, worker in
      let (first, head, sequence) = (task % blocks * blockRows, task / blocks % groups * group, task / blocks / groups)
      let query = sequence * rows * heads.queryColumns + head * dimension + first * queryStride
      let key = sequence * keyRows * heads.keyValueColumns + heads.keyValueHead(of: head) * dimension
      var block = unsafe pdrop_attention_block(
        queries: input + query, result: output + query, query_stride: queryStride,
        rows: min(blockRows, queryCount - first), dimension: dimension, keys: keys.address(of: key),
        values: values.address(of: key), key_stride: keys.columns, keys_are_bf16: keys.element == .bf16,
        visible: isCausal && rows > 1 ? keyRows - rows + first + 1 : keyRows, is_causal: isCausal && rows > 1,
        one_by_one: queryCount < Self.minBlockedQueries,
        scratch: scratch(worker, count: pdrop_attention_scratch(dimension)))
      unsafe pdrop_attention(variant.code, &block)
    }
  }
}
