package import PDrop
package import Storage

/// The generation options in the body of a completion request.
///
/// Names and ranges are those of OpenAI's API, and those of vLLM and llama.cpp for options that OpenAI lacks.
package struct CompletionOptions {
  private let body: JSONValue
  /// Where the fields are, for error messages: such as `body`, or nothing.
  private let place: String?

  /// - Parameter place: Where the fields are, for error messages.
  package init(body: JSONValue, place: String? = "body") { (self.body, self.place) = (body, place) }

  /// The name of a field in error messages.
  private func name(_ field: String) -> String { place.map { "\($0).\(field)" } ?? field }

  /// The base options with the changes of the body.
  ///
  /// - Parameter ignoresUnknown: Whether members that are not known to change an answer are ignored.
  /// - Throws: `RecordFailure` for invalid values, and for members that would change the answer but are not supported.
  package func options(
    like base: GenerationOptions, ignoresUnknown: Bool = false
  ) throws(RecordFailure) -> GenerationOptions {
    try RecordFields.checkBody(body, place: place, ignoresUnknown: ignoresUnknown)
    var options = base
    // The newer name takes precedence. In llama.cpp -1 means no limit.
    for name in ["max_tokens", "max_completion_tokens"] {
      guard let limit = try integer(name, -1...Int.max) else { continue }
      options.maxTokens = limit < 0 ? Int.max : limit
    }
    try readSampling(&options)
    try readPenalties(&options)
    if let stop = try stop() { options.stop = stop }
    try readLogprobs(&options)
    if let count = try integer("n", 1...GenerationOptions.maxAnswerCount) { options.answerCount = count }
    if let ignores = try bool("ignore_eos") { options.ignoresEOS = ignores }
    if body["response_format"]["type"].string == "text" { options.constraint = nil }
    if let constraint = try constraint() { options.constraint = constraint }
    return options
  }

  private func readSampling(_ options: inout GenerationOptions) throws(RecordFailure) {
    if let temperature = try number("temperature", 0...2) { options.temperature = temperature }
    if let topP = try number("top_p", Double.leastNormalMagnitude...1) { options.topP = topP }
    // -1 means all tokens in vLLM.
    if let topK = try integer("top_k", -1...Int.max) { options.topK = max(0, topK) }
    if let minP = try number("min_p", 0...1) { options.minP = minP }
    if let seed = try integer("seed", Int.min...Int.max) { options.seed = UInt64(bitPattern: Int64(seed)) }
  }

  private func readPenalties(_ options: inout GenerationOptions) throws(RecordFailure) {
    if let penalty = try number("presence_penalty", -2...2) { options.presencePenalty = penalty }
    if let penalty = try number("frequency_penalty", -2...2) { options.frequencyPenalty = penalty }
    if let penalty = try number("repeat_penalty", Self.positive) { options.repeatPenalty = penalty }
    // vLLM's name, for all tokens of prompt and answer.
    if let penalty = try number("repetition_penalty", Self.positive) {
      (options.repeatPenalty, options.repeatLastN) = (penalty, -1)
    }
    if let count = try integer("repeat_last_n", -1...Int.max) { options.repeatLastN = count }
    guard !body["logit_bias"].isNull else { return }
    guard let members = body["logit_bias"].members else { throw invalidValue("logit_bias", "an object") }
    options.logitBias = [:]
    for (token, bias) in members.map({ ($0.key, $0.value.double) }) {
      guard let id = Int(token), id >= 0, let bias, (-100...100).contains(bias) else {
        throw RecordFailure(
          .badRecord, "\(name("logit_bias")): expected token ids with numbers from -100 to 100, found \(token.excerpt)")
      }
      options.logitBias[id] = bias
    }
  }

  private static let positive = Double.leastNormalMagnitude...Double.greatestFiniteMagnitude

  /// The stop strings: one, or a list.
  private func stop() throws(RecordFailure) -> [String]? {
    switch body["stop"] {
    case .null: return nil
    case .string(let text): return [text]
    case .array(let values):
      let texts = values.compactMap(\.string)
      if texts.count == values.count { return texts }
    default: break
    }
    throw invalidValue("stop", "a string or a list of strings")
  }

  private func readLogprobs(_ options: inout GenerationOptions) throws(RecordFailure) {
    let (isOn, top) = (try bool("logprobs"), try integer("top_logprobs", 0...GenerationOptions.maxLogprobs))
    if let isOn { options.logprobs = isOn ? top ?? 0 : nil }
    guard isOn == true || (top ?? 0) == 0 else {
      throw RecordFailure(.badRecord, "\(name("top_logprobs")): requires \"logprobs\": true")
    }
  }

  /// The form of the answer: OpenAI's `response_format`, or the spellings of vLLM and llama.cpp.
  private func constraint() throws(RecordFailure) -> OutputConstraint? {
    var found = try responseFormat().map { [$0] } ?? []
    let vLLM = body["structured_outputs"]
    if !vLLM.isNull, vLLM.members == nil { throw invalidValue("structured_outputs", "an object") }
    for schema in [body["guided_json"], body["json_schema"], vLLM["json"]] where !schema.isNull {
      found.append(try schemaConstraint(schema, "json_schema"))
    }
    for choices in [body["guided_choice"], vLLM["choice"]] where !choices.isNull {
      let texts = choices.array?.compactMap(\.string) ?? []
      guard !texts.isEmpty, texts.count == choices.array?.count else {
        throw RecordFailure(
          .badRecord, "\(name("guided_choice")): expected a list of strings, found \(choices.excerpt)")
      }
      found.append(.choices(texts))
    }
    for pattern in [body["guided_regex"], vLLM["regex"]] where !pattern.isNull {
      guard let text = pattern.string else {
        throw RecordFailure(.badRecord, "\(name("guided_regex")): expected a string, found \(pattern.excerpt)")
      }
      found.append(.regex(text))
    }
    if vLLM["json_object"].bool == true { found.append(.jsonObject) }
    let known = ["json", "choice", "regex", "json_object"]
    if let other = vLLM.members?.first(where: { !known.contains($0.key) && !$0.value.isNull }) {
      throw RecordFailure(
        .unsupportedOption,
        "\(name("structured_outputs")): the field \(other.key.excerpt) is not supported; leave it out")
    }
    guard found.count <= 1 else {
      throw RecordFailure(
        .badRecord,
        "\(place.map { "\($0): " } ?? "")the form of the answer is given \(found.count) times; expected once")
    }
    return found.first
  }

  private func responseFormat() throws(RecordFailure) -> OutputConstraint? {
    let format = body["response_format"]
    if format.isNull { return nil }
    switch format["type"].string {
    case "text": return nil
    // llama.cpp takes a schema next to it.
    case "json_object" where format["schema"].isNull: return .jsonObject
    case "json_object": return try schemaConstraint(format["schema"], "response_format.schema")
    case "json_schema":
      return try schemaConstraint(format["json_schema"]["schema"], "response_format.json_schema.schema")
    default:
      throw RecordFailure(
        .badRecord,
        "\(name("response_format.type")): expected text, json_object or json_schema, found \(format["type"].excerpt)")
    }
  }

  /// A schema, or its text.
  private func schemaConstraint(_ schema: JSONValue, _ key: String) throws(RecordFailure) -> OutputConstraint {
    switch schema {
    case .object, .bool: return .jsonSchema(schema.text)
    case .string(let text): return .jsonSchema(text)
    default: throw RecordFailure(.badRecord, "\(name(key)): expected a JSON schema, found \(schema.excerpt)")
    }
  }

  private func bool(_ key: String) throws(RecordFailure) -> Bool? {
    if body[key].isNull { return nil }
    guard let value = body[key].bool else { throw invalidValue(key, "true or false") }
    return value
  }

  private func integer(_ key: String, _ range: ClosedRange<Int>) throws(RecordFailure) -> Int? {
    if body[key].isNull { return nil }
    guard let value = body[key].integer, range.contains(value) else {
      let limits =
        switch (range.lowerBound, range.upperBound) {
        case (.min, .max): ""
        case (let lowest, .max): " of \(lowest) or more"
        case (let lowest, let highest): " from \(lowest) to \(highest)"
        }
      throw invalidValue(key, "an integer\(limits)")
    }
    return value
  }

  private func number(_ key: String, _ range: ClosedRange<Double>) throws(RecordFailure) -> Double? {
    if body[key].isNull { return nil }
    guard let value = body[key].double else { throw invalidValue(key, "a number") }
    guard range.contains(value) else { throw invalidValue(key, "a number \(Self.limits(range))") }
    return value
  }

  /// A range in words, such as `from 0 to 2`.
  private static func limits(_ range: ClosedRange<Double>) -> String {
    func text(_ number: Double) -> String { number == number.rounded() ? "\(Int(number))" : "\(number)" }
    guard range.lowerBound == positive.lowerBound else {
      return "from \(text(range.lowerBound)) to \(text(range.upperBound))"
    }
    return "above 0" + (range.upperBound == positive.upperBound ? "" : " and at most \(text(range.upperBound))")
  }

  private func invalidValue(_ key: String, _ expected: String) -> RecordFailure {
    RecordFailure(.badRecord, "\(name(key)): expected \(expected), found \(body[key].excerpt)")
  }
}
