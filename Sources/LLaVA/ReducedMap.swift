import Kernels
package import ModelFormats

/// A map of features that is reduced to a smaller one by bilinear interpolation.
///
/// Source: `torch.nn.functional.interpolate` with `mode="bilinear"`, without `align_corners` and `antialias`.
package struct ReducedMap: Sendable {
  /// The rows of the features in their matrix, in map order.
  private let rows: [Int]
  private let size: MapSize
  private let down: [Sample]
  private let across: [Sample]

  /// The two features on a line between which a place lies.
  private struct Sample {
    var first: Int
    var second: Int
    /// The weight of the second one; that of the first is the rest of 1.
    var weight: Float
  }

  /// - Parameters:
  ///   - rows: The rows of the features in their matrix, `size.rows · size.columns` in map order.
  ///   - size: The size of the map, at least 1 by 1.
  ///   - target: The size after the reduction.
  package init(_ rows: [Int], _ size: MapSize, to target: MapSize) {
    precondition(rows.count == size.rows * size.columns, "ReducedMap: \(rows.count) rows")
    self.rows = rows
    self.size = size
    down = Self.samples(size.rows, target.rows)
    across = Self.samples(size.columns, target.columns)
  }

  private static func samples(_ count: Int, _ target: Int) -> [Sample] {
    let scale = Float(count) / Float(target)
    return (0..<target).map { i in
      // Rounded once, as the reference's code is compiled.
      let place = max(0, (-0.5 as Float).addingProduct(scale, Float(i) + 0.5))
      let first = min(Int(place), count - 1)
      return Sample(
        first: first, second: min(first + 1, count - 1), weight: min(max(place - Float(first), 0), 1))
    }
  }

  /// The feature at a place of the reduced map.
  ///
  /// - Parameters:
  ///   - source: The matrix of the features, rows of `columns` values.
  ///   - y: The result, `[columns]`.
  package func interpolate(
    _ row: Int, _ column: Int, _ source: Span<Float>, _ columns: Int, _ y: inout MutableSpan<Float>
  ) {
    let (down, across) = (down[row], across[column])
    func feature(_ row: Int, _ column: Int) -> Int { rows[row * size.columns + column] }
    let upperLeft = source.row(feature(down.first, across.first), columns: columns)
    let upperRight = source.row(feature(down.first, across.second), columns: columns)
    let lowerLeft = source.row(feature(down.second, across.first), columns: columns)
    let lowerRight = source.row(feature(down.second, across.second), columns: columns)
    let (right, lower) = (across.weight, down.weight)
    for d in 0..<columns {
      let upperSide = upperLeft[d] * (1 - right) + upperRight[d] * right
      let lowerSide = lowerLeft[d] * (1 - right) + lowerRight[d] * right
      y[d] = upperSide * (1 - lower) + lowerSide * lower
    }
  }

  /// The row of the feature that is nearest to a place of the reduced map.
  package func nearest(_ row: Int, _ column: Int) -> Int {
    let (down, across) = (down[row], across[column])
    return rows[
      (down.weight < 0.5 ? down.first : down.second) * size.columns
        + (across.weight < 0.5 ? across.first : across.second)]
  }
}
