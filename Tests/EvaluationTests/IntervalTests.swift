import Evaluation
import Testing

@Suite struct IntervalTests {
  /// 8 of 10: Wilson's interval is 0.490 to 0.943.
  @Test func `computes the Wilson interval of a proportion`() {
    let found = proportion(8, of: 10)
    #expect(found.share == 0.8)
    #expect(abs(found.low - 0.4902) < 1e-4 && abs(found.high - 0.9433) < 1e-4)
  }

  /// Scores 0, 1, 1, 0.5: mean 0.625; squares of the differences 0.390625 + 2 * 0.140625 + 0.015625 = 0.6875, over 3
  /// 0.229167, over 4 again 0.0572917, root 0.239357; times 1.959964 0.469131.
  @Test func `computes the interval of a mean from its standard error`() throws {
    let found = mean([0, 1, 1, 0.5])
    let interval = try #require(found.interval)
    #expect(found.mean == 0.625)
    #expect(abs(interval.low - 0.155869) < 1e-5 && interval.high == 1)
    #expect(mean([0.25]).interval == nil)
  }

  /// 50 of 100: the normal interval is 0.5 -+ 1.96 * 0.05; the bootstrap agrees within one or two items of 100.
  @Test func `the bootstrap finds the interval of a proportion`() throws {
    let hits = (0..<100).map { $0 % 2 }
    let interval = try #require(bootstrap(100) { Double($0.map { hits[$0] }.reduce(0, +)) / 100 })
    #expect(abs(interval.low - 0.402) < 0.03 && abs(interval.high - 0.598) < 0.03)
    #expect(bootstrap(1) { _ in 1 } == nil)
  }

  /// 60 -+ 6 and 80 -+ 8: 70 -+ sqrt(36 + 64) / 2.
  @Test func `computes the interval of a mean of independent parts`() {
    let parts = [
      Metric("a", 60, Interval(54, 66), count: 10), Metric("b", 80, Interval(72, 88), count: 20),
      Metric("none", 0, nil, count: 0),
    ]
    let found = Metric.meanOfParts("mean", parts)
    #expect(found == Metric("mean", 70, Interval(65, 75), count: 30))
  }
}
