/// The positions of the remaining tokens after a drop.
public enum PositionRule: String, Sendable, Hashable, Codable, CaseIterable {
  /// Renumbered from 0 without gaps, as in PyramidDrop.
  case compact
  /// The positions in the original sequence, as in FastV.
  case original
}

/// One drop: between two layers, the best visual tokens of an image are kept and the others removed.
public struct DropStage: Sendable, Hashable {
  /// The number of layers before the drop, which is also the 0-based index of the next layer.
  public var afterLayer: Int
  /// The 0-based layer whose input norm, queries and keys score the tokens.
  public var scoringLayer: Int
  /// The number of tokens of the image to keep.
  public var keepCount: Int
  public var positions: PositionRule
  public var ranking: Ranking
  public var choice: ChoiceRule
  /// Whether patches entirely in the padding of an image are dropped before all others.
  public var dropsPaddingFirst: Bool

  public init(
    afterLayer: Int, scoringLayer: Int, keepCount: Int, positions: PositionRule, ranking: Ranking = .attention,
    choice: ChoiceRule = .top, dropsPaddingFirst: Bool = false
  ) {
    self.afterLayer = afterLayer
    self.scoringLayer = scoringLayer
    self.keepCount = keepCount
    self.positions = positions
    self.ranking = ranking
    self.choice = choice
    self.dropsPaddingFirst = dropsPaddingFirst
  }
}

/// A rule that gives a schedule of drops as a pure function of sizes; the decoder performs the drops.
public protocol TokenDroppingPolicy: Sendable {
  /// The name on the command line and in reports.
  var name: String { get }

  /// The drops of one image, in layer order.
  ///
  /// - Parameters:
  ///   - layerCount: The number of decoder layers.
  ///   - visualTokenCount: The number of tokens of the image that enter the language model.
  /// - Throws: `DropPolicyError` when the schedule does not fit the model.
  func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage]

  /// The selection of tokens before the language model; `nil` for none. `stages` is called with the number of selected
  /// tokens.
  var preselection: Preselection? { get }
}

extension TokenDroppingPolicy {
  public var preselection: Preselection? { nil }
}

/// An error in a schedule, or between a schedule and a model.
public enum DropPolicyError: Error, Hashable, CustomStringConvertible {
  case differentLengths(layers: Int, ratios: Int)
  case layersNotIncreasing(layers: [Int])
  case layerOutOfRange(layer: Int, layerCount: Int)
  case ratioOutOfRange(ratio: Double)
  case ratiosIncreasing(ratios: [Double])
  case stageCountOutOfRange(stages: Int, layerCount: Int)
  case selectionOutOfRange(tokens: Int)
  /// A selection of patches only, from a sequence with newlines.
  case packing(method: String)

  public var description: String {
    switch self {
    case .differentLengths(let layers, let ratios):
      "the layer list has \(layers) entries and the ratio list \(ratios); give one ratio per layer"
    case .layersNotIncreasing(let layers):
      "the layer list \(layers) must be strictly increasing; sort it and remove duplicates"
    case .layerOutOfRange(let layer, let layerCount):
      "cannot drop after layer \(layer): the model has \(layerCount) layers; use 1 to \(layerCount - 1)"
    case .ratioOutOfRange(let ratio):
      "the ratio \(ratio) is out of range; use a number from 0 to 1"
    case .ratiosIncreasing(let ratios):
      "the ratio list \(ratios) must not rise: each ratio is relative to the original tokens"
    case .selectionOutOfRange(let tokens):
      "cannot select \(tokens) tokens; use 0 or more"
    case .packing(let method):
      "\(method) cannot select newlines, as the packing sequence asks for; use it with divprune, or the packing unpadded or patches"
    case .stageCountOutOfRange(let stages, let layerCount):
      "\(stages) stages do not fit the model's \(layerCount) layers; use 1 to \(layerCount)"
    }
  }
}
