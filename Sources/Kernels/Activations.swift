#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The gate of a feed-forward block: each `gate` becomes `silu(gate) · up`, with `silu(x) = x · sigmoid(x)`.
///
/// - Precondition: Both have the same count.
///
/// Source: Shazeer 2020, GLU Variants Improve Transformer.
package func gatedSiLU(_ gate: inout MutableSpan<Float>, _ up: Span<Float>) {
  precondition(gate.count == up.count, "gatedSiLU: gate \(gate.count), up \(up.count)")
  for i in up.indices { gate[i] = gate[i] * sigmoid(gate[i]) * up[i] }
}

/// `x · sigmoid(1.702 x)`, CLIP's approximation of GELU.
package func quickGELU(_ x: inout MutableSpan<Float>) {
  for i in x.indices { x[i] = x[i] * sigmoid(1.702 * x[i]) }
}

/// `x · Φ(x)` with the normal distribution function, by the error function.
///
/// Source: Hendrycks and Gimpel 2016, Gaussian Error Linear Units.
package func gelu(_ x: inout MutableSpan<Float>) {
  for i in x.indices { x[i] = 0.5 * x[i] * (1 + erf(x[i] * 0.70710678)) }
}

/// The functions that may stand between two linear layers.
package enum Activation: String, Sendable {
  case quickGELU = "quick_gelu"
  case gelu
  case silu
}

extension Compute {
  /// `gatedSiLU` of whole matrices, in parallel.
  package func gatedSiLU(_ gate: inout Matrix, _ up: borrowing Matrix) {
    precondition(gate.rows == up.rows && gate.columns == up.columns, "gatedSiLU: shapes differ")
    let (input, columns) = (up.span, up.columns)
    workers.forEachBlock(of: &gate) { first, count, block in
      Kernels.gatedSiLU(&block, input.extracting(first * columns..<(first + count) * columns))
    }
  }

  /// Applies an activation to every value, in parallel.
  package func apply(_ activation: Activation, to x: inout Matrix) {
    workers.forEachBlock(of: &x) { _, _, block in
      switch activation {
      case .quickGELU: Kernels.quickGELU(&block)
      case .gelu: Kernels.gelu(&block)
      case .silu: for i in block.indices { block[i] = block[i] * sigmoid(block[i]) }
      }
    }
  }
}
