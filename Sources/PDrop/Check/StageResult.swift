/// A stage of the way from a prompt and its pictures to an answer, in the order of that way.
package struct CheckStage: Sendable, Hashable {
  /// What is compared; the raw values are the names of the reference's files.
  package enum Kind: String, Sendable, Codable, CaseIterable {
    case prompt
    case promptTokens = "prompt_ids"
    case pixels = "pixels_u8"
    case pixelValues = "pixel_values"
    case towerInput = "vision_hidden_0"
    case towerOutput = "vision_hidden_select"
    case features
    case imageSpans = "image_spans"
    case sequenceLength = "sequence_length"
    /// The last prompt row in front of the first layer.
    case embedding
    /// The last prompt row behind each of some layers.
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
  /// The picture's file.
  package var picture: String?
  /// Of `layers`: which.
  package var layers: ClosedRange<Int>?
  /// Of the stages of a drop: the layer in front of which it happens.
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
