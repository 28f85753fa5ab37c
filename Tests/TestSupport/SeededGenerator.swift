import Kernels

/// A seeded random number generator for tests.
public struct SeededGenerator: RandomNumberGenerator {
  private var generator: SplitMix64

  public init(_ seed: UInt64) { generator = SplitMix64(seed: seed) }

  public mutating func next() -> UInt64 { generator.next() }

  /// An integer from `range`.
  public mutating func next(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }

  /// Uniformly distributed numbers from `range`.
  public mutating func floats(_ count: Int, in range: ClosedRange<Float> = -1...1) -> [Float] {
    (0..<count).map { _ in Float.random(in: range, using: &self) }
  }
}
