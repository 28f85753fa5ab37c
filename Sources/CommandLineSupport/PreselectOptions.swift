public import ArgumentParser
import Foundation
public import TokenDropping

extension Preselection.Budget: ExpressibleByArgument {}

/// A selection method by its command-line name.
public struct PreselectionName: ExpressibleByArgument, Sendable {
  /// `nil` for `none`.
  let method: Preselection.Method?

  public init?(argument: String) {
    method = Preselection.Method.all.first { $0.name == argument }
    guard method != nil || argument == "none" else { return nil }
  }

  public static var allValueStrings: [String] { ["none"] + Preselection.Method.all.map(\.name) }
}

/// The selection of visual tokens before the language model.
public struct PreselectOptions: ParsableArguments {
  @Option(
    name: .customLong("preselect"),
    help: """
      Selection of visual tokens before the language model: none, class-attention, scope, divprune, local-global, mmtok, \
      cdpruner or tops. (default: none)
      """)
  public var method: PreselectionName?

  @Option(name: .customLong("preselect-tokens"), help: "Visual tokens of an image to select, newlines included.")
  public var tokens: Int?

  @Option(name: .customLong("preselect-share"), help: "Share of the visual tokens to select, such as 33%.")
  public var share: Fraction?

  @Option(
    name: .customLong("preselect-budget"),
    help: "Selection from each view of an image, with equal parts, or from all: view or image. (default: view)")
  public var budget: Preselection.Budget?

  public init() {}

  public func validate() throws {
    guard tokens == nil || share == nil else {
      throw ValidationError("--preselect-tokens and --preselect-share exclude each other; give one")
    }
    guard tokens.map({ $0 >= 0 }) ?? true else {
      throw ValidationError("--preselect-tokens must be 0 or more, found \(tokens ?? 0)")
    }
    guard method?.method != nil || (tokens == nil && share == nil && budget == nil) else {
      throw ValidationError(
        "--preselect-tokens, --preselect-share and --preselect-budget require --preselect with a method")
    }
  }

  /// The policy after this selection. A cost target determines what is not given: the number of tokens, else the
  /// strength of the policy.
  ///
  /// - Parameters:
  ///   - target: The cost target.
  ///   - policy: The policy with a target, or without.
  func preselected(
    _ target: CostTarget?, _ policy: (_ target: CostTarget?) throws -> any TokenDroppingPolicy
  ) throws -> any TokenDroppingPolicy {
    guard let method = method?.method else { return try policy(target) }
    if let size = share.map({ .share($0.value) }) ?? tokens.map({ Preselection.Size.tokens($0) }) {
      return Preselected(Preselection(method, size, budget: budget ?? .view), then: try policy(target))
    }
    guard let target else {
      throw ValidationError("--preselect needs --preselect-tokens, --preselect-share or a target")
    }
    return TargetedPreselection(method, budget: budget ?? .view, then: try policy(nil), target)
  }

  /// Whether a target determines the number of selected tokens.
  var leavesSizeToTarget: Bool { method?.method != nil && tokens == nil && share == nil }
}
