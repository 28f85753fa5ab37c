import Foundation
import Kernels
import TestSupport
import Testing

@Suite struct ExponentialTests {
  @Test func `is within its documented error on the whole range`() {
    var worst = 0.0
    let values = (0...100_000).map { -87 + 175 * Float($0) / 100_000 }
    for (x, found) in zip(values, exponentials(values)) {
      let expected = exp(Double(x))
      worst = max(worst, abs(Double(found) - expected) / expected)
    }
    #expect(worst <= 2e-7, "worst relative error \(worst)")
  }

  @Test func `clamps values outside its range`() {
    let found = exponentials([-1000, -87, .infinity, 88, 0])
    #expect(found[0] == found[1])
    #expect(found[2] == found[3])
    #expect(found[4] == 1)
  }

  private func exponentials(_ values: [Float]) -> [Float] {
    var found = values
    var span = found.mutableSpan
    Kernels.exponentials(&span)
    return found
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
