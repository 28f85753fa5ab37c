import CKernels

extension ComputeContext {
  /// RMSNorm: divides each row by its root mean square, then multiplies by the norm weight.
  ///
  /// - Parameters:
  ///   - y: The result, `[T, D]`; resized.
  ///   - x: The input, `[T, D]`.
  ///   - weight: One factor per column, `[D]`.
  ///   - epsilon: Added to the mean square.
  ///
  /// Source: Zhang and Sennrich 2019, Root Mean Square Layer Normalization.
  package func rmsNorm(_ y: inout Matrix, _ x: borrowing Matrix, weight: [Float], epsilon: Float) {
    norm(&y, x, Norm(weight: weight, bias: nil, epsilon: epsilon))
  }

  /// LayerNorm: subtracts each row's mean, divides by its standard deviation, multiplies by a weight and adds a bias.
  ///
  /// - Parameters:
  ///   - y: The result, `[T, D]`; resized.
  ///   - x: The input, `[T, D]`.
  ///   - weight: One factor per column, `[D]`.
  ///   - bias: One offset per column, `[D]`.
  ///   - epsilon: Added to the variance.
  ///
  /// Source: Ba, Kiros and Hinton 2016, Layer Normalization.
  package func layerNorm(_ y: inout Matrix, _ x: borrowing Matrix, weight: [Float], bias: [Float], epsilon: Float) {
    norm(&y, x, Norm(weight: weight, bias: bias, epsilon: epsilon))
  }

  private func norm(_ y: inout Matrix, _ x: borrowing Matrix, _ norm: Norm) {
    precondition(
      norm.weight.count == x.columns && y.columns == x.columns && norm.bias?.count ?? x.columns == x.columns,
      "norm: weight \(norm.weight.count), bias \(norm.bias?.count ?? 0), D \(x.columns), y \(y.columns)")
    y.resize(rows: x.rows)
    unsafe workers.forEachBlock(of: &y, (norm, x.base)) { context, first, count, block in
      let (norm, input) = unsafe context
      unsafe norm(&block, input + first * norm.weight.count, rows: count)
    }
  }
}

/// The norm of a row: RMSNorm, or with a bias LayerNorm.
private struct Norm {
  let weight: [Float]
  let bias: [Float]?
  let epsilon: Float

  func callAsFunction(_ y: inout MutableSpan<Float>, _ x: UnsafePointer<Float>, rows: Int) {
    let columns = weight.count
    unsafe y.withUnsafeMutableBufferPointer { y in
      unsafe weight.withUnsafeBufferPointer { weight in
        guard let bias else {
          return unsafe pdrop_rms_norm(y.baseAddress, x, rows, columns, weight.baseAddress, epsilon)
        }
        unsafe bias.withUnsafeBufferPointer { bias in
          unsafe pdrop_layer_norm(y.baseAddress, x, rows, columns, weight.baseAddress, bias.baseAddress, epsilon)
        }
      }
    }
  }
}

/// The activation function between two linear layers.
package enum Activation: String, Sendable {
  /// CLIP's approximation of GELU: `x · sigmoid(1.702 x)`.
  case quickGELU = "quick_gelu"
  /// `x · Φ(x)` with the normal distribution function Φ.
  case gelu
  /// SigLIP's approximation of GELU: `x · (1 + tanh(√(2 / π) · (x + 0.044715 x³))) / 2`.
  case tanhGELU = "gelu_pytorch_tanh"
  /// `x · sigmoid(x)`.
  case silu

  var code: pdrop_activation {
    switch self {
    case .quickGELU: pdrop_quick_gelu
    case .gelu: pdrop_gelu
    case .tanhGELU: pdrop_tanh_gelu
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
    unsafe workers.forEachBlock(of: &gate, (up: up.base, columns: up.columns)) { context, first, _, block in
      let input = unsafe context.up + first * context.columns
      unsafe block.withUnsafeMutableBufferPointer { unsafe pdrop_gated_silu($0.baseAddress, input, $0.count) }
    }
  }
}

/// Replaces each value by `e^(x - origin)`, with a relative error of at most 2e-7 for differences of -87 to 88.
/// Differences are clamped to that range.
package func exponentials(_ x: inout MutableSpan<Float>, origin: Float = 0) {
  unsafe x.withUnsafeMutableBufferPointer { unsafe pdrop_exponentials($0.baseAddress, $0.count, origin) }
}

/// Softmax in place, with the maximum subtracted first.
///
/// - Parameter x: Finite values, at least one.
///
/// The relative error is at most 1e-6 for values up to 8 below the maximum. For lower values, rounding the distance
/// from the maximum adds half a unit in its last place (2e-6 at a distance of 40).
package func softmax(_ x: inout MutableSpan<Float>) {
  exponentials(&x, origin: maximum(x.span))
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
