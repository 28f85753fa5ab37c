import Evaluation
import Testing

@Suite struct PairedDifferenceTests {
  @Test func `counts what only one side has right`() throws {
    // Ten questions: both right 4, this alone 3, the other alone 1, none 2.
    let right = Array(repeating: true, count: 7) + Array(repeating: false, count: 3)
    let other = Array(repeating: true, count: 4) + [false, false, false, true, false, false]
    let paired = PairedDifference(right, other)
    #expect((paired.count, paired.gained, paired.lost) == (10, 3, 1))
    // (3 - 1) / 10 = 0.2; variance (3 + 1 - 2² / 10) / 100 = 0.036, 1.96 of its root 0.3719.
    let interval = try #require(paired.interval)
    #expect(abs(interval.difference - 0.2) < 1e-12)
    #expect(abs(interval.low - (0.2 - 0.371877)) < 1e-5 && abs(interval.high - (0.2 + 0.371877)) < 1e-5)
    #expect(!paired.isSignificant)
  }

  @Test func `is significant when one side gains alone, often enough`() {
    var paired = PairedDifference()
    #expect(paired.interval == nil && !paired.isSignificant)
    // 8 of 100: 0.08 ± 1.96 · √(8 - 0.64) / 100 = ± 0.053.
    for question in 0..<100 { paired.add(true, other: question >= 8) }
    #expect(paired.isSignificant)
  }
}
