import Kernels

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

/// A share and its 95% interval.
///
/// Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.
package func proportion(_ hits: Int, of count: Int) -> (share: Double, low: Double, high: Double) {
  let (n, share, z) = (Double(count), Double(hits) / Double(count), normalQuantile)
  let middle = (share + z * z / (2 * n)) / (1 + z * z / n)
  let half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)).squareRoot()
  return (share, max(0, middle - half), min(1, middle + half))
}

/// How many standard deviations on either side of the mean hold 95% of a normal distribution.
let normalQuantile = 1.959964

/// By how much more of the same questions one way to answer gets right than another.
package struct PairedDifference: Sendable, Equatable {
  /// Questions.
  package private(set) var count = 0
  /// Right by this way alone, and by the other alone.
  package private(set) var (gained, lost) = (0, 0)

  package init() {}

  package init(_ right: [Bool], _ other: [Bool]) {
    precondition(right.count == other.count, "PairedDifference: \(right.count) and \(other.count) questions")
    for (right, other) in zip(right, other) { add(right, other: other) }
  }

  package mutating func add(_ right: Bool, other: Bool) {
    count += 1
    if right && !other { gained += 1 }
    if other && !right { lost += 1 }
  }

  /// The difference of the shares and its 95% interval; `nil` before the first question.
  ///
  /// Answers to the same questions go together, so the interval is narrower than those of the shares themselves.
  ///
  /// Source: the Wald interval of a difference of paired proportions, in Agresti, Categorical Data Analysis, 11.1.
  package var interval: (difference: Double, low: Double, high: Double)? {
    guard count > 0 else { return nil }
    let (n, gained, lost) = (Double(count), Double(gained), Double(lost))
    let difference = (gained - lost) / n
    let variance = (gained + lost - (gained - lost) * (gained - lost) / n) / (n * n)
    let half = 1.959964 * max(0, variance).squareRoot()
    return (difference, difference - half, difference + half)
  }

  /// Whether the interval leaves out zero.
  package var isSignificant: Bool { interval.map { $0.low > 0 || $0.high < 0 } ?? false }
}

/// Measurements of one thing, repeated.
package struct Sample: Sendable, Equatable {
  package private(set) var values: [Double]

  package init(_ values: [Double] = []) { self.values = values }

  package mutating func append(_ value: Double) { values.append(value) }

  package func map(_ transform: (Double) -> Double) -> Sample { Sample(values.map(transform)) }

  /// The middle one, or the mean of the two in the middle; not a number if there are none.
  package var median: Double {
    let sorted = values.sorted()
    guard let last = sorted.last else { return .nan }
    let middle = sorted.count / 2
    return sorted.count == 1
      ? last : sorted.count.isMultiple(of: 2) ? (sorted[middle - 1] + sorted[middle]) / 2 : sorted[middle]
  }

  package var mean: Double { values.reduce(0, +) / Double(values.count) }

  /// The standard deviation of what the values are a sample of; 0 for fewer than two.
  package var deviation: Double {
    guard values.count > 1 else { return 0 }
    let mean = mean
    return (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count - 1)).squareRoot()
  }

  package var best: Double { values.max() ?? .nan }
}
