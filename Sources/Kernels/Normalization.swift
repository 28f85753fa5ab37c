/// Divides each row by its root mean square, then multiplies by a gain.
///
/// - Parameters:
///   - y: The result, `[T, D]`.
///   - x: The input, `[T, D]`.
///   - gain: One factor per column, `[D]`.
///   - epsilon: Added to the mean square.
/// - Precondition: `y` and `x` have the same count, a multiple of `gain.count`.
///
/// Source: Zhang and Sennrich 2019, Root Mean Square Layer Normalization.
package func rmsNorm(_ y: inout MutableSpan<Float>, _ x: Span<Float>, gain: Span<Float>, epsilon: Float) {
  let columns = gain.count
  precondition(
    x.count == y.count && x.count.isMultiple(of: columns), "rmsNorm: x \(x.count), y \(y.count), D \(columns)")
  for t in 0..<x.count / columns {
    let row = x.row(t, columns: columns)
    var out = y.row(t, columns: columns)
    let scale = 1 / (sumOfSquares(row) / Float(columns) + epsilon).squareRoot()
    for i in row.indices { out[i] = row[i] * scale * gain[i] }
  }
}

/// Subtracts each row's mean, divides by its standard deviation, then multiplies by a gain and adds a bias.
///
/// - Parameters:
///   - y: The result, `[T, D]`.
///   - x: The input, `[T, D]`.
///   - gain: One factor per column, `[D]`.
///   - bias: One summand per column, `[D]`.
///   - epsilon: Added to the variance.
/// - Precondition: `y` and `x` have the same count, a multiple of `gain.count`, which is that of `bias`.
///
/// Source: Ba, Kiros and Hinton 2016, Layer Normalization.
package func layerNorm(
  _ y: inout MutableSpan<Float>, _ x: Span<Float>, gain: Span<Float>, bias: Span<Float>, epsilon: Float
) {
  let columns = gain.count
  precondition(
    x.count == y.count && x.count.isMultiple(of: columns) && bias.count == columns,
    "layerNorm: x \(x.count), y \(y.count), D \(columns), bias \(bias.count)")
  for t in 0..<x.count / columns {
    let row = x.row(t, columns: columns)
    var out = y.row(t, columns: columns)
    let mean = sum(row) / Float(columns)
    for i in row.indices { out[i] = row[i] - mean }
    let scale = 1 / (sumOfSquares(out.span) / Float(columns) + epsilon).squareRoot()
    for i in row.indices { out[i] = out[i] * scale * gain[i] + bias[i] }
  }
}

extension Compute {
  /// `rmsNorm` of all rows of `x`, in parallel.
  package func rmsNorm(_ y: inout Matrix, _ x: borrowing Matrix, gain: [Float], epsilon: Float) {
    let (input, factors, columns) = (x.span, gain.span, x.columns)
    precondition(
      gain.count == columns && y.columns == columns, "rmsNorm: gain \(gain.count), D \(columns), y \(y.columns)")
    y.resize(rows: x.rows)
    workers.forEachBlock(of: &y) { first, count, block in
      let rows = input.extracting(first * columns..<(first + count) * columns)
      Kernels.rmsNorm(&block, rows, gain: factors, epsilon: epsilon)
    }
  }

  /// `layerNorm` of all rows of `x`, in parallel.
  package func layerNorm(_ y: inout Matrix, _ x: borrowing Matrix, gain: [Float], bias: [Float], epsilon: Float) {
    let (input, factors, summands, columns) = (x.span, gain.span, bias.span, x.columns)
    precondition(
      gain.count == columns && y.columns == columns, "layerNorm: gain \(gain.count), D \(columns), y \(y.columns)")
    y.resize(rows: x.rows)
    workers.forEachBlock(of: &y) { first, count, block in
      let rows = input.extracting(first * columns..<(first + count) * columns)
      Kernels.layerNorm(&block, rows, gain: factors, bias: summands, epsilon: epsilon)
    }
  }
}
