import Evaluation
import Testing

@Suite struct PairedDifferenceTests {
  @Test func `counts questions that only one side answers correctly`() throws {
    // Ten questions: both correct 4, only this 3, only the other 1, neither 2.
    let correct = Array(repeating: true, count: 7) + Array(repeating: false, count: 3)
    let other = Array(repeating: true, count: 4) + [false, false, false, true, false, false]
    let paired = PairedDifference(correct, other)
    #expect((paired.count, paired.gained, paired.lost) == (10, 3, 1))
    // (3 - 1) / 10 = 0.2; variance (3 + 1 - 2² / 10) / 100 = 0.036, 1.96 times its root is 0.3719.
    let interval = try #require(paired.interval)
    #expect(abs(interval.difference - 0.2) < 1e-12)
    #expect(abs(interval.low - (0.2 - 0.371877)) < 1e-5 && abs(interval.high - (0.2 + 0.371877)) < 1e-5)
    #expect(!paired.isSignificant)
  }

  @Test func `is significant for a large one-sided difference`() {
    var paired = PairedDifference()
    #expect(paired.interval == nil && !paired.isSignificant)
    // 8 of 100: 0.08 ± 1.96 · √(8 - 0.64) / 100 = ± 0.053.
    for question in 0..<100 { paired.add(true, other: question >= 8) }
    #expect(paired.isSignificant)
  }
}
