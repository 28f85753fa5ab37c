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
