internal import TokenDropping

extension RunReport.Policy {
  /// Describes a policy with its schedule resolved for a model.
  init(_ policy: any TokenDroppingPolicy, layerCount: Int) throws(DropPolicyError) {
    self.init(method: policy.name)
    switch policy {
    case let policy as TargetedDrop:
      // Its strength differs from prompt to prompt; where it drops does not.
      self = try Self(policy.policy.keeping(1), layerCount: layerCount)
      (keep, r, target) = (nil, nil, policy.target.label)
      return
    case let policy as PyramidDrop: try describe(policy.schedule, layerCount)
    case let policy as UniformDrop: try describe(policy.schedule, layerCount)
    case let policy as RandomDrop: try describe(policy.schedule, layerCount)
    case let policy as FastV: (k, r) = (policy.k, policy.r)
    default: break
    }
    // How it ranks and numbers is the same at every drop, and said by any.
    guard let stage = try policy.stages(layerCount: layerCount, visualTokenCount: 1).first else { return }
    (ranking, positions) = (stage.ranking.name, stage.positions.rawValue)
    if stage.masksPadding { masksPadding = true }
    if case .random(let seed) = stage.ranking { self.seed = seed }
  }

  private mutating func describe(_ schedule: StageSchedule, _ layerCount: Int) throws(DropPolicyError) {
    (layers, keep) = try schedule.resolved(layerCount: layerCount)
  }
}

extension CostTarget {
  /// As reports have it.
  var label: String {
    switch self {
    case .averageTokens(let tokens): "tokens \(tokens)"
    case .flops(let share): "flops \(share)"
    case .cacheBytes(let bytes): "kv \(bytes)"
    case .firstToken(let seconds): "ttft \(seconds)"
    }
  }
}

extension RunReport.Policy: CustomStringConvertible {
  /// The method and, where it is not all that matters, how it was run.
  public var description: String {
    var parts = [method]
    if let target { parts.append("for \(target)") }
    if target != nil, let keep { parts.append("keeping " + keep.map { "\($0)" }.joined(separator: ",")) }
    if target != nil, let r { parts.append("r \(r)") }
    if let ranking, ranking != Ranking.attention.name, ranking != method { parts.append("ranked by \(ranking)") }
    if masksPadding == true { parts.append("padding first") }
    return parts.joined(separator: ", ")
  }
}
