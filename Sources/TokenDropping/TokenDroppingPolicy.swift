/// Which positions the tokens that survive a drop have from then on.
public enum PositionRule: String, Sendable, Hashable, Codable, CaseIterable {
  /// Counted anew from 0 without gaps, as PyramidDrop does.
  case compact
  /// Those they had in the whole sequence, as FastV does.
  case original
}

/// One drop: after some layers have run, the best visual tokens of an image stay and the others leave the sequence.
public struct DropStage: Sendable, Hashable {
  /// How many layers have run when the drop happens: it stands before this 0-based layer.
  public var afterLayer: Int
  /// The 0-based layer whose norm, queries and keys score the tokens.
  public var scoringLayer: Int
  /// How many of the image's tokens stay.
  public var keepCount: Int
  public var positions: PositionRule
  public var ranking: Ranking
  /// Whether patches that lie wholly in an image's padding leave before all others.
  public var dropsPaddingFirst: Bool

  public init(
    afterLayer: Int, scoringLayer: Int, keepCount: Int, positions: PositionRule, ranking: Ranking = .attention,
    dropsPaddingFirst: Bool = false
  ) {
    self.afterLayer = afterLayer
    self.scoringLayer = scoringLayer
    self.keepCount = keepCount
    self.positions = positions
    self.ranking = ranking
    self.dropsPaddingFirst = dropsPaddingFirst
  }
}

/// A schedule of drops as a pure function of sizes; what a drop does is the decoder's business.
public protocol TokenDroppingPolicy: Sendable {
  /// The name on the command line and in reports.
  var name: String { get }

  /// The drops that one image goes through, in the order of layers.
  ///
  /// - Parameters:
  ///   - layerCount: Decoder layers of the model.
  ///   - visualTokenCount: The image's tokens before any drop.
  /// - Throws: `DropPolicyError` when the schedule does not fit the model.
  func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage]
}

/// Why a schedule cannot be run.
public enum DropPolicyError: Error, Hashable, CustomStringConvertible {
  case differentLengths(layers: Int, ratios: Int)
  case layersNotIncreasing(layers: [Int])
  case layerOutOfRange(layer: Int, layerCount: Int)
  case ratioOutOfRange(ratio: Double)
  case ratiosIncreasing(ratios: [Double])
  case stageCountOutOfRange(stages: Int, layerCount: Int)

  public var description: String {
    switch self {
    case .differentLengths(let layers, let ratios):
      "the layer list has \(layers) entries and the ratio list \(ratios); give one ratio per layer"
    case .layersNotIncreasing(let layers):
      "the layer list \(layers) must rise strictly; sort it and remove repeats"
    case .layerOutOfRange(let layer, let layerCount):
      "layer \(layer) cannot be dropped at: the model has \(layerCount) layers, so use 1 to \(layerCount - 1)"
    case .ratioOutOfRange(let ratio):
      "the ratio \(ratio) is not a share; use a number from 0 to 1"
    case .ratiosIncreasing(let ratios):
      "the ratio list \(ratios) must not rise: each ratio is a share of the original tokens, and dropped ones are gone"
    case .stageCountOutOfRange(let stages, let layerCount):
      "\(stages) stages do not fit the model's \(layerCount) layers; use 1 to \(layerCount)"
    }
  }
}
