import Kernels
import TestSupport
import Testing

@Suite struct SelectionTests {
  @Test(
    arguments: [
      ([3, 1, 2], 2, [0, 2]), ([1, 1, 1, 1], 2, [0, 1]), ([0, 5, 5, 7], 2, [1, 3]), ([1, 2], 0, []), ([], 0, []),
      ([.nan, 1, -.infinity], 1, [1]), ([.nan, .nan, 1], 2, [0, 2]),
    ] as [([Float], Int, [Int])])
  func `returns the largest in ascending order; ties prefer lower indices`(scores: [Float], count: Int, expected: [Int])
  {
    #expect(topIndices(scores, count: count) == expected)
  }

  @Test func `agrees with a full sort`() {
    var numbers = SeededGenerator(1)
    for count in [0, 1, 31, 32, 500] {
      // Only 21 distinct values, so that ties are common.
      let scores = (0..<500).map { _ in Float(numbers.next(0...20)) }
      let plain = scores.enumerated().sorted { ($1.element, $0.offset) < ($0.element, $1.offset) }.prefix(count)
      #expect(topIndices(scores, count: count) == plain.map(\.offset).sorted())
    }
  }

  @Test func `index of the maximum is the first one of ties`() {
    #expect(indexOfMaximum([1, 3, 3]) == 1)
    #expect(indexOfMaximum([.nan, -.infinity]) == 1)
    #expect(indexOfMaximum([.nan]) == nil)
    #expect(indexOfMaximum([]) == nil)
  }
}

@Suite struct SelectionOfLastTests {
  @Test func `uses the listed indices only after all others`() {
    let scores: [Float] = [9, 1, 8, .nan, 2, 7]
    #expect(topIndices(scores, count: 2, last: [0, 2]) == [4, 5])
    #expect(topIndices(scores, count: 4, last: [0, 2]) == [1, 3, 4, 5])
    #expect(topIndices(scores, count: 5, last: [0, 2]) == [0, 1, 3, 4, 5])
    #expect(topIndices(scores, count: 6, last: [0, 1, 2, 3, 4, 5]) == [0, 1, 2, 3, 4, 5])
    #expect(topIndices(scores, count: 3, last: []) == [0, 2, 5])
    #expect(topIndices([], count: 0, last: []) == [])
  }
}
