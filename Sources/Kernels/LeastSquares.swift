/// Linear least squares: the `x` that minimizes `‖A x - y‖²`.
///
/// - Parameters:
///   - matrix: `A`, `[y.count, columns]`, row-major.
///   - columns: The number of unknowns, at most `y.count`.
///   - y: The right-hand side.
/// - Returns: `x`, `[columns]`; `nil` if the columns of `A` are linearly dependent.
///
/// Cost: about 2·rows·columns² multiply-adds. Source: Golub and Van Loan, Matrix Computations, Householder QR.
package func leastSquares(_ matrix: [Double], columns: Int, _ y: [Double]) -> [Double]? {
  precondition(
    columns > 0 && matrix.count == columns * y.count && y.count >= columns,
    "leastSquares: \(matrix.count) numbers, \(columns) columns, \(y.count) values")
  let rows = y.count
  // The columns of A, then y; reflections turn A into the upper triangle R, and y into its right-hand side.
  var a = (0..<columns).map { column in (0..<rows).map { matrix[$0 * columns + column] } } + [y]
  var diagonal = [Double](repeating: 0, count: columns)
  for k in 0..<columns {
    let whole = norm(a[k][...])
    let length = norm(a[k][k...])
    // What is left of a dependent column is rounding error.
    guard length > 1e-13 * whole else { return nil }
    // The sign avoids cancellation.
    diagonal[k] = a[k][k] > 0 ? -length : length
    var reflector = Array(a[k][k...])
    reflector[0] -= diagonal[k]
    let square = dot(reflector[...], reflector[...])
    for column in k + 1...columns {
      let scale = 2 * dot(reflector[...], a[column][k...]) / square
      for i in reflector.indices { a[column][k + i] -= scale * reflector[i] }
    }
  }
  var x = [Double](repeating: 0, count: columns)
  for k in (0..<columns).reversed() {
    let known = (k + 1..<columns).reduce(0) { $0 + a[$1][k] * x[$1] }
    x[k] = (a[columns][k] - known) / diagonal[k]
  }
  return x
}

private func norm(_ x: ArraySlice<Double>) -> Double { dot(x, x).squareRoot() }

private func dot(_ x: ArraySlice<Double>, _ y: ArraySlice<Double>) -> Double {
  zip(x, y).reduce(0) { $0 + $1.0 * $1.1 }
}
