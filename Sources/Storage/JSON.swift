/// A JSON document as a tree whose objects keep every member, in order.
///
/// Foundation's decoders store members in a dictionary of `String`, which merges canonically equivalent keys. Of a
/// vocabulary with U+00C5 and U+212B, both "Å", they return only one.
package enum JSONValue: Sendable {
  case null
  case bool(Bool)
  case integer(Int)

  /// A number that is not an `Int`.
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([Member])

  package struct Member: Sendable {
    package var key: String
    package var value: JSONValue

    package init(key: String, value: JSONValue) { (self.key, self.value) = (key, value) }
  }

  /// The first member whose key has these bytes; null if there is none or the value is not an object.
  package subscript(key: String) -> JSONValue {
    guard case .object(let members) = self else { return .null }
    return members.first { $0.key.utf8.elementsEqual(key.utf8) }?.value ?? .null
  }

  package var string: String? { if case .string(let value) = self { value } else { nil } }
  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  package var integer: Int? { if case .integer(let value) = self { value } else { nil } }
  /// The value of any number.
  package var double: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }
  package var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
  package var members: [Member]? { if case .object(let value) = self { value } else { nil } }
  package var isNull: Bool { if case .null = self { true } else { false } }

  /// The first key that occurs twice in an object, this one or one inside it; readers differ in which value they use.
  package var repeatedKey: String? {
    switch self {
    case .object(let members):
      var keys: Set<ByteString> = []
      for member in members where !keys.insert(ByteString(member.key)).inserted { return member.key }
      return members.lazy.compactMap(\.value.repeatedKey).first
    case .array(let values): return values.lazy.compactMap(\.repeatedKey).first
    default: return nil
    }
  }

  /// A short description of the value, for error messages.
  package var kind: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .integer(let value): "\(value)"
    case .number(let value): "\(value)"
    case .string(let value): value
    case .array: "a list"
    case .object: "an object"
    }
  }

  /// The value for a message: `kind`, with a text as an excerpt.
  package var excerpt: String { string?.excerpt ?? kind }
}

/// A strict JSON parser with a limit on recursion, `depthLimit`.
///
/// Source: RFC 8259.
package struct JSONParser {
  package struct ParseError: Error, Equatable {
    package var offset: Int
    package var expected: String

    package init(offset: Int, expected: String) {
      self.offset = offset
      self.expected = expected
    }
  }

  /// The maximum nesting depth of arrays and objects.
  package static let depthLimit = 100

  private let bytes: [UInt8]
  private let allowsNonFinite: Bool
  private let valueLimit: Int
  private var position = 0
  private var valueCount = 0

  /// Parses a UTF-8 document, with or without a byte order mark.
  ///
  /// - Parameters:
  ///   - allowsNonFinite: Whether `NaN`, `Infinity` and `-Infinity` are numbers, as Python writes and reads them, and
  ///     numbers outside the range of a `Double` are infinite.
  ///   - valueLimit: The maximum number of values, nested ones included. Each may take 100 times the memory of its text.
  package static func parse(
    _ bytes: [UInt8], allowsNonFinite: Bool = false, valueLimit: Int = .max
  ) throws(ParseError) -> JSONValue {
    var parser = JSONParser(bytes: bytes, allowsNonFinite: allowsNonFinite, valueLimit: valueLimit)
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { parser.position = 3 }
    let value = try parser.value(depth: 0)
    parser.skipSpace()
    guard parser.position == bytes.count else { throw parser.expected("the end of the text") }
    return value
  }

  /// The members of a damaged document's object that are complete before the first error.
  ///
  /// A number at the very end may be cut off, so it is not among them.
  package static func membersBeforeError(_ bytes: [UInt8]) -> [JSONValue.Member] {
    var parser = JSONParser(bytes: bytes, allowsNonFinite: false, valueLimit: .max)
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { parser.position = 3 }
    parser.skipSpace()
    guard parser.take("{") else { return [] }
    var members: [JSONValue.Member] = []
    repeat {
      guard let member = try? parser.member(depth: 0), parser.next != nil else { break }
      members.append(member)
      parser.skipSpace()
    } while parser.take(",")
    return members
  }

  private init(bytes: [UInt8], allowsNonFinite: Bool, valueLimit: Int) {
    self.bytes = bytes
    self.allowsNonFinite = allowsNonFinite
    self.valueLimit = valueLimit
  }

  private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

  /// The error that `token` was expected at the current position.
  private func expected(_ token: String) -> ParseError { ParseError(offset: position, expected: token) }

  private mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
  }

  /// Consumes the next character if it is `character`.
  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard next == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  private mutating func value(depth: Int) throws(ParseError) -> JSONValue {
    guard depth <= Self.depthLimit else { throw expected("at most \(Self.depthLimit) levels") }
    guard valueCount < valueLimit else { throw expected("at most \(valueLimit) values") }
    valueCount += 1
    skipSpace()
    switch next {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    case UInt8(ascii: "N") where allowsNonFinite: return try word("NaN", .number(.nan))
    case UInt8(ascii: "I") where allowsNonFinite: return try word("Infinity", .number(.infinity))
    default: return try number()
    }
  }

  private mutating func word(_ word: String, _ value: JSONValue) throws(ParseError) -> JSONValue {
    guard bytes[position...].starts(with: word.utf8) else { throw expected(word) }
    position += word.utf8.count
    return value
  }

  private mutating func array(depth: Int) throws(ParseError) -> JSONValue {
    position += 1
    var elements: [JSONValue] = []
    skipSpace()
    if take("]") { return .array(elements) }
    repeat {
      elements.append(try value(depth: depth + 1))
      skipSpace()
    } while take(",")
    guard take("]") else { throw expected("',' or ']'") }
    return .array(elements)
  }

  private mutating func object(depth: Int) throws(ParseError) -> JSONValue {
    position += 1
    var members: [JSONValue.Member] = []
    skipSpace()
    if take("}") { return .object(members) }
    repeat {
      members.append(try member(depth: depth))
      skipSpace()
    } while take(",")
    guard take("}") else { throw expected("',' or '}'") }
    return .object(members)
  }

  private mutating func member(depth: Int) throws(ParseError) -> JSONValue.Member {
    skipSpace()
    let key = try string()
    skipSpace()
    guard take(":") else { throw expected("':'") }
    return .init(key: key, value: try value(depth: depth + 1))
  }

  private mutating func number() throws(ParseError) -> JSONValue {
    let start = position
    var isInteger = true
    if take("-"), allowsNonFinite, next == UInt8(ascii: "I") { return try word("Infinity", .number(-.infinity)) }
    if !take("0") { try digits() }
    if take(".") {
      isInteger = false
      try digits()
    }
    if take("e") || take("E") {
      isInteger = false
      if !take("+") { _ = take("-") }
      try digits()
    }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    if isInteger, let value = Int(text) { return .integer(value) }
    guard let value = Double(text), value.isFinite || allowsNonFinite else { throw expected("a number within range") }
    return .number(value)
  }

  private mutating func digits() throws(ParseError) {
    let start = position
    while let byte = next, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") { position += 1 }
    guard position > start else { throw expected("a value") }
  }

  private mutating func string() throws(ParseError) -> String {
    guard take("\"") else { throw expected("a string") }
    let start = position
    var unescaped: [UInt8] = []
    var copied = position
    while let byte = next, byte != UInt8(ascii: "\"") {
      guard byte >= 0x20 else { throw expected("an escaped control character") }
      if byte == UInt8(ascii: "\\") {
        unescaped += bytes[copied..<position]
        position += 1
        unescaped += Array(String(try escape()).utf8)
        copied = position
      } else {
        position += 1
      }
    }
    let end = position
    guard take("\"") else { throw expected("'\"'") }
    let text =
      if copied == start {
        String(validating: bytes[start..<end], as: UTF8.self)
      } else {
        String(validating: unescaped + bytes[copied..<end], as: UTF8.self)
      }
    guard let text else { throw ParseError(offset: start, expected: "UTF-8") }
    return text
  }

  /// Parses the rest of an escape sequence after the backslash.
  private mutating func escape() throws(ParseError) -> Unicode.Scalar {
    guard let byte = next else { throw expected("an escape sequence") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{C}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"): break
    default: throw expected("an escape sequence")
    }
    var code = try fourDigits()
    if (0xD800..<0xDC00).contains(code) {
      guard take("\\"), take("u") else { throw expected("the second half of a surrogate pair") }
      let low = try fourDigits()
      guard (0xDC00..<0xE000).contains(low) else { throw expected("the second half of a surrogate pair") }
      code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
    }
    guard let scalar = Unicode.Scalar(code) else { throw expected("a surrogate pair") }
    return scalar
  }

  private mutating func fourDigits() throws(ParseError) -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let digit = next.flatMap({ Character(Unicode.Scalar($0)).hexDigitValue }) else {
        throw expected("four hexadecimal digits")
      }
      code = code << 4 | UInt32(digit)
      position += 1
    }
    return code
  }
}
