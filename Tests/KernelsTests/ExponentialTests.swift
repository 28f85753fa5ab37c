import Foundation
import Kernels
import TestSupport
import Testing

@Suite struct ExponentialTests {
  @Test func `is within its documented error on the whole range`() {
    var worst = 0.0
    for i in 0...100_000 {
      let x = -87 + 175 * Float(i) / 100_000
      let expected = exp(Double(x))
      worst = max(worst, abs(Double(exponential(x)) - expected) / expected)
    }
    #expect(worst <= 2e-7, "worst relative error \(worst)")
  }

  @Test func `clamps values outside its range`() {
    #expect(exponential(-1000) == exponential(-87))
    #expect(exponential(.infinity) == exponential(88))
    #expect(exponential(0) == 1)
  }

  /// Spreads of at most 8 and of at most 40 below the maximum, with their error bounds.
  @Test(arguments: [1, 31, 32, 33, 4096], [(Float(4), 1e-6), (20, 3e-6)])
  func `softmax is within its documented error`(count: Int, spread: (Float, Double)) {
    var numbers = SeededGenerator(UInt64(count))
    let scores = numbers.floats(count, in: -spread.0...spread.0)
    var found = scores
    var span = found.mutableSpan
    softmax(&span)
    let powers = scores.map { exp(Double($0)) }
    let total = powers.reduce(0, +)
    let difference = Difference.relative(found, powers.map { Float($0 / total) })
    #expect(difference.largest <= spread.1, "\(difference)")
  }
}
