import CLAPACKE

/// The numbers `x` for which `A x` comes nearest to `y`: of all, the least sum of squared differences.
///
/// - Parameters:
///   - matrix: `A`, `[y.count, columns]`, row-major; its columns are independent.
///   - columns: How many numbers are sought, at most as many as there are rows.
///   - y: What `A x` should be.
/// - Returns: `x`, or `nil` when the columns are not independent.
///
/// Source: LAPACK's `dgels`, a QR factorisation.
package func leastSquares(_ matrix: [Double], columns: Int, _ y: [Double]) -> [Double]? {
  precondition(
    columns > 0 && matrix.count == columns * y.count && y.count >= columns,
    "leastSquares: \(matrix.count) numbers, \(columns) columns, \(y.count) values")
  var (factors, solution) = (matrix, y)
  let status = unsafe LAPACKE_dgels(
    LAPACK_ROW_MAJOR, CChar(UInt8(ascii: "N")), Int32(y.count), Int32(columns), 1, &factors,
    Int32(columns), &solution, 1)
  return status == 0 ? Array(solution.prefix(columns)) : nil
}
