import CKernels

/// RMSNorm: divides each row by its root mean square, then multiplies by the norm weight.
///
/// - Parameters:
///   - y: The result, `[T, D]`.
///   - x: The input, `[T, D]`.
///   - weight: One factor per column, `[D]`.
///   - epsilon: Added to the mean square.
/// - Precondition: `y` and `x` have the same count, a multiple of `weight.count`.
///
/// Source: Zhang and Sennrich 2019, Root Mean Square Layer Normalization.
package func rmsNorm(_ y: inout MutableSpan<Float>, _ x: Span<Float>, weight: Span<Float>, epsilon: Float) {
  let columns = weight.count
  precondition(
    x.count == y.count && x.count.isMultiple(of: columns), "rmsNorm: x \(x.count), y \(y.count), D \(columns)")
  for t in 0..<x.count / columns {
    let row = x.row(t, columns: columns)
    var out = y.row(t, columns: columns)
    let scale = 1 / (sumOfSquares(row) / Float(columns) + epsilon).squareRoot()
    for i in row.indices { out[i] = row[i] * scale * weight[i] }
  }
}

/// LayerNorm: subtracts each row's mean, divides by its standard deviation, multiplies by a weight and adds a bias.
///
/// - Parameters:
///   - y: The result, `[T, D]`.
///   - x: The input, `[T, D]`.
///   - weight: One factor per column, `[D]`.
///   - bias: One offset per column, `[D]`.
///   - epsilon: Added to the variance.
/// - Precondition: `y` and `x` have the same count, a multiple of `weight.count`; `bias.count` equals `weight.count`.
///
/// Source: Ba, Kiros and Hinton 2016, Layer Normalization.
package func layerNorm(
  _ y: inout MutableSpan<Float>, _ x: Span<Float>, weight: Span<Float>, bias: Span<Float>, epsilon: Float
) {
  let columns = weight.count
  precondition(
    x.count == y.count && x.count.isMultiple(of: columns) && bias.count == columns,
    "layerNorm: x \(x.count), y \(y.count), D \(columns), bias \(bias.count)")
  for t in 0..<x.count / columns {
    let row = x.row(t, columns: columns)
    var out = y.row(t, columns: columns)
    let mean = sum(row) / Float(columns)
    for i in row.indices { out[i] = row[i] - mean }
    let scale = 1 / (sumOfSquares(out.span) / Float(columns) + epsilon).squareRoot()
    for i in row.indices { out[i] = out[i] * scale * weight[i] + bias[i] }
  }
}

extension ComputeContext {
  /// `rmsNorm` of all rows of `x`, `[T, D]`, in parallel; `y` is resized.
  package func rmsNorm(_ y: inout Matrix, _ x: borrowing Matrix, weight: [Float], epsilon: Float) {
    let (input, factors, columns) = (x.span, weight.span, x.columns)
    precondition(
      weight.count == columns && y.columns == columns, "rmsNorm: weight \(weight.count), D \(columns), y \(y.columns)")
    y.resize(rows: x.rows)
    workers.forEachBlock(of: &y) { first, count, block in
      let rows = input.extracting(first * columns..<(first + count) * columns)
      Kernels.rmsNorm(&block, rows, weight: factors, epsilon: epsilon)
    }
  }

  /// `layerNorm` of all rows of `x`, `[T, D]`, in parallel; `y` is resized.
  package func layerNorm(_ y: inout Matrix, _ x: borrowing Matrix, weight: [Float], bias: [Float], epsilon: Float) {
    let (input, factors, offsets, columns) = (x.span, weight.span, bias.span, x.columns)
    precondition(
      weight.count == columns && y.columns == columns, "layerNorm: weight \(weight.count), D \(columns), y \(y.columns)"
    )
    y.resize(rows: x.rows)
    workers.forEachBlock(of: &y) { first, count, block in
      let rows = input.extracting(first * columns..<(first + count) * columns)
      Kernels.layerNorm(&block, rows, weight: factors, bias: offsets, epsilon: epsilon)
    }
  }
}

/// The activation function between two linear layers.
package enum Activation: String, Sendable {
  /// CLIP's approximation of GELU: `x · sigmoid(1.702 x)`.
  case quickGELU = "quick_gelu"
  /// `x · Φ(x)` with the normal distribution function Φ.
  case gelu
  /// `x · sigmoid(x)`.
  case silu

  var code: pdrop_activation {
    switch self {
    case .quickGELU: pdrop_quick_gelu
    case .gelu: pdrop_gelu
    case .silu: pdrop_silu
    }
  }
}

extension ComputeContext {
  /// The gated activation of an MLP, in parallel: `gate = silu(gate) · up` per element.
  ///
  /// - Precondition: `gate` and `up` are `[T, F]`.
  ///
  /// Source: Shazeer 2020, GLU Variants Improve Transformer.
  package func gatedSiLU(_ gate: inout Matrix, _ up: borrowing Matrix) {
    precondition(gate.rows == up.rows && gate.columns == up.columns, "gatedSiLU: shapes differ")
    let (input, columns) = unsafe (up.base, up.columns)
    workers.forEachBlock(of: &gate) { first, _, block in
      unsafe block.withUnsafeMutableBufferPointer { block in
        unsafe pdrop_gated_silu(block.baseAddress, input + first * columns, block.count)
      }
    }
  }
}

/// `e^x` with a relative error of at most 2e-7 for `x` in -87...88; `x` is clamped to that range.
///
/// Splits `x = n·ln 2 + r` with an integer `n`, evaluates a polynomial for `e^r` on |r| <= ln 2 / 2, and adds `n` to
/// the exponent. Branch-free, so that loops over it vectorize.
///
/// Source: the coefficients of `expf` in the Cephes library.
@inline(__always)
package func exponential(_ x: Float) -> Float {
  let low: Float = x < -87 ? -87 : x
  let clamped: Float = low > 88 ? 88 : low
  // Adding 1.5·2^23 rounds to an integer, which then occupies the low mantissa bits.
  let shifted = clamped * 1.442695041 + 12_582_912
  let n = shifted - 12_582_912
  let r = clamped - n * 0.693359375 - n * -2.12194440e-4
  var p: Float = 1.9875691500e-4
  p = p * r + 1.3981999507e-3
  p = p * r + 8.3334519073e-3
  p = p * r + 4.1665795894e-2
  p = p * r + 1.6666665459e-1
  p = p * r + 5.0000001201e-1
  p = p * r * r + r + 1
  return Float(bitPattern: p.bitPattern &+ (shifted.bitPattern &- 0x4B40_0000) << 23)
}

/// Softmax in place, with the maximum subtracted first.
///
/// - Parameter x: Finite values, at least one.
///
/// The relative error is at most 1e-6 for values up to 8 below the maximum. For lower values, rounding the distance
/// from the maximum adds half a unit in its last place (2e-6 at a distance of 40).
package func softmax(_ x: inout MutableSpan<Float>) {
  let largest = maximum(x.span)
  for i in x.indices { x[i] = exponential(x[i] - largest) }
  let scale = 1 / sum(x.span)
  for i in x.indices { x[i] = x[i] * scale }
}

/// Accumulators of a fold: a fixed number of lanes, so that it vectorizes and gives the same bits on every CPU.
typealias Lanes = InlineArray<32, Float>

/// The sum of all values.
package func sum(_ x: Span<Float>) -> Float { fold(x, start: 0, +, combine: +) }

/// The sum of the squares of all values.
package func sumOfSquares(_ x: Span<Float>) -> Float { fold(x, start: 0, { $0 + $1 * $1 }, combine: +) }

/// The maximum; -infinity for an empty span.
package func maximum(_ x: Span<Float>) -> Float { fold(x, start: -.infinity, larger, combine: larger) }

@inline(__always)
private func larger(_ a: Float, _ b: Float) -> Float { b > a ? b : a }

/// Folds blocks of 32 values into lanes and the lanes into one value; then folds the remaining values one by one.
@inline(__always)
private func fold(
  _ x: Span<Float>, start: Float, _ step: (Float, Float) -> Float, combine: (Float, Float) -> Float
) -> Float {
  var lanes = Lanes(repeating: start)
  let blocks = x.count / 32
  for b in 0..<blocks {
    let block = x.row(b, columns: 32)
    for l in 0..<32 { lanes[l] = step(lanes[l], block[l]) }
  }
  var width = 16
  while width > 0 {
    for l in 0..<width { lanes[l] = combine(lanes[l], lanes[l + width]) }
    width /= 2
  }
  var result = lanes[0]
  for i in blocks * 32..<x.count { result = step(result, x[i]) }
  return result
}
