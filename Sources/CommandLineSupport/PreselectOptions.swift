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
    if let method {
      guard method.method == nil || tokens != nil || share != nil else {
        throw ValidationError("--preselect needs --preselect-tokens or --preselect-share")
      }
    }
    guard method?.method != nil || (tokens == nil && share == nil && budget == nil) else {
      throw ValidationError(
        "--preselect-tokens, --preselect-share and --preselect-budget require --preselect with a method")
    }
  }

  /// `nil` for none.
  public var selection: Preselection? {
    guard let method = method?.method else { return nil }
    return Preselection(
      method, share.map { .share($0.value) } ?? .tokens(tokens ?? 0), budget: budget ?? .view)
  }
}
