import Kernels

/// A closed interval; as a confidence interval, always of 95%.
package struct Interval: Equatable, Sendable {
  package var low: Double
  package var high: Double

  package init(_ low: Double, _ high: Double) { (self.low, self.high) = (low, high) }

  func scaled(by factor: Double) -> Interval { Interval(low * factor, high * factor) }
}

/// The mean of scores from 0 to 1 and its 95% confidence interval, from the standard error of the mean.
///
/// - Precondition: `scores` is not empty.
package func mean(_ scores: [Double]) -> (mean: Double, interval: Interval?) {
  let sample = Sample(scores)
  let mean = sample.mean
  guard scores.count > 1 else { return (mean, nil) }
  let half = normalQuantile * (sample.variance / Double(scores.count)).squareRoot()
  return (mean, Interval(max(0, mean - half), min(1, mean + half)))
}

/// The bootstrap 95% confidence interval of a statistic: percentiles of 1,000 resamples with replacement.
///
/// - Parameters:
///   - count: The number of items.
///   - statistic: The statistic of the items at some indices, which may repeat.
/// - Returns: The interval; `nil` for fewer than two items.
///
/// Source: Efron 1979, Bootstrap methods: another look at the jackknife.
package func bootstrap(_ count: Int, _ statistic: ([Int]) -> Double) -> Interval? {
  guard count > 1 else { return nil }
  // A fixed seed, so that equal answers have equal intervals.
  var generator = SplitMix64(seed: 1)
  let resampled = (0..<1000).map { _ in
    statistic((0..<count).map { _ in Int(generator.next() % UInt64(count)) })
  }.sorted()
  return Interval(resampled[25], resampled[974])
}

/// A proportion and its Wilson 95% confidence interval, from 0 to 1.
///
/// Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.
package func proportion(_ hits: Int, of count: Int) -> (share: Double, low: Double, high: Double) {
  let (n, share, z) = (Double(count), Double(hits) / Double(count), normalQuantile)
  let middle = (share + z * z / (2 * n)) / (1 + z * z / n)
  let half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)).squareRoot()
  return (share, max(0, middle - half), min(1, middle + half))
}

/// The 97.5% quantile of the standard normal distribution, for two-sided 95% intervals.
let normalQuantile = 1.959964

/// The difference in accuracy of two configurations on the same questions.
package struct PairedDifference: Sendable, Equatable {
  /// The number of questions.
  package private(set) var count = 0
  /// Questions that only this configuration answers correctly, and those that only the other does.
  package private(set) var (gained, lost) = (0, 0)

  package init() {}

  package init(_ correct: [Bool], _ other: [Bool]) {
    precondition(correct.count == other.count, "PairedDifference: \(correct.count) and \(other.count) questions")
    for (correct, other) in zip(correct, other) { add(correct, other: other) }
  }

  package mutating func add(_ correct: Bool, other: Bool) {
    count += 1
    if correct && !other { gained += 1 }
    if other && !correct { lost += 1 }
  }

  /// The difference in accuracy and its 95% confidence interval, from -1 to 1; `nil` before the first question.
  ///
  /// Answers to the same questions are correlated, so the interval is narrower than that of independent samples.
  ///
  /// Source: the Wald interval of a difference of paired proportions, in Agresti, Categorical Data Analysis, 11.1.
  package var interval: (difference: Double, low: Double, high: Double)? {
    guard count > 0 else { return nil }
    let (n, gained, lost) = (Double(count), Double(gained), Double(lost))
    let difference = (gained - lost) / n
    let variance = (gained + lost - (gained - lost) * (gained - lost) / n) / (n * n)
    let half = normalQuantile * max(0, variance).squareRoot()
    return (difference, difference - half, difference + half)
  }

  /// Whether the interval excludes zero.
  package var isSignificant: Bool { interval.map { $0.low > 0 || $0.high < 0 } ?? false }
}

/// Repeated measurements of one quantity.
package struct Sample: Sendable, Equatable {
  package private(set) var values: [Double]

  package init(_ values: [Double] = []) { self.values = values }

  package mutating func append(_ value: Double) { values.append(value) }

  package func map(_ transform: (Double) -> Double) -> Sample { Sample(values.map(transform)) }

  /// The median, with the mean of the two middle values for an even count; NaN for an empty sample.
  package var median: Double {
    let sorted = values.sorted()
    guard let last = sorted.last else { return .nan }
    let middle = sorted.count / 2
    return sorted.count == 1
      ? last : sorted.count.isMultiple(of: 2) ? (sorted[middle - 1] + sorted[middle]) / 2 : sorted[middle]
  }

  package var mean: Double { values.reduce(0, +) / Double(values.count) }

  /// The unbiased variance, with `n - 1`; 0 for fewer than two values.
  var variance: Double {
    guard values.count > 1 else { return 0 }
    let mean = mean
    return values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count - 1)
  }

  /// The sample standard deviation; 0 for fewer than two values.
  package var deviation: Double { variance.squareRoot() }

  /// The largest value; NaN for an empty sample.
  package var best: Double { values.max() ?? .nan }
}
