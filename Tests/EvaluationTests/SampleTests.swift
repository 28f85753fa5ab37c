import Evaluation
import Testing

@Suite struct SampleTests {
  @Test func `the median is the middle value, or the mean of the two middle values`() {
    #expect(Sample([3, 1, 2]).median == 2)
    #expect(Sample([4, 1, 3, 2]).median == 2.5)
    #expect(Sample([7]).median == 7)
    #expect(Sample().median.isNaN)
  }

  @Test func `the deviation is that of a sample`() {
    // Squared distances from the mean 5: 9 + 1 + 1 + 1 + 0 + 0 + 4 + 16 = 32, over 7.
    #expect(Sample([2, 4, 4, 4, 5, 5, 7, 9]).deviation == (32.0 / 7).squareRoot())
    #expect(Sample([2]).deviation == 0)
    #expect(Sample([2, 9, 4]).best == 9)
  }
}
