/// The area of an image on its single view, or on the canvas of its tiles, in pixels.
///
/// The rest is padding. Edges may be fractions of a pixel.
package struct ImageArea: Sendable, Equatable {
  package var rows: Range<Double>
  package var columns: Range<Double>

  package init(rows: Range<Double>, columns: Range<Double>) { (self.rows, self.columns) = (rows, columns) }

  /// Whether a patch shows only padding.
  ///
  /// - Parameters:
  ///   - row: The row of the patch, from the top.
  ///   - column: The column of the patch, from the left.
  ///   - side: The side of a patch in pixels.
  package func misses(row: Int, column: Int, side: Int) -> Bool {
    func range(_ index: Int) -> Range<Double> { Double(index * side)..<Double((index + 1) * side) }
    return !rows.overlaps(range(row)) || !columns.overlaps(range(column))
  }
}
