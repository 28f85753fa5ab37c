internal import ModelFormats

/// Makes a record of a line of input.
struct RecordParser: Sendable {
  /// How every question is asked.
  var base: Request
  /// Where relative paths of pictures begin.
  var folder: String?

  /// The record that a line holds, of the family that its fields tell, else of `family`.
  func record(_ line: Line, orElse family: RecordFamily) -> ReadRecord {
    var record = BatchRecord(family: family, number: line.number)
    do {
      let value = try Self.value(line)
      record.family = RecordFamily(of: value) ?? family
      let request =
        switch record.family {
        case .llava: try question(value, &record)
        case .openAI: try completion(value, &record)
        }
      return ReadRecord(record: record, request: .success(request))
    } catch {
      return ReadRecord(record: record, request: .failure(RecordFailure(error)))
    }
  }

  /// The family of a line that can be told; `nil` for others.
  static func family(of line: Line) -> RecordFamily? { (try? value(line)).flatMap(RecordFamily.init(of:)) }

  private static func value(_ line: Line) throws(RecordFailure) -> JSONValue {
    guard !line.isTooLong else {
      throw RecordFailure(
        .badRecord, "the line has \(line.byteCount) bytes, more than the limit of \(LineReader.lengthLimit)")
    }
    do throws(JSONParser.Failure) { return try JSONParser.parse(line.bytes) } catch {
      let start = String(decoding: line.bytes.prefix(60), as: UTF8.self)
      throw RecordFailure(.badRecord, "not JSON: expected \(error.expected) at byte \(error.offset), found \(start)")
    }
  }

  /// The name that is the value of `key`, which is noted before anything else may fail.
  ///
  /// - Throws: `RecordFailure` for what is no name, and for an object whose keys do not say what is meant.
  static func identify(_ value: JSONValue, by key: String, _ record: inout BatchRecord) throws(RecordFailure) {
    guard let members = value.members else { throw RecordFailure(.badRecord, "expected a JSON object") }
    switch value[key] {
    case .integer(let number): record.identifier = .number(number)
    case .string(let text): record.identifier = .text(text)
    case .null: throw RecordFailure(.badRecord, "the record has no \(key)")
    default: throw RecordFailure(.badRecord, "\(key): expected a text or a whole number of 64 bits")
    }
    // Readers differ in which of two members they take.
    var keys: Set<String> = []
    for member in members where !keys.insert(member.key).inserted {
      if member.key == key { record.identifier = nil }
      throw RecordFailure(.badRecord, "the key '\(member.key.prefix(40))' stands twice; which one is meant?")
    }
  }
}

extension RecordFamily {
  /// The family whose fields an object has, if it has any.
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
