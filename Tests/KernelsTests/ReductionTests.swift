import Kernels
import TestSupport
import Testing

@Suite struct ReductionTests {
  /// Sizes around the 32 lanes of a fold.
  static let sizes = [1, 31, 32, 33, 63, 64, 65, 4096]

  @Test(arguments: sizes)
  func `agrees with plain loops in double precision`(count: Int) {
    var numbers = SeededGenerator(UInt64(count))
    let values = numbers.floats(count)
    // Each of `count` roundings has an error of at most 2^-24 of a partial sum, which is at most `count`.
    let bound = Double(count * count) * 0x1p-24
    #expect(abs(Double(sum(values.span)) - values.reduce(0.0) { $0 + Double($1) }) <= bound)
    #expect(abs(Double(sumOfSquares(values.span)) - values.reduce(0.0) { $0 + Double($1) * Double($1) }) <= bound)
    #expect(maximum(values.span) == values.max())
  }

  @Test func `an empty span has sum 0 and maximum -infinity`() {
    let none: [Float] = []
    #expect(sum(none.span) == 0)
    #expect(maximum(none.span) == -.infinity)
  }
}
