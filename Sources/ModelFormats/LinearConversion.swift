package import Kernels

/// What becomes of linear layers as they are loaded.
package struct LinearConversion {
  package let arithmetic: Arithmetic
  package let workers: Workers
  /// Keeps converted weights for later; `nil` to convert them at every load.
  private let cache: WeightsCache?

  /// Layers stay as stored, for products in f32.
  package static var none: LinearConversion { LinearConversion(to: .f32, workers: Workers(count: 1)) }

  /// - Parameter workers: Convert a layer's rows in parallel.
  package init(to arithmetic: Arithmetic, workers: Workers, cache: WeightsCache? = nil) {
    self.arithmetic = arithmetic
    self.workers = workers
    self.cache = cache
  }

  /// The layer for products in this arithmetic.
  ///
  /// - Parameter name: Its weight's, which no other layer has.
  package func callAsFunction(_ stored: Linear, named name: String) -> Linear {
    guard let cache, stored.needsConversion(to: arithmetic) else {
      return stored.converted(to: arithmetic, workers: workers)
    }
    return cache.converted(stored, named: name, to: arithmetic)
  }
}
