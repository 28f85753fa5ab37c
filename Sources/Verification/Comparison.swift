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

/// A stage of the way from a prompt and its images to an answer, in the order of that way.
package struct CheckStage: Sendable, Hashable {
  /// What is compared; the raw values are the names of the reference's files.
  package enum Kind: String, Sendable, Codable, CaseIterable {
    case prompt
    case promptTokens = "prompt_ids"
    case pixels = "pixels_u8"
    case pixelValues = "pixel_values"
    case visionEncoderInput = "vision_hidden_0"
    case visionEncoderOutput = "vision_hidden_select"
    case features
    case imageSpans = "image_spans"
    case sequenceLength = "sequence_length"
    /// The last prompt row before the first layer.
    case embedding
    /// The last prompt row after each of some layers.
    case layers = "hidden_last"
    /// Where a drop happens and what it is given.
    case drop = "stages"
    case scores
    case kept
    case cacheLengthsAfterPrompt = "kv_len_prefill"
    case lastLogits = "last_logits"
    case tokens
    case finalLogits = "final_logits"
    case text
    case cacheLengthsAtEnd = "kv_len_end"
  }

  package var kind: Kind
  /// The run, for the stages that every policy goes through for itself.
  package var run: String?
  /// The image's file.
  package var image: String?
  /// Of `layers`: which.
  package var layers: ClosedRange<Int>?
  /// Of the stages of a drop: the layer before which it happens.
  package var layer: Int?
}

/// How much a stage may differ from the reference.
package enum Allowance: Sendable, Hashable {
  /// Not at all; the difference is how many entries are not equal.
  case none
  /// By this much.
  case absolute(Double)
  /// By this share of the expected value.
  case relative(Double)
  /// By this much on average.
  case mean(Double)

  package var limit: Double {
    switch self {
    case .none: 0
    case .absolute(let limit), .relative(let limit), .mean(let limit): limit
    }
  }
}

/// What became of a stage's comparison.
package struct StageResult: Sendable {
  /// Where two values differ most, or first if they must be equal.
  package struct Place: Sendable, Hashable {
    /// An index along an axis.
    package struct Coordinate: Sendable, Hashable {
      package var axis: String
      package var index: Int
    }

    /// Empty when the two have different sizes.
    package var coordinates: [Coordinate]
    package var expected: String
    package var found: String
  }

  package var stage: CheckStage
  package var allowance: Allowance
  /// As the allowance measures it; infinite where sizes differ or something is not a number.
  package var difference: Double
  /// `nil` where nothing differs.
  package var place: Place?

  package var agrees: Bool { difference <= allowance.limit }
}

extension Allowance {
  // The tolerances that the goldens' README gives, for a plain float32 engine on any CPU.

  /// Levels of a pixel: one, where a resize rounds differently; of a JPEG on average, since decoders differ.
  static func pixels(isJPEG: Bool) -> Allowance { isJPEG ? .mean(1) : .absolute(1) }
  static let pixelValues = absolute(1e-6)
  static let features = absolute(2e-4)
  static let scores = relative(2e-3)
  static let hiddenStates = absolute(3e-3)
  static let logits = absolute(3e-3)
}
