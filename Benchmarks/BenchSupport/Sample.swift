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
