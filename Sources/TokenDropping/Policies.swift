/// Keeps every visual token in all layers: the baseline, plain LLaVA.
public struct NoDropping: TokenDroppingPolicy {
  public let name = "none"

  public init() {}

  public func stages(layerCount: Int, visualTokenCount: Int) -> [DropStage] { [] }
}

/// Drops at the end of each stage, by scores of the next stage's first layer.
///
/// The default ranking is the attention of the last prompt token.
///
///     let policy = PyramidDrop()  // keeps half of the tokens after layers 8, 16 and 24 of 32
///     let stages = try policy.stages(layerCount: 32, visualTokenCount: 576)
///     print(stages.map(\.keepCount))  // [288, 144, 72]
///     let paper = PyramidDrop(.listed(layers: [8, 16, 24], ratios: [0.5, 0.25, 0.125]))  // the same
///     let stronger = PyramidDrop(.geometric(lambda: 0.25))  // keeps 144, 36 and 9
///
/// Source: Xing et al. 2024, PyramidDrop (arXiv 2410.17247), and the authors' code, which scores with the layer after
/// the drop and renumbers positions.
public struct PyramidDrop: TokenDroppingPolicy {
  public let name = "pyramiddrop"
  public var schedule: StageSchedule
  public var ranking: Ranking
  public var choice: ChoiceRule
  public var positions: PositionRule
  public var dropsPaddingFirst: Bool

  public init(
    _ schedule: StageSchedule = .geometric(), ranking: Ranking = .attention, choice: ChoiceRule = .top,
    positions: PositionRule = .compact,
    dropsPaddingFirst: Bool = false
  ) {
    self.schedule = schedule
    self.ranking = ranking
    self.choice = choice
    self.positions = positions
    self.dropsPaddingFirst = dropsPaddingFirst
  }

  public func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage] {
    try schedule.stages(layerCount, visualTokenCount, positions, ranking, choice, dropsPaddingFirst: dropsPaddingFirst)
  }
}

/// Drops once, after `k` layers, by scores of the last of them.
///
/// The default ranking is the attention of the last prompt token, which this layer has already computed.
///
///     let policy = FastV(k: 3, r: 0.75)  // after layer 3, drops three quarters of the tokens
///     let stages = try policy.stages(layerCount: 32, visualTokenCount: 576)
///     print(stages.map(\.keepCount))  // [144]
///
/// Source: Chen et al. 2024, FastV (arXiv 2403.06764), and the authors' code for cached decoding. It keeps
/// `round(n · (1 - r))` tokens, with ties to even, and their original positions.
public struct FastV: TokenDroppingPolicy {
  public let name = "fastv"
  /// The number of layers before the drop, which see all tokens.
  public var k: Int
  /// The fraction of visual tokens to drop.
  public var r: Double
  public var ranking: Ranking
  public var choice: ChoiceRule
  public var positions: PositionRule
  public var dropsPaddingFirst: Bool

  public init(
    k: Int = 2, r: Double = 0.5, ranking: Ranking = .attention, choice: ChoiceRule = .top,
    positions: PositionRule = .original,
    dropsPaddingFirst: Bool = false
  ) {
    self.k = k
    self.r = r
    self.ranking = ranking
    self.choice = choice
    self.positions = positions
    self.dropsPaddingFirst = dropsPaddingFirst
  }

  public func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage] {
    guard (1..<layerCount).contains(k) else { throw .layerOutOfRange(layer: k, layerCount: layerCount) }
    guard (0...1).contains(r) else { throw .ratioOutOfRange(ratio: r) }
    let keepCount = Int((Double(visualTokenCount) * (1 - r)).rounded(.toNearestOrEven))
    return [
      DropStage(
        afterLayer: k, scoringLayer: k - 1, keepCount: keepCount, positions: positions, ranking: ranking,
        choice: choice,
        dropsPaddingFirst: dropsPaddingFirst)
    ]
  }
}

/// PyramidDrop's schedule with a random choice of tokens: the control that a ranking has to beat.
public struct RandomDrop: TokenDroppingPolicy {
  public let name = "random"
  public var schedule: StageSchedule
  public var seed: UInt64
  public var positions: PositionRule
  public var dropsPaddingFirst: Bool

  public init(
    _ schedule: StageSchedule = .geometric(), seed: UInt64 = 0, positions: PositionRule = .compact,
    dropsPaddingFirst: Bool = false
  ) {
    self.schedule = schedule
    self.seed = seed
    self.positions = positions
    self.dropsPaddingFirst = dropsPaddingFirst
  }

  public func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage] {
    try schedule.stages(
      layerCount, visualTokenCount, positions, .random(seed: seed), dropsPaddingFirst: dropsPaddingFirst)
  }
}

/// PyramidDrop's schedule with evenly spaced tokens.
public struct UniformDrop: TokenDroppingPolicy {
  public let name = "uniform"
  public var schedule: StageSchedule
  public var positions: PositionRule
  public var dropsPaddingFirst: Bool

  public init(
    _ schedule: StageSchedule = .geometric(), positions: PositionRule = .compact, dropsPaddingFirst: Bool = false
  ) {
    self.schedule = schedule
    self.positions = positions
    self.dropsPaddingFirst = dropsPaddingFirst
  }

  public func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage] {
    try schedule.stages(layerCount, visualTokenCount, positions, .uniform, dropsPaddingFirst: dropsPaddingFirst)
  }
}

/// The layers of the drops and their keep ratios, relative to the original number of visual tokens.
public enum StageSchedule: Sendable, Hashable {
  /// Explicit layers and ratios, as in the paper's scripts: `[8, 16, 24]` and `[0.5, 0.25, 0.125]`.
  case listed(layers: [Int], ratios: [Double])
  /// Layers and ratios of a model with `ofLayers` layers; in others the layers are at the same relative depth.
  case scaled(layers: [Int], ofLayers: Int, ratios: [Double])
  /// Equal stages, each keeping `lambda` of the stage before it.
  case geometric(lambda: Double = 0.5, stages: Int = 4)

  /// The powers `ratio¹` to `ratioⁿ`, rounded to 15 decimals.
  ///
  /// The rounding makes 0.6³ exactly 0.216; repeated multiplication gives the next smaller number.
  static func powers(of ratio: Double, count: Int) -> [Double] {
    (0..<count).map { last in
      let power = (0...last).reduce(1.0) { power, _ in power * ratio }
      return (power * 1e15).rounded() / 1e15
    }
  }

  /// The validated layers and ratios for a model.
  ///
  /// - Throws: `DropPolicyError` when the schedule does not fit the model.
  public func resolved(layerCount: Int) throws(DropPolicyError) -> (layers: [Int], ratios: [Double]) {
    let layers: [Int]
    let ratios: [Double]
    switch self {
    case .listed(let listedLayers, let listedRatios): (layers, ratios) = (listedLayers, listedRatios)
    case .scaled(let listedLayers, let count, let listedRatios):
      (layers, ratios) = (listedLayers.map { $0 * layerCount / count }, listedRatios)
    case .geometric(let lambda, let stages):
      guard (0...1).contains(lambda) else { throw .ratioOutOfRange(ratio: lambda) }
      guard (1...max(1, layerCount)).contains(stages) else {
        throw .stageCountOutOfRange(stages: stages, layerCount: layerCount)
      }
      layers = (1..<stages).map { $0 * layerCount / stages }
      ratios = Self.powers(of: lambda, count: stages - 1)
    }
    guard layers.count == ratios.count else { throw .differentLengths(layers: layers.count, ratios: ratios.count) }
    if let layer = layers.first(where: { !(1..<max(layerCount, 1)).contains($0) }) {
      throw .layerOutOfRange(layer: layer, layerCount: layerCount)
    }
    guard zip(layers, layers.dropFirst()).allSatisfy(<) else { throw .layersNotIncreasing(layers: layers) }
    if let ratio = ratios.first(where: { !(0...1).contains($0) }) { throw .ratioOutOfRange(ratio: ratio) }
    guard zip(ratios, ratios.dropFirst()).allSatisfy(>=) else { throw .ratiosIncreasing(ratios: ratios) }
    return (layers, ratios)
  }

  /// Whether the ratios stand for numbers of tokens.
  private var isScaled: Bool { if case .scaled = self { true } else { false } }

  /// The drops of one image; keep counts are `ratio · visualTokenCount`, truncated as in the authors' code, for scaled
  /// schedules rounded.
  func stages(
    _ layerCount: Int, _ visualTokenCount: Int, _ positions: PositionRule, _ ranking: Ranking,
    _ choice: ChoiceRule = .top,
    dropsPaddingFirst: Bool
  ) throws(DropPolicyError) -> [DropStage] {
    let (layers, ratios) = try resolved(layerCount: layerCount)
    return zip(layers, ratios).map { layer, ratio in
      let count = Double(visualTokenCount) * ratio
      return DropStage(
        afterLayer: layer, scoringLayer: layer, keepCount: isScaled ? Int(count.rounded()) : Int(count),
        positions: positions, ranking: ranking, choice: choice, dropsPaddingFirst: dropsPaddingFirst)
    }
  }
}
