package import Kernels

/// What becomes of linear layers as they are loaded.
package struct LinearConversion: Sendable {
  package let arithmetic: Arithmetic
  package let workers: Workers

  /// Layers stay as stored, for products in f32.
  package static let none = LinearConversion(to: .f32, workers: Workers(count: 1))

  /// - Parameter workers: Convert a layer's rows in parallel.
  package init(to arithmetic: Arithmetic, workers: Workers) {
    self.arithmetic = arithmetic
    self.workers = workers
  }

  /// The layer for products in this arithmetic.
  package func callAsFunction(_ stored: Linear) -> Linear { stored.converted(to: arithmetic, workers: workers) }
}
