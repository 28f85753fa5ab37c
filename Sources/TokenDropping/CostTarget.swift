/// The most that a prompt may cost, by one of several measures.
public enum CostTarget: Sendable, Hashable {
  /// Visual tokens of the prompt, mean over the decoder's layers.
  case averageTokens(Double)
  /// Operations of the decoder's layers over the prompt, ranking included, as a share of those without dropping.
  case flops(share: Double)
  /// Keys and values after the prompt.
  case cacheBytes(Int)
  /// From the decoded image to the first token, by what was measured on this machine.
  case firstToken(seconds: Double)
}

/// What a machine takes for the parts of a prompt.
public struct PrefillTiming: Sendable, Hashable {
  /// Of vision encoder and projector, for a view of an image.
  public var secondsPerView: Double
  /// Of a decoder layer over `n` rows: `layer[0] + layer[1] n + layer[2] n²`.
  public var layer: [Double]
  /// Of the output head.
  public var headSeconds: Double

  public init(secondsPerView: Double, layer: [Double], headSeconds: Double) {
    precondition(layer.count == 3, "PrefillTiming: \(layer.count) coefficients")
    (self.secondsPerView, self.layer, self.headSeconds) = (secondsPerView, layer, headSeconds)
  }

  /// Seconds of a decoder layer over so many rows.
  public func layerSeconds(_ rows: Int) -> Double { layer[0] + Double(rows) * (layer[1] + Double(rows) * layer[2]) }
}

/// A policy whose strength is one number.
public protocol AdjustablePolicy: TokenDroppingPolicy {
  /// The policy that keeps this share of the visual tokens: at each drop, of those that were there before it.
  func keeping(_ share: Double) -> Self

  /// The policy whose first drop is before another layer, the others evenly spaced after it.
  func starting(afterLayer first: Int, layerCount: Int) throws(DropPolicyError) -> Self

  /// The layers before which it drops.
  func dropLayers(layerCount: Int) throws(DropPolicyError) -> [Int]
}

/// A policy whose strength is found for each prompt: the weakest that costs no more than the target.
///
/// The prompts of several images are of several lengths, so each is given a schedule of its own.
public struct TargetedDrop: TokenDroppingPolicy {
  public var policy: any AdjustablePolicy
  public var target: CostTarget
  /// What the machine takes; a target in seconds needs it.
  public var timing: PrefillTiming?

  public init(_ policy: any AdjustablePolicy, _ target: CostTarget, timing: PrefillTiming? = nil) {
    (self.policy, self.target, self.timing) = (policy, target, timing)
  }

  public var name: String { policy.name }

  /// Where drops would be; all tokens are kept until a prompt is known.
  public func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage] {
    try policy.keeping(1).stages(layerCount: layerCount, visualTokenCount: visualTokenCount)
  }
}

// MARK: - The policies that can be adjusted

extension StageSchedule {
  /// Drops at the same layers, each keeping this share of what was there before it.
  func keeping(_ share: Double) -> StageSchedule {
    switch self {
    case .listed(let layers, _): .listed(layers: layers, ratios: Self.powers(of: share, count: layers.count))
    case .geometric(_, let stages): .geometric(lambda: share, stages: stages)
    }
  }

  /// As many drops, the first before layer `first`, the others evenly spaced after it.
  func starting(afterLayer first: Int, layerCount: Int) throws(DropPolicyError) -> StageSchedule {
    let (layers, ratios) = try resolved(layerCount: layerCount)
    let count = layers.count
    return .listed(layers: (0..<count).map { first + $0 * (layerCount - first) / count }, ratios: ratios)
  }

  func dropLayers(layerCount: Int) throws(DropPolicyError) -> [Int] { try resolved(layerCount: layerCount).layers }
}

/// A policy with stages.
public protocol StagedPolicy: AdjustablePolicy {
  var schedule: StageSchedule { get set }
}

extension StagedPolicy {
  public func keeping(_ share: Double) -> Self {
    var policy = self
    policy.schedule = schedule.keeping(share)
    return policy
  }

  public func starting(afterLayer first: Int, layerCount: Int) throws(DropPolicyError) -> Self {
    var policy = self
    policy.schedule = try schedule.starting(afterLayer: first, layerCount: layerCount)
    return policy
  }

  public func dropLayers(layerCount: Int) throws(DropPolicyError) -> [Int] {
    try schedule.dropLayers(layerCount: layerCount)
  }
}

extension PyramidDrop: StagedPolicy {}
extension RandomDrop: StagedPolicy {}
extension UniformDrop: StagedPolicy {}

extension FastV: AdjustablePolicy {
  public func keeping(_ share: Double) -> FastV {
    var policy = self
    policy.r = 1 - share
    return policy
  }

  public func starting(afterLayer first: Int, layerCount: Int) -> FastV {
    var policy = self
    policy.k = first
    return policy
  }

  public func dropLayers(layerCount: Int) -> [Int] { [k] }
}
