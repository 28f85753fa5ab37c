import Foundation
import ModelFormats
public import Storage
public import TokenDropping

/// Finds, for a prompt, the weakest policy that costs no more than a target.
package struct SchedulePlanner: Sendable {
  package let prompt: PrefillCost

  package init(_ prompt: PrefillCost) { self.prompt = prompt }

  /// The policy as it is to be run on the prompt: one with a target is given its strength, others are what they are.
  ///
  /// - Throws: `TargetError` when the target cannot be met, `DropPolicyError` for a schedule that does not fit the model.
  package func resolved(_ policy: any TokenDroppingPolicy) throws -> any TokenDroppingPolicy {
    guard let targeted = policy as? TargetedDrop else { return policy }
    // Without images there is nothing to drop.
    guard prompt.visualTokenCount > 0 else { return targeted.policy.keeping(1) }
    let measure = try measure(targeted)
    if let found = try weakest(targeted.policy, limit: measure.limit, cost: measure.cost) { return found }
    throw try TargetError.unreachable(
      targeted.target, method: targeted.name,
      layers: targeted.policy.dropLayers(layerCount: prompt.configuration.layerCount),
      visualTokens: prompt.visualTokenCount, least: measure.cost(prompt.plan(targeted.policy.keeping(0))),
      remedy: remedy(targeted.policy, limit: measure.limit, cost: measure.cost))
  }

  /// The weakest strength of a policy at which a plan costs no more than `limit`; `nil` where none does.
  ///
  /// What is found is written with no more digits than make a difference.
  ///
  /// - Parameter cost: Rises, or stays, with every token that is kept.
  package func weakest<Policy: AdjustablePolicy>(
    _ policy: Policy, limit: Double, cost: (DropPlan) -> Double
  ) throws(DropPolicyError) -> Policy? {
    if try cost(prompt.plan(policy.keeping(1))) <= limit { return policy.keeping(1) }
    guard try cost(prompt.plan(policy.keeping(0))) <= limit else { return nil }
    // Shares kept: one that is within the limit, and one that is not.
    var (within, beyond) = (0.0, 1.0)
    for _ in 0..<60 {
      let middle = (within + beyond) / 2
      if try cost(prompt.plan(policy.keeping(middle))) <= limit { within = middle } else { beyond = middle }
    }
    let plan = try prompt.plan(policy.keeping(within))
    for digits in 2...12 {
      let scale = pow(10, Double(digits))
      // Either way, as the share that is found is the last of those that give the plan or next to it.
      for share in [(within * scale).rounded(.down) / scale, (within * scale).rounded(.up) / scale] {
        if try prompt.plan(policy.keeping(share)) == plan { return policy.keeping(share) }
      }
    }
    return policy.keeping(within)
  }

  /// Where to drop so that the target can be met, dropping three quarters at a time or, if need be, everything at once.
  private func remedy<Policy: AdjustablePolicy>(
    _ policy: Policy, limit: Double, cost: (DropPlan) -> Double
  ) throws(DropPolicyError) -> Remedy? {
    let layerCount = prompt.configuration.layerCount
    guard let first = try prompt.plan(policy.keeping(1)).drops.first?.afterLayer else { return nil }
    for share in [0.25, 0.1, 0] {
      for layer in (1..<max(first, 1)).reversed() {
        let earlier = try policy.starting(afterLayer: layer, layerCount: layerCount)
        guard let plan = try? prompt.plan(earlier.keeping(share)) else { continue }
        if cost(plan) <= limit {
          return .dropLayers(try earlier.dropLayers(layerCount: layerCount), method: policy.name)
        }
      }
    }
    return nil
  }

  private func measure(_ targeted: TargetedDrop) throws(TargetError) -> (limit: Double, cost: (DropPlan) -> Double) {
    switch targeted.target {
    case .averageTokens(let tokens): return (tokens, prompt.averageTokens)
    case .flops(let share): return (share, prompt.flopsShare)
    case .cacheBytes(let bytes): return (Double(bytes), { Double(prompt.cacheBytes($0)) })
    case .firstToken(let seconds):
      guard let timing = targeted.timing else { throw .notTimed }
      return (seconds, { prompt.firstTokenSeconds($0, timing) })
    }
  }
}

/// A cost target that a policy cannot meet, or cannot be solved for.
public enum TargetError: UserFacingError, Equatable {
  /// No strength of the policy meets the target with the layers that it drops after.
  ///
  /// `least` is the cost of the prompt when everything is dropped at the first drop, in the measure of the target. `remedy` is
  /// other layers that meet it, if there are any.
  case unreachable(CostTarget, method: String, layers: [Int], visualTokens: Int, least: Double, remedy: Remedy?)
  /// A target in seconds was given without the machine's timing; see `VisionLanguageModel.timed`.
  case notTimed

  public var category: ErrorCategory { .usage }

  public var problem: String {
    switch self {
    case .notTimed:
      "a target in seconds needs this machine's timing; give the request VisionLanguageModel.timed(policy)"
    case .unreachable(let target, let method, let layers, let visualTokens, let least, let remedy):
      "\(Self.measure(target, least, visualTokens)), for \(method) dropping after layer "
        + Remedy.list(layers.map(String.init), last: "and") + (remedy == nil ? "; no other layers meet it" : "")
    }
  }

  public var remedies: [Remedy] {
    if case .unreachable(_, _, _, _, _, let remedy?) = self { [remedy] } else { [] }
  }

  private static func measure(_ target: CostTarget, _ least: Double, _ visualTokens: Int) -> String {
    switch target {
    case .averageTokens(let tokens):
      "target of \(text(tokens)) visual tokens: the least is \(text(least)) of \(visualTokens), mean over layers"
    case .flops(let share): "target of \(text(100 * share))% of the FLOPs: the least is \(text(100 * least))%"
    case .cacheBytes(let bytes):
      "target of \(text(Double(bytes) / 0x1p20)) MiB of KV cache: the least is \(text(least / 0x1p20)) MiB"
    case .firstToken(let seconds):
      "target of \(text(seconds)) s to the first token: the least is about \(text(least)) s on this machine"
    }
  }

  private static func text(_ number: Double) -> String { String(format: "%.5g", number) }
}
