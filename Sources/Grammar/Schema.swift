import Storage

/// A schema that is an object, at its place in the document. Its keywords are supported, and none appears twice.
struct Schema {
  /// Keywords that only annotate.
  private static let annotations: Set<String> = [
    "title", "description", "default", "examples", "$schema", "$comment", "deprecated", "readOnly", "writeOnly",
    "$defs", "definitions",
  ]
  static let objectKeywords = ["properties", "required", "additionalProperties"]
  static let arrayKeywords = ["items", "minItems", "maxItems", "uniqueItems"]
  static let stringKeywords = ["minLength", "maxLength", "pattern", "format"]
  static let numberKeywords = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]
  private static let supported =
    ["type", "enum", "const", "anyOf", "allOf", "$ref"] + objectKeywords + arrayKeywords + stringKeywords
    + numberKeywords
  private static let types = ["object", "array", "string", "number", "integer", "boolean", "null"]

  let value: JSONValue
  let pointer: JSONPointer
  /// The keywords that restrict values, in the order of the document.
  let keywords: [String]

  /// - Throws: `GrammarError.schema` for a keyword that is not supported or appears twice.
  init(_ value: JSONValue, at pointer: JSONPointer) throws(GrammarError) {
    guard let members = value.members else {
      throw .schema(pointer: "\(pointer)", problem: "expected a schema, found \(value.kind.excerpt)")
    }
    self.value = value
    self.pointer = pointer
    keywords = members.map(\.key).filter { !Self.annotations.contains($0) && $0 != "$id" }
    var found: Set<String> = []
    for key in members.map(\.key) {
      if key == "$id" {
        // Below the root it would change what references mean.
        if pointer != .root { throw error(key, "the keyword $id is supported at the root only") }
      } else if !Self.annotations.contains(key), !Self.supported.contains(key) {
        let supported = Self.supported.joined(separator: ", ")
        throw error(key, "the keyword \(key.excerpt) is not supported; supported are \(supported)")
      }
      guard found.insert(key).inserted else { throw error(key, "the keyword appears twice") }
    }
  }

  func contains(_ keyword: String) -> Bool { keywords.contains(keyword) }

  /// The value of a keyword; `.null` if it is absent.
  subscript(keyword: String) -> JSONValue { value[keyword] }

  // MARK: - Values of keywords

  /// The types in `type`; nil if there is no such keyword.
  func types() throws(GrammarError) -> [String]? {
    guard contains("type") else { return nil }
    let names = self["type"].array?.map(\.string) ?? [self["type"].string]
    var result: [String] = []
    for name in names {
      guard let name, Self.types.contains(name) else {
        throw unexpected("type", expected: "one of \(Self.types.joined(separator: ", ")), or a list of them")
      }
      if !result.contains(name) { result.append(name) }
    }
    guard !result.isEmpty else { throw unexpected("type", expected: "at least one type") }
    return result
  }

  /// The value of a keyword that is a text; nil if it is absent.
  func text(_ keyword: String) throws(GrammarError) -> String? {
    guard contains(keyword) else { return nil }
    guard let text = self[keyword].string else { throw unexpected(keyword, expected: "a text") }
    return text
  }

  /// The value of a keyword that is a count; nil if it is absent.
  func count(_ keyword: String) throws(GrammarError) -> Int? {
    guard contains(keyword) else { return nil }
    switch self[keyword] {
    case .integer(let value) where value >= 0: return min(value, 1 << 40)
    case .number(let value) where value >= 0 && value == value.rounded(): return Int(min(value, 0x1p40))
    default: throw unexpected(keyword, expected: "an integer from 0")
    }
  }

  // MARK: - Errors

  /// An error of the whole schema.
  func error(_ problem: String) -> GrammarError { error(nil, problem) }

  /// An error of a keyword; nil for the whole schema.
  func error(_ keyword: String?, _ problem: String) -> GrammarError {
    .schema(pointer: "\(keyword.map { pointer / $0 } ?? pointer)", problem: problem)
  }

  /// The error that the value of a keyword is of another kind.
  func unexpected(_ keyword: String, expected: String) -> GrammarError {
    error(keyword, "expected \(expected), found \(self[keyword].kind.excerpt)")
  }
}
