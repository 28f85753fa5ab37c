/// The largest difference between two lists of numbers, and its index; infinite if their lengths differ.
public struct Difference: CustomStringConvertible {
  public var largest = 0.0
  public var index = 0
  public var expected = 0.0
  public var found = 0.0

  /// The largest absolute difference.
  public static func absolute(_ found: [Float], _ expected: [Float]) -> Difference {
    Difference(found, expected) { _ in 1 }
  }

  /// The largest difference relative to the expected value.
  public static func relative(_ found: [Float], _ expected: [Float]) -> Difference {
    Difference(found, expected) { max(abs($0), .leastNormalMagnitude) }
  }

  /// The largest difference relative to the largest expected value.
  public static func relativeToLargest(_ found: [Float], _ expected: [Float]) -> Difference {
    let largest = Double(expected.map(abs).max() ?? 1)
    return Difference(found, expected) { _ in largest }
  }

  private init(_ found: [Float], _ expected: [Float], scale: (Double) -> Double) {
    guard found.count == expected.count else {
      largest = .infinity
      (self.expected, self.found) = (Double(expected.count), Double(found.count))
      return
    }
    for i in found.indices {
      let difference = abs(Double(found[i]) - Double(expected[i])) / scale(Double(expected[i]))
      // The negated comparison counts NaN as a difference.
      if !(difference <= largest) {
        (largest, index) = (difference.isNaN ? .infinity : difference, i)
        (self.expected, self.found) = (Double(expected[i]), Double(found[i]))
      }
    }
  }

  public var description: String { "\(largest) at \(index): expected \(expected), found \(found)" }
}
