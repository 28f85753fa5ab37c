/// One number of a benchmark's result.
package struct Measure: Sendable, Equatable {
  package var name: String
  /// In the benchmark's own scale: percent, or points.
  package var value: Double
  /// That of 95%; `nil` where there is too little to tell.
  package var interval: Interval?
  /// Questions, or pictures, that it is of.
  package var count: Int
  /// Whether it belongs into a short table.
  package var isMain: Bool

  package init(_ name: String, _ value: Double, _ interval: Interval?, count: Int, isMain: Bool = true) {
    (self.name, self.value, self.interval, self.count, self.isMain) = (name, value, interval, count, isMain)
  }

  /// The share of questions answered rightly, in percent.
  static func share(_ name: String, _ hits: Int, of count: Int, isMain: Bool = true) -> Measure {
    guard count > 0 else { return Measure(name, 0, nil, count: 0, isMain: isMain) }
    let share = proportion(hits, of: count)
    return Measure(
      name, 100 * share.share, Interval(max(0, share.low), min(1, share.high)).scaled(by: 100), count: count,
      isMain: isMain)
  }

  static func share(_ name: String, _ hits: [Bool], isMain: Bool = true) -> Measure {
    share(name, hits.count { $0 }, of: hits.count, isMain: isMain)
  }

  /// The mean of scores of 0 to 1, in percent.
  static func mean(_ name: String, _ scores: [Double], isMain: Bool = true) -> Measure {
    guard !scores.isEmpty else { return Measure(name, 0, nil, count: 0, isMain: isMain) }
    let mean = Evaluation.mean(scores)
    return Measure(name, 100 * mean.mean, mean.interval?.scaled(by: 100), count: scores.count, isMain: isMain)
  }

  /// The mean of independent numbers in percent, each counting as much as another.
  ///
  /// Half its interval is the root of the sum of the squares of theirs, over their number.
  package static func meanOfParts(_ name: String, _ parts: [Measure]) -> Measure {
    let parts = parts.filter { $0.count > 0 }
    let n = Double(max(1, parts.count))
    let value = parts.reduce(0) { $0 + $1.value } / n
    let halves = parts.compactMap { $0.interval.map { ($0.high - $0.low) / 2 } }
    let half = halves.reduce(0) { $0 + $1 * $1 }.squareRoot() / n
    let isKnown = halves.count == parts.count && !parts.isEmpty
    return Measure(
      name, value, isKnown ? Interval(max(0, value - half), min(100, value + half)) : nil,
      count: parts.reduce(0) { $0 + $1.count })
  }
}

/// The result of a benchmark.
package struct Score: Sendable, Equatable {
  package var measures: [Measure]
  /// What a reader has to know to compare the numbers with others'.
  package var notes: [String]

  init(_ measures: [Measure], notes: [String] = []) { (self.measures, self.notes) = (measures, notes) }

  package subscript(name: String) -> Measure? { measures.first { $0.name == name } }
}

/// Items by a key, keys in the order of their first item.
func grouped<Key: Hashable, Item>(_ items: [Item], by key: (Item) -> Key) -> [(key: Key, items: [Item])] {
  let groups = Dictionary(grouping: items.enumerated(), by: { key($0.element) })
  return groups.sorted { $0.value[0].offset < $1.value[0].offset }.map { ($0.key, $0.value.map(\.element)) }
}
