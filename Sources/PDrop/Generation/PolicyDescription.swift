internal import TokenDropping

extension RunReport.Policy {
  /// Describes a policy with its schedule resolved for a model.
  init(_ policy: any TokenDroppingPolicy, layerCount: Int) throws(DropPolicyError) {
    self.init(method: policy.name)
    switch policy {
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
