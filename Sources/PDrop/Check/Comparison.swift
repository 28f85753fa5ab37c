/// The difference between what was found and what was expected, and where.
struct Comparison {
  /// The axes of a tensor, outermost first, and the sizes of all but the first.
  struct Axes {
    var names: [String]
    var innerSizes: [Int]

    static func list(_ name: String) -> Axes { Axes(names: [name], innerSizes: []) }
    static func rows(of columns: Int) -> Axes { Axes(names: ["row", "column"], innerSizes: [columns]) }
    static func views(of size: Int) -> Axes {
      Axes(names: ["view", "channel", "row", "column"], innerSizes: [3, size, size])
    }

    /// Where the value at an index of the flat list lies.
    func coordinates(_ index: Int) -> [StageResult.Place.Coordinate] {
      var (rest, indices) = (index, [Int]())
      for size in innerSizes.reversed() {
        indices.insert(rest % size, at: 0)
        rest /= size
      }
      return zip(names, [rest] + indices).map { StageResult.Place.Coordinate(axis: $0, index: $1) }
    }
  }

  /// As an `Allowance` measures it.
  var difference = 0.0
  var place: StageResult.Place?

  /// Compares numbers; the place is that of the largest difference.
  static func numbers(
    _ found: [Float], _ expected: [Float], _ allowance: Allowance, _ axes: Axes
  ) -> Comparison {
    guard found.count == expected.count else { return sizes(found.count, expected.count, axes) }
    var (largest, worst, sum) = (0.0, 0, 0.0)
    for i in found.indices {
      var difference = abs(Double(found[i]) - Double(expected[i]))
      if case .relative = allowance { difference /= max(abs(Double(expected[i])), .leastNormalMagnitude) }
      sum += difference
      // Written so that NaN counts as a difference.
      if !(difference <= largest) { (largest, worst) = (difference.isNaN ? .infinity : difference, i) }
    }
    guard largest > 0 else { return Comparison() }
    if case .mean = allowance, largest < .infinity { largest = sum / Double(found.count) }
    return Comparison(
      difference: largest,
      place: StageResult.Place(
        coordinates: axes.coordinates(worst), expected: "\(expected[worst])", found: "\(found[worst])"))
  }

  /// Compares entries that must be equal; the place is the first that is not.
  static func entries<Entry: Equatable>(_ found: [Entry], _ expected: [Entry], _ axes: Axes) -> Comparison {
    let unequal = zip(found, expected).enumerated().filter { $1.0 != $1.1 }.map(\.offset)
    guard let first = unequal.first else { return sizes(found.count, expected.count, axes) }
    return Comparison(
      difference: Double(unequal.count + abs(found.count - expected.count)),
      place: StageResult.Place(
        coordinates: axes.coordinates(first), expected: "\(expected[first])", found: "\(found[first])"))
  }

  /// Compares texts; the place shows both from the first character that differs.
  static func texts(_ found: String, _ expected: String) -> Comparison {
    let axes = Axes.list("character")
    let (foundScalars, expectedScalars) = (Array(found.unicodeScalars), Array(expected.unicodeScalars))
    var comparison = entries(foundScalars, expectedScalars, axes)
    guard comparison.place != nil else { return comparison }
    let start = zip(foundScalars, expectedScalars).prefix { $0 == $1 }.count
    func rest(_ scalars: [Unicode.Scalar]) -> String {
      String(String.UnicodeScalarView(scalars.dropFirst(start).prefix(40))).debugDescription
    }
    comparison.place = StageResult.Place(
      coordinates: axes.coordinates(start), expected: rest(expectedScalars), found: rest(foundScalars))
    return comparison
  }

  /// Compares the sizes of what has no difference so far.
  private static func sizes(_ found: Int, _ expected: Int, _ axes: Axes) -> Comparison {
    guard found != expected else { return Comparison() }
    let inner = axes.innerSizes.reduce(1, *)
    func size(_ count: Int) -> String { "\(count / inner) \(axes.names[0])\(count / inner == 1 ? "" : "s")" }
    return Comparison(
      difference: .infinity,
      place: StageResult.Place(coordinates: [], expected: size(expected), found: size(found)))
  }
}
