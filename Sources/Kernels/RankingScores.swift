#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Scores for the ranking of visual tokens, from queries, keys and values.
extension ComputeContext {
  /// Attention probabilities of the last query, or of another: softmax over the keys that it sees, per head.
  ///
  /// - Parameters:
  ///   - queries: `[T, heads · d]`; only one row is used.
  ///   - row: The row of the query; `nil` for the last one.
  ///   - keys: The keys of the whole sequence, `[S, kvHeads · d]`.
  ///   - visibleKeys: Number of keys that the query sees; `nil` for all.
  /// - Returns: The probabilities, `[heads, S]` with `S` the number of visible keys.
  ///
  /// Cost: S·heads·d multiply-adds. Source: PyramidDrop's rank step, one row instead of all.
  package func lastRowProbabilities(
    queries: borrowing Matrix, row queryRow: Int? = nil, keys: borrowing Matrix, visibleKeys: Int? = nil,
    heads: HeadLayout
  ) -> Matrix {
    precondition(
      queries.rows > 0 && keys.rows > 0 && queries.columns == heads.queryColumns
        && keys.columns == heads.keyValueColumns,
      "lastRowProbabilities: queries \(queries.rows)×\(queries.columns), keys \(keys.rows)×\(keys.columns), \(heads)")
    let (keyCount, dimension) = (visibleKeys ?? keys.rows, heads.headDimension)
    let queryIndex = queryRow ?? queries.rows - 1
    precondition(
      keyCount <= keys.rows && (0..<queries.rows).contains(queryIndex),
      "lastRowProbabilities: row \(queryIndex) of \(queries.rows), \(keyCount) of \(keys.rows) keys")
    ledger.add(.attention, keyCount * heads.queryColumns)
    let probabilities = Matrix(rows: heads.headCount, columns: keyCount)
    let (query, key, out) = unsafe (
      queries.base + queryIndex * queries.columns, keys.base, probabilities.base
    )
    workers.run(tasks: heads.headCount) { head, _ in
      let row = unsafe UnsafeMutableBufferPointer(start: out + head * keyCount, count: keyCount)
      unsafe multiply(
        out + head * keyCount, scale: 1 / Float(dimension).squareRoot(),
        key + heads.keyValueHead(of: head) * dimension, rows: keyCount, columns: dimension,
        stride: heads.keyValueColumns, query + head * dimension)
      var scores = unsafe row.mutableSpan
      softmax(&scores)
    }
    return probabilities
  }

  /// `y = scale · a · x` for a matrix `a`, `[rows, columns]`, whose rows are `stride` elements apart.
  private func multiply(
    _ y: UnsafeMutablePointer<Float>, scale: Float, _ a: UnsafePointer<Float>, rows: Int, columns: Int, stride: Int,
    _ x: UnsafePointer<Float>
  ) {
    if let openBLAS = processor.openBLAS {
      unsafe openBLAS.sgemv(y, scale: scale, a, rows: rows, columns: columns, stride: stride, x)
      return
    }
    for row in 0..<rows {
      var lanes = InlineArray<8, Float>(repeating: 0)
      for i in 0..<columns { unsafe lanes[i % 8] += a[row * stride + i] * x[i] }
      unsafe y[row] = scale * lanes.span.indices.reduce(0) { $0 + lanes[$1] }
    }
  }

  /// Euclidean norms per head and row.
  ///
  /// - Parameter x: Keys or values, `[S, kvHeads · d]`.
  /// - Returns: The norms, `[kvHeads, S]`.
  ///
  /// Cost: S·kvHeads·d multiply-adds.
  package func headNorms(_ x: borrowing Matrix, heads: HeadLayout) -> Matrix {
    precondition(x.columns == heads.keyValueColumns, "headNorms: \(x.columns) columns, \(heads)")
    ledger.add(.ranking, x.count)
    let (rows, dimension, input) = (x.rows, heads.headDimension, x.span)
    let norms = Matrix(rows: heads.keyValueHeadCount, columns: max(rows, 1))
    let base = unsafe norms.base
    workers.run(tasks: heads.keyValueHeadCount) { head, _ in
      for row in 0..<rows {
        let part = input.row(row * heads.keyValueHeadCount + head, columns: dimension)
        unsafe base[head * rows + row] = sumOfSquares(part).squareRoot()
      }
    }
    return norms
  }

  /// The mean over heads of probability times norm, per key.
  ///
  /// - Parameters:
  ///   - probabilities: `[heads, S]`.
  ///   - norms: `[kvHeads, S]`.
  /// - Returns: `[S]`.
  ///
  /// Cost: S·heads multiply-adds.
  package func weightedMean(_ probabilities: borrowing Matrix, by norms: borrowing Matrix, heads: HeadLayout) -> [Float]
  {
    precondition(
      probabilities.rows == heads.headCount && norms.rows == heads.keyValueHeadCount
        && probabilities.columns == norms.columns,
      "weightedMean: \(probabilities.rows)×\(probabilities.columns) by \(norms.rows)×\(norms.columns), \(heads)")
    ledger.add(.ranking, probabilities.count)
    var sum = [Float](repeating: 0, count: probabilities.columns)
    for head in 0..<heads.headCount {
      let (row, weights) = (probabilities.row(head), norms.row(heads.keyValueHead(of: head)))
      for i in row.indices { sum[i] += row[i] * weights[i] }
    }
    return sum.map { $0 / Float(heads.headCount) }
  }

  /// Residuals of the logarithms of values from their least-squares line.
  ///
  /// - Parameters:
  ///   - values: Probabilities, `[V]`. Zeros and NaN are excluded from the fit and give -infinity.
  ///   - places: The abscissa of each value, `[V]`.
  /// - Returns: The residuals, `[V]`; the logarithms themselves if fewer than two values can be fitted.
  ///
  /// Cost: 9 multiply-adds per value, 8 of them for the QR factorization of the fit.
  package func logResiduals(_ values: [Float], over places: [Int]) -> [Float] {
    precondition(values.count == places.count, "logResiduals: \(values.count) values, \(places.count) places")
    ledger.add(.ranking, 9 * values.count)
    let logarithms = values.map { $0 > 0 ? log(Double($0)) : -.infinity }
    let fitted = logarithms.indices.filter { logarithms[$0].isFinite }
    // Places are divided by the last one, so that both columns have a similar scale.
    let scale = 1 / Double(max(places.last ?? 1, 1))
    let line =
      fitted.count < 2
      ? nil
      : leastSquares(
        fitted.flatMap { [1, Double(places[$0]) * scale] }, columns: 2, fitted.map { logarithms[$0] })
    guard let line else { return logarithms.map(Float.init) }
    return zip(logarithms, places).map { Float($0 - line[0] - line[1] * Double($1) * scale) }
  }
}

/// The mean of each column of `x`, `[columns]`.
package func columnMeans(_ x: borrowing Matrix) -> [Float] {
  var sum = [Float](repeating: 0, count: x.columns)
  for index in 0..<x.rows {
    let row = x.row(index)
    for i in row.indices { sum[i] += row[i] }
  }
  return sum.map { $0 / Float(x.rows) }
}
