import Foundation
import Kernels
import TestSupport
import Testing

@Suite struct ExponentialTests {
  @Test func `is within its stated error over its whole range`() {
    var worst = 0.0
    for i in 0...100_000 {
      let x = -87 + 175 * Float(i) / 100_000
      let expected = exp(Double(x))
      worst = max(worst, abs(Double(exponential(x)) - expected) / expected)
    }
    #expect(worst <= 2e-7, "worst relative error \(worst)")
  }

  @Test func `clamps what lies outside`() {
    #expect(exponential(-1000) == exponential(-87))
    #expect(exponential(.infinity) == exponential(88))
    #expect(exponential(0) == 1)
  }

  @Test(arguments: [1, 31, 32, 33, 4096])
  func `softmax is within its stated error`(count: Int) {
    var numbers = SeededGenerator(UInt64(count))
    let scores = numbers.floats(count, in: -20...20)
    var found = scores
    var span = found.mutableSpan
    softmax(&span)
    let powers = scores.map { exp(Double($0)) }
    let total = powers.reduce(0, +)
    let difference = Difference.relative(found, powers.map { Float($0 / total) })
    #expect(difference.largest <= 1e-6, "\(difference)")
  }
}
