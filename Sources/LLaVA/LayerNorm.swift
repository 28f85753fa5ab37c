import Kernels
import ModelFormats

/// Weight and bias of a LayerNorm, `[D]` each.
struct LayerNorm: Sendable {
  let weight: [Float]
  let bias: [Float]

  init(_ scope: CheckpointScope, size: Int) throws(CheckpointError) {
    weight = try scope.vector("weight", count: size)
    bias = try scope.vector("bias", count: size)
  }

  init(weight: [Float], bias: [Float]) { (self.weight, self.bias) = (weight, bias) }

  /// The norm with outliers divided out, for a compute type of the layers that read it.
  ///
  /// int8 has one scale for all values of a row, so that a channel with far larger values than the others leaves them few
  /// steps. The weight of such a channel is divided by a factor, and the same column of the layers that follow is to be
  /// multiplied by it, where each output has a scale. Factors are powers of two: without rounding, nothing changes.
  ///
  /// Source: SmoothQuant (arXiv 2211.10438), with the norm's own weights in place of measured activations.
  ///
  /// - Returns: The norm, and the factors of the columns, `[D]`; `nil` if no channel is an outlier, or the type is not
  ///   int8.
  func balanced(for computeType: ComputeType) -> (LayerNorm, columnFactors: [Float]?) {
    guard computeType == .int8 else { return (self, nil) }
    // Normalized values seldom exceed four standard deviations.
    let magnitudes = zip(weight, bias).map { 4 * abs($0) + abs($1) }
    let median = magnitudes.sorted()[magnitudes.count / 2]
    let factors = magnitudes.map { magnitude -> Float in
      let ratio = magnitude / (Self.outlierRatio * median)
      guard ratio >= 2, ratio.isFinite else { return 1 }
      return Float(sign: .plus, exponent: ratio.exponent, significand: 1)
    }
    guard factors.contains(where: { $0 > 1 }) else { return (self, nil) }
    let norm = LayerNorm(weight: zip(weight, factors).map { $0 / $1 }, bias: zip(bias, factors).map { $0 / $1 })
    return (norm, factors)
  }

  /// How much larger than the median the channels may remain.
  private static let outlierRatio: Float = 4
}
