internal import Kernels

/// What lies between two bounds, both included.
package struct Interval: Equatable, Sendable {
  package var low: Double
  package var high: Double

  package init(_ low: Double, _ high: Double) { (self.low, self.high) = (low, high) }

  func scaled(by factor: Double) -> Interval { Interval(low * factor, high * factor) }
}

/// The mean of scores of 0 to 1, and its 95% interval from their standard deviation.
///
/// - Precondition: There is a score.
package func mean(_ scores: [Double]) -> (mean: Double, interval: Interval?) {
  let n = Double(scores.count)
  let mean = scores.reduce(0, +) / n
  guard scores.count > 1 else { return (mean, nil) }
  let variance = scores.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (n - 1)
  let half = normalQuantile * (variance / n).squareRoot()
  return (mean, Interval(max(0, mean - half), min(1, mean + half)))
}

/// The 95% interval of a statistic that has no simple formula: what it is of as many items drawn anew, again and again.
///
/// - Parameter statistic: The statistic of items by their numbers, which may repeat.
/// - Returns: `nil` for fewer than two items.
///
/// Source: Efron 1979, Bootstrap methods: another look at the jackknife; the percentiles of 1,000 draws.
package func bootstrap(_ count: Int, _ statistic: ([Int]) -> Double) -> Interval? {
  guard count > 1 else { return nil }
  // Seeded, so that equal answers have equal intervals.
  var generator = SplitMix64(seed: 1)
  let draws = (0..<1000).map { _ in
    statistic((0..<count).map { _ in Int(generator.next() % UInt64(count)) })
  }.sorted()
  return Interval(draws[25], draws[974])
}
