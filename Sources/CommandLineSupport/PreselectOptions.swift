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

/// A packing by its command-line name.
public struct PackingName: ExpressibleByArgument, Sendable {
  /// `nil` for that of the method's code.
  private let packing: Preselection.Packing?

  public init?(argument: String) {
    packing = Preselection.Packing(rawValue: argument)
    guard packing != nil || argument == "paper" else { return nil }
  }

  public static var allValueStrings: [String] { Preselection.Packing.allCases.map(\.rawValue) + ["paper"] }

  /// The packing for a method; `nil` if its code has none.
  func packing(of method: Preselection.Method?) -> Preselection.Packing? {
    if let packing { return packing }
    guard let method else { return .unpadded }
    return method.paperPacking
  }
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

  @Option(
    name: .customLong("preselect-packing"),
    help: """
      Tiles of LLaVA-NeXT: unpadded (padding removed first, a row's newline stays with its first token), patches (padding \
      stays, no newlines), sequence (newlines are tokens like others; divprune) or paper (that of the method's code). \
      (default: unpadded)
      """)
  public var packing: PackingName?

  public init() {}

  public func validate() throws {
    guard tokens == nil || share == nil else {
      throw ValidationError("--preselect-tokens and --preselect-share exclude each other; give one")
    }
    guard tokens.map({ $0 > 0 }) ?? true else {
      throw ValidationError("--preselect-tokens must be 1 or more, found \(tokens ?? 0)")
    }
    guard share.map({ $0.value > 0 }) ?? true else { throw ValidationError("--preselect-share must be above 0%") }
    if method != nil { _ = try packing(of: method?.method) }
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
    guard let method = method?.method else {
      guard packing == nil else { throw ValidationError("--preselect-packing requires --preselect with a method") }
      return try policy(target)
    }
    let packing = try packing(of: method)
    if let size = share.map({ .share($0.value) }) ?? tokens.map({ Preselection.Size.tokens($0) }) {
      return Preselected(
        Preselection(method, size, budget: budget ?? .view, packing: packing), then: try policy(target))
    }
    guard let target else {
      throw ValidationError("--preselect needs --preselect-tokens, --preselect-share or a target")
    }
    return TargetedPreselection(
      method, budget: budget ?? .view, packing: packing, then: try policy(nil), target)
  }

  /// The packing of a method.
  ///
  /// - Throws: `ValidationError` for `paper` where the method has no such packing.
  func packing(of method: Preselection.Method?) throws -> Preselection.Packing {
    guard let packing else { return .unpadded }
    guard let own = packing.packing(of: method) else {
      let reason =
        method == .localGlobal
        ? "VScan removes padding after the selection, so its number of tokens depends on the image"
        : "TOPS has published no code"
      throw ValidationError(
        "--preselect-packing paper is not available with \(method?.name ?? "none"): \(reason); use unpadded or patches")
    }
    guard own != .sequence || method == .divPrune else {
      throw ValidationError(
        "--preselect-packing sequence requires --preselect divprune; use unpadded, patches or paper")
    }
    return own
  }

  /// The recipe's policy with the packing that is given.
  ///
  /// - Throws: `ValidationError` for a recipe that cannot have it.
  public func repacked(_ recipe: Recipe) throws -> any TokenDroppingPolicy {
    guard packing != nil else { return recipe.policy }
    guard var policy = recipe.policy as? Preselected else {
      throw ValidationError("--preselect-packing requires a selection; --recipe \(recipe.name) has none")
    }
    policy.selection.packing = try packing(of: policy.selection.method)
    return policy
  }

  /// Whether a target determines the number of selected tokens.
  var leavesSizeToTarget: Bool { method?.method != nil && tokens == nil && share == nil }
}
