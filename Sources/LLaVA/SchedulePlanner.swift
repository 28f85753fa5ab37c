import Foundation
import ModelFormats
public import Storage
public import TokenDropping

/// Search for the weakest policy that keeps a prompt's cost within a target.
package struct SchedulePlanner: Sendable {
  package let prompt: PrefillCost
  /// The selection before the decoder, which all plans begin with.
  private var preselection: Preselection?

  package init(_ prompt: PrefillCost) { self.prompt = prompt }

  /// The policy to run on the prompt: a targeted policy with its strength resolved, any other unchanged.
  ///
  /// - Throws: `TargetError` when the target cannot be met, `DropPolicyError` for a schedule that does not fit the
  ///   model.
  package func resolved(_ policy: any TokenDroppingPolicy) throws -> any TokenDroppingPolicy {
    if let preselected = policy as? Preselected {
      var planner = self
      planner.preselection = preselected.selection
      return Preselected(preselected.selection, then: try planner.resolved(preselected.policy))
    }
    if let targeted = policy as? TargetedPreselection { return try resolved(targeted) }
    guard let targeted = policy as? TargetedDrop else { return policy }
    // Without images there is nothing to drop.
    guard prompt.visualTokenCount > 0 else { return targeted.policy.keeping(1) }
    let measure = try measure(targeted.target, targeted.timing)
    if let found = try weakest(targeted.policy, limit: measure.limit, cost: measure.cost) { return found }
    throw try TargetError.unreachable(
      targeted.target, method: targeted.name,
      layers: targeted.policy.dropLayers(layerCount: prompt.configuration.layerCount),
      visualTokens: prompt.visualTokenCount, least: measure.cost(plan(targeted.policy.keeping(0))),
      remedy: remedy(targeted.policy, limit: measure.limit, cost: measure.cost))
  }

  /// The weakest strength of a policy whose plan costs no more than `limit`; `nil` if there is none.
  ///
  /// A limit that is met without dropping keeps everything, although the ranking of a policy that drops nothing has a
  /// cost of its own. Otherwise the keep ratio has the fewest decimal digits, 2 to 12, that give the same plan.
  ///
  /// - Parameter cost: The cost of a plan, which must not decrease when more tokens are kept.
  package func weakest<Policy: AdjustablePolicy>(
    _ policy: Policy, limit: Double, cost: (DropPlan) -> Double
  ) throws(DropPolicyError) -> Policy? {
    if try cost(preselection == nil ? .none : plan(NoDropping())) <= limit {
      // Also checks that the schedule fits the model.
      _ = try plan(policy.keeping(1))
      return policy.keeping(1)
    }
    guard try cost(plan(policy.keeping(0))) <= limit else { return nil }
    // Keep ratios in units of the last digit: one within the limit, one beyond it. Finer ratios than these differ from
    // their neighbours by rounding errors only.
    let unit = 1e12
    var (within, beyond) = (0.0, unit)
    while beyond - within > 1 {
      let middle = ((within + beyond) / 2).rounded(.down)
      if try cost(plan(policy.keeping(middle / unit))) <= limit { within = middle } else { beyond = middle }
    }
    let ratio = within / unit
    let found = try plan(policy.keeping(ratio))
    for digits in 2..<12 {
      let scale = pow(10, Double(digits))
      // Both directions, as the ratio is at or next to the end of the range that gives the plan.
      for rounded in [(ratio * scale).rounded(.down) / scale, (ratio * scale).rounded(.up) / scale] {
        if try plan(policy.keeping(rounded)) == found { return policy.keeping(rounded) }
      }
    }
    return policy.keeping(ratio)
  }

  /// Layers at which the target can be met, keeping a quarter, a tenth or nothing at each drop; `nil` if there are
  /// none.
  private func remedy<Policy: AdjustablePolicy>(
    _ policy: Policy, limit: Double, cost: (DropPlan) -> Double
  ) throws(DropPolicyError) -> Remedy? {
    let layerCount = prompt.configuration.layerCount
    guard let first = try plan(policy.keeping(1)).drops.first?.afterLayer else { return nil }
    for ratio in [0.25, 0.1, 0] {
      for layer in (1..<max(first, 1)).reversed() {
        let earlier = try policy.starting(afterLayer: layer, layerCount: layerCount)
        guard let found = try? plan(earlier.keeping(ratio)) else { continue }
        if cost(found) <= limit {
          return .dropLayers(try earlier.dropLayers(layerCount: layerCount), method: policy.name)
        }
      }
    }
    return nil
  }

  /// The drops that a policy plans for the prompt, after the selection.
  private func plan(_ policy: some TokenDroppingPolicy) throws(DropPolicyError) -> DropPlan {
    guard let preselection else { return try prompt.plan(policy) }
    return try prompt.plan(Preselected(preselection, then: policy))
  }

  /// The largest selection within the target.
  private func resolved(_ targeted: TargetedPreselection) throws -> Preselected {
    func selecting(_ tokens: Int) -> Preselected {
      Preselected(targeted.selection.selecting(.tokens(tokens)), then: targeted.policy)
    }
    guard prompt.visualTokenCount > 0 else { return selecting(0) }
    let measure = try measure(targeted.target, targeted.timing)
    let most = prompt.visualTokenCounts.max() ?? 0
    guard try measure.cost(prompt.plan(selecting(most))) > measure.limit else { return selecting(most) }
    let least = try measure.cost(prompt.plan(selecting(0)))
    guard least <= measure.limit else {
      throw TargetError.unreachable(
        targeted.target, method: targeted.selection.method.name, layers: [], visualTokens: prompt.visualTokenCount,
        least: least, remedy: nil)
    }
    var (within, beyond) = (0, most)
    while beyond - within > 1 {
      let middle = (within + beyond) / 2
      if try measure.cost(prompt.plan(selecting(middle))) <= measure.limit { within = middle } else { beyond = middle }
    }
    return selecting(within)
  }

  private func measure(
    _ target: CostTarget, _ timing: PrefillTiming?
  ) throws(TargetError) -> (limit: Double, cost: (DropPlan) -> Double) {
    switch target {
    case .averageTokens(let tokens): return (tokens, prompt.averageTokens)
    case .flops(let ratio): return (ratio, prompt.flopsRatio)
    case .cacheBytes(let bytes): return (Double(bytes), { Double(prompt.cacheBytes($0)) })
    case .firstToken(let seconds):
      guard let timing else { throw .notTimed }
      return (seconds, { prompt.firstTokenSeconds($0, timing) })
    }
  }
}

/// A cost target that a policy cannot meet, or cannot be solved for.
public enum TargetError: UserFacingError, Equatable {
  /// No strength of the policy meets the target with the layers that it drops after.
  ///
  /// `least` is the cost of the prompt with all visual tokens dropped at the first drop, in the unit of the target.
  /// `remedy` is other layers that meet the target, if there are any.
  case unreachable(CostTarget, method: String, layers: [Int], visualTokens: Int, least: Double, remedy: Remedy?)
  /// A target in seconds was given without the machine's timing; see `VisionLanguageModel.timed`.
  case notTimed

  public var category: ErrorCategory { .usage }

  public var problem: String {
    switch self {
    case .notTimed:
      "a target in seconds needs this machine's timing; give the request VisionLanguageModel.timed(policy)"
    case .unreachable(let target, let method, let layers, let visualTokens, let least, let remedy):
      "\(Self.measure(target, least, visualTokens)), for \(method)"
        + (layers.isEmpty ? " without any token" : " dropping after layer ")
        + Remedy.list(layers.map(String.init), last: "and")
        + (remedy == nil && !layers.isEmpty ? "; no other layers meet it" : "")
    }
  }

  public var remedies: [Remedy] {
    if case .unreachable(_, _, _, _, _, let remedy?) = self { [remedy] } else { [] }
  }

  private static func measure(_ target: CostTarget, _ least: Double, _ visualTokens: Int) -> String {
    switch target {
    case .averageTokens(let tokens):
      "target of \(text(tokens)) visual tokens: the least is \(text(least)) of \(visualTokens), mean over layers"
    case .flops(let ratio): "target of \(text(100 * ratio))% of the FLOPs: the least is \(text(100 * least))%"
    case .cacheBytes(let bytes):
      "target of \(text(Double(bytes) / 0x1p20)) MiB of KV cache: the least is \(text(least / 0x1p20)) MiB"
    case .firstToken(let seconds):
      "target of \(text(seconds)) s to the first token: the least is about \(text(least)) s on this machine"
    }
  }

  private static func text(_ number: Double) -> String { String(format: "%.5g", number) }
}
