/// The maximum cost of a prefill, in one of several units.
public enum CostTarget: Sendable, Hashable {
  /// Average retained tokens: visual tokens per decoder layer, as a mean over layers.
  case averageTokens(Double)
  /// Prefill FLOPs of the decoder layers, ranking included, as a fraction of the baseline without dropping.
  case flops(ratio: Double)
  /// Size of the KV cache after the prefill.
  case cacheBytes(Int)
  /// Time to first token, from the decoded image, as estimated from a `PrefillTiming`.
  case firstToken(seconds: Double)
}

/// Measured latency of the parts of a prefill on this machine.
public struct PrefillTiming: Sendable, Hashable {
  /// Seconds of vision encoder and projector per view of an image.
  public var secondsPerView: Double
  /// Coefficients of the seconds of a decoder layer over `n` rows: `layer[0] + layer[1]·n + layer[2]·n²`.
  public var layer: [Double]
  /// Seconds of the output head.
  public var headSeconds: Double

  public init(secondsPerView: Double, layer: [Double], headSeconds: Double) {
    precondition(layer.count == 3, "PrefillTiming: \(layer.count) coefficients")
    (self.secondsPerView, self.layer, self.headSeconds) = (secondsPerView, layer, headSeconds)
  }

  /// The estimated seconds of a decoder layer over a number of rows.
  public func layerSeconds(_ rows: Int) -> Double { layer[0] + Double(rows) * (layer[1] + Double(rows) * layer[2]) }
}

/// A policy with an adjustable keep ratio.
public protocol AdjustablePolicy: TokenDroppingPolicy {
  /// The policy with this keep ratio: the fraction that each drop keeps of the visual tokens before it.
  func keeping(_ ratio: Double) -> Self

  /// The policy with its first drop after `first` layers, and the others evenly spaced after it.
  func starting(afterLayer first: Int, layerCount: Int) throws(DropPolicyError) -> Self

  /// The number of layers before each drop, ascending.
  func dropLayers(layerCount: Int) throws(DropPolicyError) -> [Int]
}

/// A policy whose keep ratio is solved per prompt: the largest ratio within the cost target.
///
/// The number of visual tokens differs between images, so every prompt gets its own schedule.
public struct TargetedDrop: TokenDroppingPolicy {
  public var policy: any AdjustablePolicy
  public var target: CostTarget
  /// The timing of this machine; required for a target in seconds.
  public var timing: PrefillTiming?

  public init(_ policy: any AdjustablePolicy, _ target: CostTarget, timing: PrefillTiming? = nil) {
    (self.policy, self.target, self.timing) = (policy, target, timing)
  }

  public var name: String { policy.name }

  /// The layers of the drops; all tokens are kept, because the ratio is solved later, per prompt.
  public func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage] {
    try policy.keeping(1).stages(layerCount: layerCount, visualTokenCount: visualTokenCount)
  }
}

extension TokenDroppingPolicy {
  /// The policy with the timing for a target in seconds; unchanged if it needs none or has one.
  ///
  /// - Parameter timing: Evaluated only if it is needed.
  public func timed(by timing: @autoclosure () -> PrefillTiming?) -> any TokenDroppingPolicy {
    switch self {
    case var policy as TargetedDrop:
      guard case .firstToken = policy.target, policy.timing == nil else { return self }
      policy.timing = timing()
      return policy
    case var policy as TargetedPreselection:
      guard case .firstToken = policy.target, policy.timing == nil else { return self }
      policy.timing = timing()
      return policy
    case var policy as Preselected:
      policy.policy = policy.policy.timed(by: timing())
      return policy
    default: return self
    }
  }
}

// MARK: - Adjustable policies

extension StageSchedule {
  /// The same layers, where each drop keeps this fraction of the tokens before it.
  func keeping(_ ratio: Double) -> StageSchedule {
    switch self {
    case .listed(let layers, _): .listed(layers: layers, ratios: Self.powers(of: ratio, count: layers.count))
    case .scaled(let layers, let count, _):
      .scaled(layers: layers, ofLayers: count, ratios: Self.powers(of: ratio, count: layers.count))
    case .geometric(_, let stages): .geometric(lambda: ratio, stages: stages)
    }
  }

  /// The same number of drops, the first after `first` layers, the others evenly spaced after it.
  func starting(afterLayer first: Int, layerCount: Int) throws(DropPolicyError) -> StageSchedule {
    let (layers, ratios) = try resolved(layerCount: layerCount)
    let count = layers.count
    return .listed(layers: (0..<count).map { first + $0 * (layerCount - first) / count }, ratios: ratios)
  }

  func dropLayers(layerCount: Int) throws(DropPolicyError) -> [Int] { try resolved(layerCount: layerCount).layers }
}

/// A policy with a stage schedule.
public protocol StagedPolicy: AdjustablePolicy {
  var schedule: StageSchedule { get set }
}

extension StagedPolicy {
  public func keeping(_ ratio: Double) -> Self {
    var policy = self
    policy.schedule = schedule.keeping(ratio)
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
  public func keeping(_ ratio: Double) -> FastV {
    var policy = self
    // Rounded to 15 decimals, as 1 - 0.58 is not exactly 0.42.
    policy.r = ((1 - ratio) * 1e15).rounded() / 1e15
    return policy
  }

  public func starting(afterLayer first: Int, layerCount: Int) -> FastV {
    var policy = self
    policy.k = first
    return policy
  }

  public func dropLayers(layerCount: Int) -> [Int] { [k] }
}
