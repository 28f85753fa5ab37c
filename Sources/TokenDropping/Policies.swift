/// Keeps every visual token through all layers: plain LLaVA.
public struct NoDropping: TokenDroppingPolicy {
  public let name = "none"

  public init() {}

  public func stages(layerCount: Int, visualTokenCount: Int) -> [DropStage] { [] }
}

/// Drops at the end of each stage, ranked in the next stage's first layer, by the attention of the last prompt token unless
/// another ranking is asked for.
///
/// Source: Xing et al. 2024, PyramidDrop (arXiv 2410.17247), and the authors' code, which scores with the layer after the
/// drop and numbers positions anew.
public struct PyramidDrop: TokenDroppingPolicy {
  public let name = "pyramiddrop"
  public var schedule: StageSchedule
  public var ranking: Ranking
  public var positions: PositionRule
  public var masksPadding: Bool

  public init(
    _ schedule: StageSchedule = .geometric(), ranking: Ranking = .attention, positions: PositionRule = .compact,
    masksPadding: Bool = false
  ) {
    self.schedule = schedule
    self.ranking = ranking
    self.positions = positions
    self.masksPadding = masksPadding
  }

  public func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage] {
    try schedule.stages(layerCount, visualTokenCount, positions, ranking, masksPadding: masksPadding)
  }
}

/// Drops once, after layer `k`, ranked in that layer, by the attention that the last prompt token really paid unless another
/// ranking is asked for.
///
/// Source: Chen et al. 2024, FastV (arXiv 2403.06764), and the authors' code for cached decoding: `round(n · (1 - r))` tokens
/// stay, ties to even, and positions stay as they were.
public struct FastV: TokenDroppingPolicy {
  public let name = "fastv"
  /// How many layers see all tokens.
  public var k: Int
  /// The share of tokens that is dropped.
  public var r: Double
  public var ranking: Ranking
  public var positions: PositionRule
  public var masksPadding: Bool

  public init(
    k: Int = 2, r: Double = 0.5, ranking: Ranking = .attention, positions: PositionRule = .original,
    masksPadding: Bool = false
  ) {
    self.k = k
    self.r = r
    self.ranking = ranking
    self.positions = positions
    self.masksPadding = masksPadding
  }

  public func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage] {
    guard (1..<layerCount).contains(k) else { throw .layerOutOfRange(layer: k, layerCount: layerCount) }
    guard (0...1).contains(r) else { throw .ratioOutOfRange(ratio: r) }
    let keepCount = Int((Double(visualTokenCount) * (1 - r)).rounded(.toNearestOrEven))
    return [
      DropStage(
        afterLayer: k, scoringLayer: k - 1, keepCount: keepCount, positions: positions, ranking: ranking,
        masksPadding: masksPadding)
    ]
  }
}

/// Drops by PyramidDrop's schedule, but chooses at random: the control that a ranking has to beat.
public struct RandomDrop: TokenDroppingPolicy {
  public let name = "random"
  public var schedule: StageSchedule
  public var seed: UInt64
  public var positions: PositionRule
  public var masksPadding: Bool

  public init(
    _ schedule: StageSchedule = .geometric(), seed: UInt64 = 0, positions: PositionRule = .compact,
    masksPadding: Bool = false
  ) {
    self.schedule = schedule
    self.seed = seed
    self.positions = positions
    self.masksPadding = masksPadding
  }

  public func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage] {
    try schedule.stages(layerCount, visualTokenCount, positions, .random(seed: seed), masksPadding: masksPadding)
  }
}

/// Drops by PyramidDrop's schedule, but keeps tokens that are evenly spaced.
public struct UniformDrop: TokenDroppingPolicy {
  public let name = "uniform"
  public var schedule: StageSchedule
  public var positions: PositionRule
  public var masksPadding: Bool

  public init(
    _ schedule: StageSchedule = .geometric(), positions: PositionRule = .compact, masksPadding: Bool = false
  ) {
    self.schedule = schedule
    self.positions = positions
    self.masksPadding = masksPadding
  }

  public func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage] {
    try schedule.stages(layerCount, visualTokenCount, positions, .uniform, masksPadding: masksPadding)
  }
}
