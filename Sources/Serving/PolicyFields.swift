import ArgumentParser
import CommandLineSupport
import Storage
import TokenDropping

/// The token-dropping policy in the member `pdrop` of a request.
///
/// Its fields are the options of the programs with underscores, such as `"layer_list": [8, 16, 24]`.
struct PolicyFields {
  private static let names = [
    "lambda", "stages", "layer_list", "image_token_ratio_list", "fastv_k", "fastv_r", "rank", "positions",
    "target_tokens", "target_flops", "target_kv",
  ]

  private let fields: JSONValue

  init(_ fields: JSONValue) { self.fields = fields }

  /// The policy.
  ///
  /// - Parameter layerCount: Number of decoder layers, which the schedule must fit.
  /// - Returns: `nil` if no field names one; the server's own policy is used then.
  /// - Throws: `APIError`.
  func policy(seed: UInt64, layerCount: Int) throws(APIError) -> (any TokenDroppingPolicy)? {
    let known = Self.names + ["policy", "mask_padding", "kept", "maps"]
    if let other = fields.members?.first(where: { !known.contains($0.key) && !$0.value.isNull }) {
      throw .invalid(
        "pdrop: the field \(other.key.excerpt) is not known; expected \(known.joined(separator: ", "))",
        parameter: "pdrop")
    }
    var arguments: [String] = []
    for name in Self.names where !fields[name].isNull {
      guard let text = Self.text(fields[name]) else {
        throw .invalid(
          "pdrop.\(name): expected a number, a string or a list of numbers, found \(fields[name].excerpt)",
          parameter: "pdrop.\(name)")
      }
      arguments.append("--\(name.replacing("_", with: "-"))=\(text)")
    }
    switch fields["mask_padding"] {
    case .null, .bool(false): break
    case .bool(true): arguments.append("--mask-padding")
    default: throw .invalid("pdrop.mask_padding: expected true or false", parameter: "pdrop.mask_padding")
    }
    guard !arguments.isEmpty || !fields["policy"].isNull else { return nil }
    return try policy(try name(), arguments, seed: seed, layerCount: layerCount)
  }

  private func name() throws(APIError) -> PolicyName {
    guard !fields["policy"].isNull else { return .pyramiddrop }
    guard let name = fields["policy"].string.flatMap(PolicyName.init(rawValue:)) else {
      throw .invalid(
        "pdrop.policy: expected one of \(PolicyName.allCases.map(\.rawValue).joined(separator: ", "))",
        parameter: "pdrop.policy")
    }
    return name
  }

  private func policy(
    _ name: PolicyName, _ arguments: [String], seed: UInt64, layerCount: Int
  ) throws(APIError) -> any TokenDroppingPolicy {
    do {
      let policy = try PolicyOptions.parse(arguments).policy(name, seed: seed)
      _ = try policy.stages(layerCount: layerCount, visualTokenCount: 1)
      return policy
    } catch {
      let message = error is DropPolicyError ? "\(error)" : PolicyOptions.message(for: error)
      throw .invalid("pdrop: \(Self.withFieldNames(message))", parameter: "pdrop")
    }
  }

  /// A message about options of a command line, about fields: `layer_list` for `--layer-list <layer-list>`.
  private static func withFieldNames(_ message: String) -> String {
    message.split(separator: "\n").joined(separator: " ")
      .replacing(#/--([a-z-]+)( <[a-z-]+>)?/#) { $0.output.1.replacing("-", with: "_") }
  }

  /// The text of an option's value.
  private static func text(_ value: JSONValue) -> String? {
    switch value {
    case .string(let text) where text.utf8.count < 200: text
    case .integer, .number: value.text
    case .array(let values) where values.count < 200:
      values.allSatisfy { $0.double != nil } ? values.map(\.text).joined(separator: ",") : nil
    default: nil
    }
  }
}
