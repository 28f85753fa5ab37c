internal import TokenDropping

extension RunReport.Policy {
  /// Describes a policy with its schedule resolved for a model.
  init(_ policy: any TokenDroppingPolicy, layerCount: Int) throws(DropPolicyError) {
    self.init(method: policy.name)
    switch policy {
    case let policy as PyramidDrop: try describe(policy.schedule, policy.positions, layerCount)
    case let policy as UniformDrop: try describe(policy.schedule, policy.positions, layerCount)
    case let policy as RandomDrop:
      try describe(policy.schedule, policy.positions, layerCount)
      seed = policy.seed
    case let policy as FastV:
      (k, r, positions) = (policy.k, policy.r, policy.positions.rawValue)
    default: break
    }
  }

  private mutating func describe(
    _ schedule: StageSchedule, _ positions: PositionRule, _ layerCount: Int
  ) throws(DropPolicyError) {
    let resolved = try schedule.resolved(layerCount: layerCount)
    (layers, keep, self.positions) = (resolved.layers, resolved.ratios, positions.rawValue)
  }
}
