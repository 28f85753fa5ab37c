/// What a decoder layer takes for `n` rows, as `a + b n + c n²`: what it takes at least, products, and attention.
package struct LayerCostFit: Sendable, Equatable {
  /// Milliseconds.
  package let a: Double
  /// Milliseconds per row.
  package let b: Double
  /// Milliseconds per row and row.
  package let c: Double
  /// Root of the mean squared relative difference between the fit and what it was fitted to.
  package let residual: Double

  /// Fits what was measured so that the squared relative differences are least: short times count as much as long ones.
  ///
  /// - Parameter measured: At least three different numbers of rows and their milliseconds, all above zero.
  /// - Returns: `nil` when the measurements do not say what the curve is.
  package init?(_ measured: [(rows: Int, milliseconds: Double)]) {
    guard Set(measured.map(\.rows)).count >= 3, let most = measured.map(\.rows).max(), most > 0,
      measured.allSatisfy({ $0.milliseconds > 0 })
    else { return nil }
    // Columns of like size: the rows as shares of the most.
    var matrix: [Double] = []
    for (rows, milliseconds) in measured {
      let share = Double(rows) / Double(most)
      matrix += [1 / milliseconds, share / milliseconds, share * share / milliseconds]
    }
    guard let x = leastSquares(matrix, columns: 3, measured.map { _ in 1 }) else { return nil }
    let fit = Self(a: x[0], b: x[1] / Double(most), c: x[2] / Double(most * most), residual: 0)
    let differences = measured.map { fit.milliseconds($0.rows) / $0.milliseconds - 1 }
    let meanSquare = differences.reduce(0) { $0 + $1 * $1 } / Double(differences.count)
    self.init(a: fit.a, b: fit.b, c: fit.c, residual: meanSquare.squareRoot())
  }

  private init(a: Double, b: Double, c: Double, residual: Double) {
    (self.a, self.b, self.c, self.residual) = (a, b, c, residual)
  }

  /// Milliseconds for so many rows.
  package func milliseconds(_ rows: Int) -> Double { a + Double(rows) * (b + Double(rows) * c) }
}
