import ArgumentParser
import CommandLineSupport
import Storage
import TokenDropping

/// The token-dropping policy in the member `pdrop` of a request.
///
/// Its fields are the options of the programs with underscores, such as `"layer_list": [8, 16, 24]`.
struct PolicyFields {
  private static let names = [
    "policy", "lambda", "stages", "layer_list", "image_token_ratio_list", "fastv_k", "fastv_r", "rank", "select",
    "positions", "mask_padding", "target_tokens", "target_flops", "target_kv", "preselect", "preselect_tokens",
    "preselect_share", "preselect_budget", "preselect_packing", "recipe",
  ]

  private let fields: JSONValue

  init(_ fields: JSONValue) { self.fields = fields }

  /// The policy.
  ///
  /// - Parameter layerCount: Number of decoder layers, which the schedule must fit.
  /// - Returns: `nil` if there is no field of a policy; the server's own policy is used then.
  /// - Throws: `APIError`.
  func policy(seed: UInt64, layerCount: Int) throws(APIError) -> (any TokenDroppingPolicy)? {
    let known = Self.names + ["kept", "maps"]
    if let other = fields.members?.first(where: { !known.contains($0.key) && !$0.value.isNull }) {
      throw .invalid(
        "pdrop: the field \(other.key.excerpt) is not known; expected \(known.joined(separator: ", "))",
        parameter: "pdrop")
    }
    guard Self.names.contains(where: { !fields[$0].isNull }) else { return nil }
    do {
      var options = try PolicyOptions.parse([])
      try read(into: &options)
      try options.target.validate()
      try options.preselect.validate()
      try options.validate()
      let policy = try options.policy(try name(), seed: seed)
      _ = try policy.stages(layerCount: layerCount, visualTokenCount: 1)
      return policy
    } catch let error as APIError {
      throw error
    } catch {
      let message = error is DropPolicyError ? "\(error)" : PolicyOptions.message(for: error)
      throw .invalid("pdrop: \(Self.withFieldNames(message))", parameter: "pdrop")
    }
  }

  private func read(into options: inout PolicyOptions) throws(APIError) {
    options.lambda = try value("lambda", "a number")
    options.stages = try value("stages", "an integer")
    options.layerList = try value("layer_list", "a list of integers")
    options.ratioList = try value("image_token_ratio_list", "a list of numbers")
    options.fastVK = try value("fastv_k", "an integer")
    options.fastVR = try value("fastv_r", "a number")
    options.rank = try value("rank", "one of " + RankingName.allValueStrings.joined(separator: ", "))
    options.choice = try value("select", "top or coverage")
    options.positions = try value("positions", "compact or original")
    options.dropsPaddingFirst = try ChatRequest.flag(fields, "mask_padding", in: "pdrop.")
    options.target.tokens = try value("target_tokens", "a number")
    options.target.flops = try value("target_flops", "a ratio such as 0.45 or \"45%\"")
    options.target.cache = try value("target_kv", "a size such as \"8MiB\"")
    options.recipe = try value("recipe", "one of " + RecipeName.allValueStrings.joined(separator: ", "))
    options.preselect.method = try value(
      "preselect", "one of " + PreselectionName.allValueStrings.joined(separator: ", "))
    options.preselect.tokens = try value("preselect_tokens", "an integer")
    options.preselect.share = try value("preselect_share", "a ratio such as 0.33 or \"33%\"")
    options.preselect.budget = try value("preselect_budget", "view or image")
    options.preselect.packing = try value(
      "preselect_packing", "one of " + PackingName.allValueStrings.joined(separator: ", "))
  }

  private func name() throws(APIError) -> PolicyName {
    let names = PolicyName.allCases.map(\.rawValue).joined(separator: ", ")
    return try value("policy", "one of \(names)") ?? .pyramiddrop
  }

  /// The value of a field as that of an option; `nil` if the field is missing.
  private func value<Value: ExpressibleByArgument>(
    _ name: String, _ expected: String
  ) throws(APIError) -> Value? {
    if fields[name].isNull { return nil }
    guard let value = Self.text(fields[name]).flatMap(Value.init(argument:)) else {
      throw .invalid(
        "pdrop.\(name): expected \(expected), found \(fields[name].excerpt)", parameter: "pdrop.\(name)")
    }
    return value
  }

  /// The text of an option's value.
  private static func text(_ value: JSONValue) -> String? {
    switch value {
    case .string(let text) where text.utf8.count < 200: text
    case .integer, .number: value.text
    case .array(let values) where values.count < 200 && values.allSatisfy({ $0.double != nil }):
      values.map(\.text).joined(separator: ",")
    default: nil
    }
  }

  /// A message about options of a command line, about fields: `layer_list` for `--layer-list`.
  private static func withFieldNames(_ message: String) -> String {
    message.split(separator: "\n").joined(separator: " ")
      .replacing(#/--([a-z-]+)/#) { $0.output.1.replacing("-", with: "_") }
  }
}
