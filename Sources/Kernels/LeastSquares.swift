import CLAPACKE

/// Linear least squares: the `x` that minimizes `‖A x - y‖²`.
///
/// - Parameters:
///   - matrix: `A`, `[y.count, columns]`, row-major.
///   - columns: The number of unknowns, at most `y.count`.
///   - y: The right-hand side.
/// - Returns: `x`, `[columns]`; `nil` if the columns of `A` are linearly dependent.
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
