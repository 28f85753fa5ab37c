internal import COpenBLAS

/// How the columns of queries, keys and values divide into heads.
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

  package var queryColumns: Int { headCount * headDimension }
  package var keyValueColumns: Int { keyValueHeadCount * headDimension }

  /// The key-value head that a query head looks at; neighbours share one (grouped-query attention).
  func keyValueHead(of head: Int) -> Int { head / (headCount / keyValueHeadCount) }
}

/// One head's queries, keys and values as strided rows, and where its result goes.
@safe private struct HeadView {
  var queries: UnsafePointer<Float>
  var keys: UnsafePointer<Float>
  var values: UnsafePointer<Float>
  var result: UnsafeMutablePointer<Float>
  var queryStride: Int
  var keyStride: Int
}

extension Compute {
  /// How many query rows are scored at a time; scratch is this many rows of scores per worker.
  private static let blockRows = 64

  /// Causal attention of the newest rows of a sequence over all of it.
  ///
  /// - Parameters:
  ///   - result: `[T, heads · d]`; resized.
  ///   - queries: The last `T` rows of the sequence, `[T, heads · d]`.
  ///   - keys: All `S` rows, `[S, kvHeads · d]`.
  ///   - values: All `S` rows, `[S, kvHeads · d]`.
  ///
  /// Row `t` sees the keys `0...S-T+t`. Cost: 2·heads·d multiply-adds per pair of a query and a key that it sees.
  package func causalAttention(
    _ result: inout Matrix, queries: borrowing Matrix, keys: borrowing Matrix, values: borrowing Matrix,
    heads: HeadLayout
  ) {
    let earlier = keys.rows - queries.rows
    precondition(earlier >= 0, "causalAttention: \(queries.rows) queries, \(keys.rows) keys")
    attention(&result, queries, keys, values, heads, sequences: 1) { row in earlier + row + 1 }
  }

  /// Attention of every row over all rows of its own sequence.
  ///
  /// - Parameters:
  ///   - result: `[sequences · n, heads · d]`; resized.
  ///   - queries: `[sequences · n, heads · d]`.
  ///   - keys: `[sequences · n, heads · d]`.
  ///   - values: `[sequences · n, heads · d]`.
  ///   - sequences: How many sequences of equal length the rows hold, one after the other.
  package func fullAttention(
    _ result: inout Matrix, queries: borrowing Matrix, keys: borrowing Matrix, values: borrowing Matrix,
    heads: HeadLayout, sequences: Int
  ) {
    let length = keys.rows / sequences
    attention(&result, queries, keys, values, heads, sequences: sequences) { _ in length }
  }

  /// Attention in tasks of one sequence, head and block of query rows.
  ///
  /// - Parameter visible: How many keys, from the first, a query row sees; does not fall from row to row.
  private func attention(
    _ result: inout Matrix, _ queries: borrowing Matrix, _ keys: borrowing Matrix, _ values: borrowing Matrix,
    _ heads: HeadLayout, sequences: Int, visible: (_ row: Int) -> Int
  ) {
    precondition(
      queries.columns == heads.queryColumns && keys.columns == heads.keyValueColumns
        && result.columns == queries.columns
        && values.columns == keys.columns && values.rows == keys.rows && queries.rows.isMultiple(of: sequences)
        && keys.rows.isMultiple(of: sequences),
      "attention: queries \(queries.rows)×\(queries.columns), keys \(keys.rows)×\(keys.columns), "
        + "values \(values.rows)×\(values.columns), \(heads), \(sequences) sequences")
    result.resize(rows: queries.rows)
    let (queryRows, keyRows) = (queries.rows / sequences, keys.rows / sequences)
    let pairs = (0..<queryRows).reduce(0) { $0 + visible($1) }
    ledger.add(.attention, 2 * sequences * heads.headCount * heads.headDimension * pairs)

    let blocks = (queryRows + Self.blockRows - 1) / Self.blockRows
    let (q, k, v, out) = unsafe (queries.base, keys.base, values.base, result.base)
    workers.run(tasks: sequences * heads.headCount * blocks) { task, worker in
      let (block, head, sequence) =
        (task % blocks, task / blocks % heads.headCount, task / blocks / heads.headCount)
      let first = block * Self.blockRows
      let rows = first..<min(first + Self.blockRows, queryRows)
      let queryStart = (sequence * queryRows + first) * heads.queryColumns + head * heads.headDimension
      let keyStart =
        sequence * keyRows * heads.keyValueColumns + heads.keyValueHead(of: head) * heads.headDimension
      let view = unsafe HeadView(
        queries: q + queryStart, keys: k + keyStart, values: v + keyStart, result: out + queryStart,
        queryStride: heads.queryColumns, keyStride: heads.keyValueColumns)
      let seen = rows.map(visible)
      let scores = unsafe scratch(worker, count: rows.count * (seen.last ?? 0))
      unsafe attend(view, visible: seen, dimension: heads.headDimension, scores)
    }
  }

  /// One head's attention for a block of query rows; `scores` has room for rows · the most visible keys.
  private func attend(_ head: HeadView, visible: [Int], dimension: Int, _ scores: UnsafeMutablePointer<Float>) {
    let (rows, keyCount) = (visible.count, visible.last ?? 0)
    let (queryStride, keyStride) = (blasint(head.queryStride), blasint(head.keyStride))
    let scale = 1 / Float(dimension).squareRoot()
    if rows == 1 {
      unsafe cblas_sgemv(
        CblasRowMajor, CblasNoTrans, blasint(keyCount), blasint(dimension), scale, head.keys, keyStride,
        head.queries, 1, 0, scores, 1)
    } else {
      unsafe cblas_sgemm(
        CblasRowMajor, CblasNoTrans, CblasTrans, blasint(rows), blasint(keyCount), blasint(dimension), scale,
        head.queries, queryStride, head.keys, keyStride, 0, scores, blasint(keyCount))
    }
    for row in 0..<rows {
      let all = unsafe UnsafeMutableBufferPointer(start: scores + row * keyCount, count: keyCount)
      let seen = unsafe UnsafeMutableBufferPointer(rebasing: all.prefix(visible[row]))
      var row = unsafe seen.mutableSpan
      softmax(&row)
      unsafe all.dropFirst(seen.count).update(repeating: 0)
    }
    if rows == 1 {
      unsafe cblas_sgemv(
        CblasRowMajor, CblasTrans, blasint(keyCount), blasint(dimension), 1, head.values, keyStride,
        scores, 1, 0, head.result, 1)
    } else {
      unsafe cblas_sgemm(
        CblasRowMajor, CblasNoTrans, CblasNoTrans, blasint(rows), blasint(dimension), blasint(keyCount), 1,
        scores, blasint(keyCount), head.values, keyStride, 0, head.result, queryStride)
    }
  }

  /// How much the last query attends to every key: softmax over all keys per head, then the mean over heads.
  ///
  /// - Parameters:
  ///   - queries: Rotated queries, of which the last row counts, `[T, heads · d]`.
  ///   - keys: Rotated keys of the whole sequence, `[S, kvHeads · d]`.
  /// - Returns: One mean probability per key.
  ///
  /// Cost: S·heads·d multiply-adds. Source: PyramidDrop's rank step, one row instead of all.
  package func lastRowAttention(queries: borrowing Matrix, keys: borrowing Matrix, heads: HeadLayout) -> [Float] {
    precondition(
      queries.rows > 0 && keys.rows > 0 && queries.columns == heads.queryColumns
        && keys.columns == heads.keyValueColumns,
      "lastRowAttention: queries \(queries.rows)×\(queries.columns), keys \(keys.rows)×\(keys.columns), \(heads)")
    let (keyCount, dimension) = (keys.rows, heads.headDimension)
    ledger.add(.attention, keyCount * heads.queryColumns)
    let probabilities = Matrix(rows: heads.headCount, columns: keyCount)
    let (query, key, out) = unsafe (
      queries.base + (queries.rows - 1) * queries.columns, keys.base, probabilities.base
    )
    workers.run(tasks: heads.headCount) { head, _ in
      let row = unsafe UnsafeMutableBufferPointer(start: out + head * keyCount, count: keyCount)
      unsafe cblas_sgemv(
        CblasRowMajor, CblasNoTrans, blasint(keyCount), blasint(dimension), 1 / Float(dimension).squareRoot(),
        key + heads.keyValueHead(of: head) * dimension, blasint(heads.keyValueColumns),
        query + head * dimension, 1, 0, row.baseAddress, 1)
      var scores = unsafe row.mutableSpan
      softmax(&scores)
    }
    var mean = [Float](repeating: 0, count: keyCount)
    for head in 0..<heads.headCount {
      let row = probabilities.row(head)
      for i in row.indices { mean[i] += row[i] }
    }
    return mean.map { $0 / Float(heads.headCount) }
  }
}
