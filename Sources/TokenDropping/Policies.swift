/// Keeps every visual token through all layers: plain LLaVA.
public struct NoDropping: TokenDroppingPolicy {
  public let name = "none"

  public init() {}

  public func stages(layerCount: Int, visualTokenCount: Int) -> [DropStage] { [] }
}

/// Drops at the end of each stage, ranked by the attention of the last prompt token in the next stage's first layer.
///
/// Source: Xing et al. 2024, PyramidDrop (arXiv 2410.17247), and the authors' code, which scores with the layer after the
/// drop and numbers positions anew.
public struct PyramidDrop: TokenDroppingPolicy {
  public let name = "pyramiddrop"
  public var schedule: StageSchedule
  public var positions: PositionRule

  public init(_ schedule: StageSchedule = .geometric(), positions: PositionRule = .compact) {
    self.schedule = schedule
    self.positions = positions
  }

  public func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage] {
    try schedule.stages(layerCount, visualTokenCount, positions, .attention)
  }
}

/// Drops once, after layer `k`, ranked by the attention that the last prompt token really paid in that layer.
///
/// Source: Chen et al. 2024, FastV (arXiv 2403.06764), and the authors' code for cached decoding: `round(n · (1 - r))` tokens
/// stay, ties to even, and positions stay as they were.
public struct FastV: TokenDroppingPolicy {
  public let name = "fastv"
  /// How many layers see all tokens.
  public var k: Int
  /// The share of tokens that is dropped.
  public var r: Double
  public var positions: PositionRule

  public init(k: Int = 2, r: Double = 0.5, positions: PositionRule = .original) {
    self.k = k
    self.r = r
    self.positions = positions
  }

  public func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage] {
    guard (1..<layerCount).contains(k) else { throw .layerOutOfRange(layer: k, layerCount: layerCount) }
    guard (0...1).contains(r) else { throw .ratioOutOfRange(ratio: r) }
    let keepCount = Int((Double(visualTokenCount) * (1 - r)).rounded(.toNearestOrEven))
    return [DropStage(afterLayer: k, scoringLayer: k - 1, keepCount: keepCount, positions: positions)]
  }
}

/// Drops by PyramidDrop's schedule, but chooses at random: the control that a ranking has to beat.
public struct RandomDrop: TokenDroppingPolicy {
  public let name = "random"
  public var schedule: StageSchedule
  public var seed: UInt64
  public var positions: PositionRule

  public init(_ schedule: StageSchedule = .geometric(), seed: UInt64 = 0, positions: PositionRule = .compact) {
    self.schedule = schedule
    self.seed = seed
    self.positions = positions
  }

  public func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage] {
    try schedule.stages(layerCount, visualTokenCount, positions, .random(seed: seed))
  }
}

/// Drops by PyramidDrop's schedule, but keeps tokens that are evenly spaced.
public struct UniformDrop: TokenDroppingPolicy {
  public let name = "uniform"
  public var schedule: StageSchedule
  public var positions: PositionRule

  public init(_ schedule: StageSchedule = .geometric(), positions: PositionRule = .compact) {
    self.schedule = schedule
    self.positions = positions
  }

  public func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage] {
    try schedule.stages(layerCount, visualTokenCount, positions, .uniform)
  }
}
