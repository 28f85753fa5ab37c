internal import Kernels

/// Reproducible random numbers for tests.
public struct SeededNumbers {
  private var generator: SplitMix64

  public init(_ seed: UInt64) { generator = SplitMix64(seed: seed) }

  /// Numbers from `range`, evenly distributed.
  public mutating func floats(_ count: Int, in range: ClosedRange<Float> = -1...1) -> [Float] {
    (0..<count).map { _ in Float.random(in: range, using: &generator) }
  }

  public mutating func integer(in range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &generator) }
}
