internal import ModelFormats

extension RecordParser {
  /// The request of a line of OpenAI's batch files.
  func completion(_ value: JSONValue, _ record: inout BatchRecord) throws -> Request {
    try Self.identify(value, by: "custom_id", &record)
    let (method, url, body) = (value["method"], value["url"], value["body"])
    guard method.isNull || method.string == "POST" else {
      throw RecordFailure(.unsupportedOption, "method: expected POST, found \(method.kind.prefix(40))")
    }
    guard url.isNull || url.string == "/v1/chat/completions" else {
      throw RecordFailure(.unsupportedOption, "url: expected /v1/chat/completions, found \(url.kind.prefix(80))")
    }
    guard body.members != nil else { throw RecordFailure(.badRecord, "body: expected an object with messages") }
    let conversation = try Conversation(body["messages"], folder: folder)
    var request = base
    request.prompt = .messages(conversation.messages)
    request.pictures = conversation.pictures
    request.options = try CompletionOptions(body: body).options(like: base.options)
    return request
  }
}

/// What the body of a completion request says about how to answer.
private struct CompletionOptions {
  let body: JSONValue

  /// The options that the body changes.
  ///
  /// - Throws: `RecordFailure` for values that cannot be, and for members that would change the answer but are not known.
  func options(like base: GenerationOptions) throws(RecordFailure) -> GenerationOptions {
    try refuseUnknown()
    var options = base
    if let limit = try integer("max_tokens", 0...Int.max) { options.maxTokens = limit }
    // The newer name of the two.
    if let limit = try integer("max_completion_tokens", 0...Int.max) { options.maxTokens = limit }
    if let temperature = try number("temperature", 0...2) { options.temperature = temperature }
    if let topP = try number("top_p", Double.leastNormalMagnitude...1) { options.topP = topP }
    // vLLM writes -1 for all.
    if let topK = try integer("top_k", -1...Int.max) { options.topK = max(0, topK) }
    if let seed = try integer("seed", Int.min...Int.max) { options.seed = UInt64(bitPattern: Int64(seed)) }
    if let ignores = body["ignore_eos"].bool { options.ignoresEndToken = ignores }
    return options
  }

  /// Members that are fine as long as they ask for nothing.
  private func refuseUnknown() throws(RecordFailure) {
    let keys = [
      "stream", "n", "best_of", "stop", "tools", "tool_choice", "functions", "response_format", "logprobs",
      "top_logprobs", "logit_bias", "presence_penalty", "frequency_penalty", "repetition_penalty", "min_p",
      "guided_json", "guided_regex", "guided_choice", "use_beam_search",
    ]
    for key in keys where !asksForNothing(body[key], key) {
      throw RecordFailure(.unsupportedOption, "body.\(key) is not supported; leave it out")
    }
  }

  private func asksForNothing(_ value: JSONValue, _ key: String) -> Bool {
    switch value {
    case .null, .bool(false): true
    case .integer(let number): number == (["n", "best_of", "repetition_penalty"].contains(key) ? 1 : 0)
    case .number(let number): number == (key == "repetition_penalty" ? 1 : 0)
    case .string(let text): key == "tool_choice" && text == "none"
    case .array(let values): values.isEmpty
    case .object(let members): members.isEmpty || (key == "response_format" && value["type"].string == "text")
    default: false
    }
  }

  private func integer(_ key: String, _ range: ClosedRange<Int>) throws(RecordFailure) -> Int? {
    if body[key].isNull { return nil }
    guard let value = body[key].integer, range.contains(value) else { throw misfit(key, "a whole number in range") }
    return value
  }

  private func number(_ key: String, _ range: ClosedRange<Double>) throws(RecordFailure) -> Double? {
    let value: Double
    switch body[key] {
    case .null: return nil
    case .integer(let integer): value = Double(integer)
    case .number(let number): value = number
    default: throw misfit(key, "a number")
    }
    guard range.contains(value) else { throw misfit(key, "a number in range") }
    return value
  }

  private func misfit(_ key: String, _ expected: String) -> RecordFailure {
    RecordFailure(.badRecord, "body.\(key): expected \(expected), found \(body[key].kind.prefix(40))")
  }
}
