package import Kernels

extension ComputeContext {
  /// Cosines of all pairs of rows, symmetric, `[N, N]`.
  ///
  /// Rows with the same bits have the cosine 1 and the same cosines with all others, so that ties between them are
  /// exact. A row of zeros has the cosine 0 with every row, itself included.
  ///
  /// - Parameters:
  ///   - x: `[N, D]`.
  ///   - input: The name of `x` in errors.
  /// - Throws: `SelectionError.notFinite`.
  ///
  /// Cost: N·N·D multiply-adds, and N·D for the norms.
  package func cosines(_ x: borrowing Matrix, _ input: String) throws(SelectionError) -> Matrix {
    let unit = try unitRows(x, input)
    var result = Matrix(rows: 0, columns: max(1, x.rows))
    guard x.rows > 0 else { return result }
    matmul(&result, unit, by: Linear(weight: Tensor(unit.values, shape: [x.rows, x.columns])), .ranking)

    let (count, first) = (x.rows, firstEqualRows(unit))
    let isZero = (0..<count).map { maximumMagnitude(unit.row($0)) == 0 }
    var values = result.mutableSpan
    for i in 0..<count {
      for j in 0..<i { values[i * count + j] = values[j * count + i] }
      values[i * count + i] = isZero[i] ? 0 : 1
    }
    for i in 0..<count where first[i] < i {
      for j in 0..<count { values[i * count + j] = values[first[i] * count + j] }
      for j in 0..<count { values[j * count + i] = values[i * count + j] }
      values[i * count + i] = isZero[i] ? 0 : 1
    }
    return result
  }

  /// Cosines of the rows of `x` with those of `y`, `[N, M]`; equal rows of either have equal cosines.
  ///
  /// - Throws: `SelectionError.notFinite`.
  ///
  /// Cost: N·M·D multiply-adds, and (N + M)·D for the norms.
  package func cosines(
    _ x: borrowing Matrix, _ xName: String, with y: borrowing Matrix, _ yName: String
  ) throws(SelectionError) -> Matrix {
    let left = try unitRows(x, xName)
    let right = try unitRows(y, yName)
    var result = Matrix(rows: 0, columns: max(1, y.rows))
    guard x.rows > 0, y.rows > 0 else { return result }
    matmul(&result, left, by: Linear(weight: Tensor(right.values, shape: [y.rows, y.columns])), .ranking)
    let (firstRow, firstColumn, count) = (firstEqualRows(left), firstEqualRows(right), y.rows)
    var values = result.mutableSpan
    for i in 0..<x.rows {
      for j in 0..<count { values[i * count + j] = values[firstRow[i] * count + firstColumn[j]] }
    }
    return result
  }

  /// The rows divided by their Euclidean norms; rows of zeros stay as they are.
  private func unitRows(_ x: borrowing Matrix, _ input: String) throws(SelectionError) -> Matrix {
    let columns = x.columns
    try requireFinite(x.span, columns: columns, input)
    ledger.add(.ranking, x.count)
    var unit = Matrix(rows: x.rows, columns: columns)
    let source = x.span
    var target = unit.mutableSpan
    for row in 0..<x.rows {
      let from = source.row(row, columns: columns)
      // The squares of large and small values are out of the range of floats.
      let largest = maximumMagnitude(from)
      guard largest > 0 else { continue }
      var to = target.row(row, columns: columns)
      for i in to.indices { to[i] = from[i] / largest }
      let norm = sumOfSquares(to.span).squareRoot()
      for i in to.indices { to[i] = to[i] / norm }
    }
    return unit
  }

  /// For each row the index of the first row with the same bits.
  private func firstEqualRows(_ x: borrowing Matrix) -> [Int] {
    var (first, found) = ([Int](), [Int: [Int]]())
    for row in 0..<x.rows {
      let values = x.row(row)
      var hasher = Hasher()
      for i in values.indices { hasher.combine(values[i]) }
      let hash = hasher.finalize()
      let equal = found[hash, default: []].first { other in
        let others = x.row(other)
        return values.indices.allSatisfy { values[$0] == others[$0] }
      }
      first.append(equal ?? row)
      if equal == nil { found[hash, default: []].append(row) }
    }
    return first
  }

  private func maximumMagnitude(_ x: Span<Float>) -> Float {
    var largest: Float = 0
    for i in x.indices { largest = max(largest, abs(x[i])) }
    return largest
  }
}
