import PDrop
import Storage

/// Parser of the lines of a batch's input.
struct RecordParser: Sendable {
  /// Policy and options of every request.
  var base: Request
  /// The folder of relative image paths.
  var folder: String?

  /// The record of a line, in the format of its fields, or in that of `family` if they do not determine it.
  func record(_ line: Line, orElse family: RecordFamily) -> ParsedRecord {
    var record = BatchRecord(family: family, number: line.number)
    do {
      let value = try Self.value(line) { fields in Self.keep(fields, in: &record) }
      record.family = RecordFamily(of: value) ?? family
      let request =
        switch record.family {
        case .llava: try question(value, &record)
        case .openAI: try completion(value, &record)
        }
      return ParsedRecord(record: record, request: .success(request))
    } catch {
      return ParsedRecord(record: record, request: .failure(RecordFailure(error)))
    }
  }

  /// The format of a line; `nil` if its fields do not determine it.
  static func family(of line: Line) -> RecordFamily? {
    var fields = JSONValue.null
    return RecordFamily(of: (try? value(line) { fields = $0 }) ?? fields)
  }

  /// The object of a line.
  ///
  /// - Parameter fallback: Receives the fields before the error of a line that is not JSON or too long.
  /// - Throws: `RecordFailure` for such a line.
  private static func value(_ line: Line, orFields fallback: (JSONValue) -> Void) throws(RecordFailure) -> JSONValue {
    guard !line.isTooLong else {
      fallback(.object(JSONParser.membersBeforeError(line.beginning)))
      throw RecordFailure(
        .badRecord, "the line has \(line.byteCount) bytes, more than the limit of \(LineReader.lengthLimit)")
    }
    do throws(JSONParser.ParseError) { return try JSONParser.parse(line.bytes) } catch {
      fallback(.object(JSONParser.membersBeforeError(line.bytes)))
      // A character has at most four bytes.
      let start = String(decoding: line.bytes.prefix(4 * 61), as: UTF8.self).excerpt
      throw RecordFailure(.badRecord, "not JSON: expected \(error.expected) at byte \(error.offset), found \(start)")
    }
  }

  /// Keeps format and identifier of a damaged record, from the fields before its error.
  private static func keep(_ fields: JSONValue, in record: inout BatchRecord) {
    record.family = RecordFamily(of: fields) ?? record.family
    try? identify(fields, by: record.family == .llava ? "question_id" : "custom_id", &record)
  }

  /// Sets the identifier of a record to the value of `key`, first of all, so that later errors include it.
  ///
  /// - Throws: `RecordFailure` for a missing or invalid identifier, and for an object with a repeated key.
  static func identify(_ value: JSONValue, by key: String, _ record: inout BatchRecord) throws(RecordFailure) {
    guard let members = value.members else { throw RecordFailure(.badRecord, "expected a JSON object") }
    switch value[key] {
    case .integer(let number): record.identifier = .number(number)
    case .string(let text): record.identifier = .text(text)
    case .null: throw RecordFailure(.badRecord, "the record has no \(key)")
    default: throw RecordFailure(.badRecord, "\(key): expected a string or a 64-bit integer")
    }
    // JSON readers differ in which of two members they use.
    if let repeated = value.repeatedKey {
      if members.count(where: { ByteString($0.key) == ByteString(key) }) > 1 { record.identifier = nil }
      throw RecordFailure(.badRecord, "the key \(repeated.excerpt) occurs twice")
    }
  }
}

extension RecordFamily {
  /// The format of an object by its fields; `nil` if they do not determine it.
  init?(of value: JSONValue) {
    func has(_ keys: String...) -> Bool { keys.contains { !value[$0].isNull } }
    if has("custom_id", "body") {
      self = .openAI
    } else if has("question_id", "text", "image") {
      self = .llava
    } else {
      return nil
    }
  }
}

extension RecordParser {
  /// The request of a line of LLaVA's question files.
  ///
  /// `image` is a path, a data URL or a list of them, and may be missing; so may `score_choices`, a list of answers
  /// whose likelihood is reported.
  func question(_ value: JSONValue, _ record: inout BatchRecord) throws -> Request {
    try Self.identify(value, by: "question_id", &record)
    guard let text = value["text"].string else { throw RecordFailure(.badRecord, "text: expected the question") }
    record.question = text
    record.questionHash = QuestionHash(text).value
    record.category = value["category"].string
    try RecordFields.checkQuestion(value)
    var request = base
    let references = try references(value["image"])
    record.imageHash = QuestionHash(images: references)?.value
    request.images = try references.map { try Request.Image(reference: $0, folder: folder) }
    request.prompt = .messages([ChatMessage(question: text, imageCount: request.images.count)])
    if !value["score_choices"].isNull {
      let choices = value["score_choices"].array ?? []
      request.options.scoredChoices = choices.compactMap(\.string)
      guard !choices.isEmpty, request.options.scoredChoices.count == choices.count else {
        throw RecordFailure(.badRecord, "score_choices: expected a list of strings")
      }
    }
    return request
  }

  private func references(_ value: JSONValue) throws(RecordFailure) -> [String] {
    switch value {
    case .null: return []
    case .string(let reference): return [reference]
    case .array(let values):
      let references = values.compactMap(\.string)
      if references.count == values.count { return references }
    default: break
    }
    throw RecordFailure(.badRecord, "image: expected a path or a list of paths")
  }
}

extension RecordParser {
  /// The images of messages, as their parts give them.
  private static func imageReferences(_ messages: JSONValue) -> [String] {
    (messages.array ?? []).flatMap { $0["content"].array ?? [] }.compactMap { part in
      ["image_url", "image", "video_url", "video"].lazy.compactMap { part[$0].string ?? part[$0]["url"].string }.first
    }
  }

  /// The request of a line of OpenAI's batch files.
  func completion(_ value: JSONValue, _ record: inout BatchRecord) throws -> Request {
    try Self.identify(value, by: "custom_id", &record)
    let (method, url, body) = (value["method"], value["url"], value["body"])
    guard method.isNull || method.string == "POST" else {
      throw RecordFailure(.unsupportedOption, "method: expected POST, found \(method.excerpt)")
    }
    guard url.isNull || url.string == "/v1/chat/completions" else {
      throw RecordFailure(.unsupportedOption, "url: expected /v1/chat/completions, found \(url.excerpt)")
    }
    try RecordFields.checkEnvelope(value)
    guard body.members != nil else { throw RecordFailure(.badRecord, "body: expected an object with messages") }
    record.questionHash = QuestionHash(messages: body["messages"]).value
    record.imageHash = QuestionHash(images: Self.imageReferences(body["messages"]))?.value
    let conversation = try Conversation(body["messages"], folder: folder)
    var request = base
    request.prompt = .messages(conversation.messages)
    request.images = conversation.images
    request.options = try CompletionOptions(body: body).options(like: base.options)
    return request
  }
}
