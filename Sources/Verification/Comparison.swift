/// The difference between found and expected values, and its location.
struct Comparison {
  /// The names of a tensor's axes, outermost first, and the sizes of all but the outermost.
  struct Axes {
    var names: [String]
    var innerSizes: [Int]

    static func list(_ name: String) -> Axes { Axes(names: [name], innerSizes: []) }
    static func rows(of columns: Int) -> Axes { Axes(names: ["row", "column"], innerSizes: [columns]) }
    static func views(of size: Int) -> Axes {
      Axes(names: ["view", "channel", "row", "column"], innerSizes: [3, size, size])
    }

    /// The coordinates of a flat index.
    func coordinates(_ index: Int) -> [StageResult.Place.Coordinate] {
      var (rest, indices) = (index, [Int]())
      for size in innerSizes.reversed() {
        indices.insert(rest % size, at: 0)
        rest /= size
      }
      return zip(names, [rest] + indices).map { StageResult.Place.Coordinate(axis: $0, index: $1) }
    }
  }

  /// The difference in the unit of the `Tolerance`.
  var difference = 0.0
  var place: StageResult.Place?

  /// Compares numbers; the location is that of the largest difference.
  static func numbers(
    _ found: [Float], _ expected: [Float], _ tolerance: Tolerance, _ axes: Axes
  ) -> Comparison {
    guard found.count == expected.count else { return sizes(found.count, expected.count, axes) }
    var (largest, worst, sum) = (0.0, 0, 0.0)
    for i in found.indices {
      var difference = abs(Double(found[i]) - Double(expected[i]))
      if case .relative = tolerance { difference /= max(abs(Double(expected[i])), .leastNormalMagnitude) }
      sum += difference
      // The negated condition makes NaN count as a difference.
      if !(difference <= largest) { (largest, worst) = (difference.isNaN ? .infinity : difference, i) }
    }
    guard largest > 0 else { return Comparison() }
    if case .mean = tolerance, largest < .infinity { largest = sum / Double(found.count) }
    return Comparison(
      difference: largest,
      place: StageResult.Place(
        coordinates: axes.coordinates(worst), expected: "\(expected[worst])", found: "\(found[worst])"))
  }

  /// Compares entries that must be equal; the location is the first mismatch.
  static func entries<Entry: Equatable>(_ found: [Entry], _ expected: [Entry], _ axes: Axes) -> Comparison {
    let unequal = zip(found, expected).enumerated().filter { $1.0 != $1.1 }.map(\.offset)
    guard let first = unequal.first else { return sizes(found.count, expected.count, axes) }
    return Comparison(
      difference: Double(unequal.count + abs(found.count - expected.count)),
      place: StageResult.Place(
        coordinates: axes.coordinates(first), expected: "\(expected[first])", found: "\(found[first])"))
  }

  /// Compares texts; the location shows both from the first different character.
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

  /// Compares sizes, after the common elements were equal.
  private static func sizes(_ found: Int, _ expected: Int, _ axes: Axes) -> Comparison {
    guard found != expected else { return Comparison() }
    let inner = axes.innerSizes.reduce(1, *)
    func size(_ count: Int) -> String { "\(count / inner) \(axes.names[0])\(count / inner == 1 ? "" : "s")" }
    return Comparison(
      difference: .infinity,
      place: StageResult.Place(coordinates: [], expected: size(expected), found: size(found)))
  }
}

/// A stage of the pipeline from prompt and images to the answer.
package struct CheckStage: Sendable, Hashable {
  /// The compared quantity; raw values are the names in the reference's files. The order is that of the pipeline.
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
    /// The last prompt row before the first decoder layer.
    case embedding
    /// The last prompt row after each layer of a range.
    case layers = "hidden_last"
    /// The layer and the token counts of a drop.
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
  /// The run, for stages that depend on the policy.
  package var run: String?
  /// The file of the image.
  package var image: String?
  /// The compared layers, for `layers`.
  package var layers: ClosedRange<Int>?
  /// The layer after the drop, for the stages of a drop.
  package var layer: Int?
}

/// The tolerance for a stage's difference from the reference.
package enum Tolerance: Sendable, Hashable {
  /// No difference; the difference is the number of unequal entries.
  case none
  /// A maximum absolute difference.
  case absolute(Double)
  /// A maximum difference relative to the expected value.
  case relative(Double)
  /// A maximum mean absolute difference.
  case mean(Double)

  package var limit: Double {
    switch self {
    case .none: 0
    case .absolute(let limit), .relative(let limit), .mean(let limit): limit
    }
  }
}

/// The result of comparing one stage.
package struct StageResult: Sendable {
  /// The location of the largest difference, or of the first mismatch of entries that must be equal.
  package struct Place: Sendable, Hashable {
    /// An index along an axis.
    package struct Coordinate: Sendable, Hashable {
      package var axis: String
      package var index: Int
    }

    /// Empty for tensors of different sizes.
    package var coordinates: [Coordinate]
    package var expected: String
    package var found: String
  }

  package var stage: CheckStage
  package var tolerance: Tolerance
  /// The difference in the unit of `tolerance`; infinite for different sizes and NaN.
  package var difference: Double
  /// `nil` if there is no difference.
  package var place: Place?

  package var agrees: Bool { difference <= tolerance.limit }
}

extension Tolerance {
  // The tolerances of the goldens' README, for a plain f32 engine on any CPU.

  /// One level per pixel, as resizing may round differently; for a JPEG one level on average, as decoders differ.
  static func pixels(isJPEG: Bool) -> Tolerance { isJPEG ? .mean(1) : .absolute(1) }
  static let pixelValues = absolute(1e-6)
  static let features = absolute(2e-4)
  static let scores = relative(2e-3)
  static let hiddenStates = absolute(3e-3)
  static let logits = absolute(3e-3)
}
