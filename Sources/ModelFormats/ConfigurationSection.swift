import Foundation
import Kernels
import Storage

/// An object of a JSON configuration file, with typed and range-checked members.
///
/// An absent member has the reference library's default. `null` is a value: as in the reference, only some keys accept
/// it. Errors name the file, the key with its sections, the accepted values and the value found.
package struct ConfigurationSection: Sendable {
  package let file: String
  /// The names of the enclosing sections, each followed by a dot; empty at the top level.
  private let prefix: String
  private let members: [String: JSONValue]

  /// An empty section, whose members are all absent.
  init(file: String, prefix: String = "") {
    self.file = file
    self.prefix = prefix
    members = [:]
  }

  /// - Parameter members: The members of the object; of two with one key the last counts, as in Python.
  init(file: String, prefix: String = "", _ members: [JSONValue.Member]) {
    self.file = file
    self.prefix = prefix
    self.members = Dictionary(members.map { ($0.key, $0.value) }, uniquingKeysWith: { $1 })
  }

  /// The value of a key; null if it is absent.
  subscript(key: String) -> JSONValue { members[key] ?? .null }

  /// Whether a key is present, if only as `null`.
  func contains(_ key: String) -> Bool { members[key] != nil }

  /// The error that the value of a key is not accepted.
  ///
  /// - Parameter found: The value in words; by default an excerpt of it.
  func error(_ key: String, _ expected: String, found: String? = nil) -> CheckpointError {
    .badValue(
      file: file, key: prefix + key, expected: expected, found: found ?? members[key]?.excerpt ?? "nothing")
  }

  /// The object of a key; `nil` if it is absent or null.
  func section(_ key: String) throws(CheckpointError) -> ConfigurationSection? {
    guard !self[key].isNull else { return nil }
    guard let members = self[key].members else { throw error(key, "an object") }
    return ConfigurationSection(file: file, prefix: prefix + key + ".", members)
  }

  // MARK: - Numbers

  func integer(_ key: String, in range: ClosedRange<Int>, default value: Int) throws(CheckpointError) -> Int {
    let value = contains(key) ? self[key].wholeValue : value
    guard let value, range.contains(value) else {
      throw error(
        key, "an integer from \(range.lowerBound) to \(range.upperBound)",
        found: contains(key) ? nil : value.map(String.init))
    }
    return value
  }

  /// Like `integer`, or `nil` if the key is absent or null.
  func integer(_ key: String, in range: ClosedRange<Int>) throws(CheckpointError) -> Int? {
    self[key].isNull ? nil : try integer(key, in: range, default: 0)
  }

  /// The size of a weight dimension.
  func size(_ key: String, default value: Int) throws(CheckpointError) -> Int {
    try integer(key, in: 1...(1 << 20), default: value)
  }

  /// Like `size`, or `nil` if the key is absent or null.
  func size(_ key: String) throws(CheckpointError) -> Int? { try integer(key, in: 1...(1 << 20)) }

  /// A finite number from `range`.
  ///
  /// - Parameter value: The default; `nil` if the key is required.
  func number(_ key: String, in range: ClosedRange<Double>, default value: Double? = nil) throws(CheckpointError)
    -> Double
  {
    guard let value = contains(key) ? self[key].real : value, range.contains(value) else {
      let expected =
        range.upperBound == .greatestFiniteMagnitude
        ? "a finite number of at least \(range.lowerBound)"
        : "a number from \(range.lowerBound) to \(range.upperBound)"
      throw error(key, expected)
    }
    return value
  }

  /// The epsilon of a norm.
  func epsilon(_ key: String, default value: Double) throws(CheckpointError) -> Float {
    Float(try number(key, in: 0...0.5, default: value))
  }

  /// One integer or a list of them; `nil` if the key is absent or null.
  func integers(_ key: String, in range: ClosedRange<Int>) throws(CheckpointError) -> [Int]? {
    guard !self[key].isNull else { return nil }
    var integers: [Int] = []
    for item in self[key].array ?? [self[key]] {
      guard let value = item.wholeValue, range.contains(value) else {
        throw error(
          key, "integers from \(range.lowerBound) to \(range.upperBound)", found: item.excerpt)
      }
      integers.append(value)
    }
    return integers
  }

  // MARK: - Words

  /// A truth value; `null` and 0 are false and 1 is true, as in Python.
  func flag(_ key: String, default value: Bool) throws(CheckpointError) -> Bool {
    switch members[key] {
    case nil: return value
    case .bool(let value): return value
    case .null, .integer(0): return false
    case .integer(1): return true
    default: throw error(key, "true or false")
    }
  }

  /// A text; `nil` if the key is absent or null.
  func text(_ key: String) throws(CheckpointError) -> String? {
    guard !self[key].isNull else { return nil }
    guard let text = self[key].string else { throw error(key, "a text") }
    return text
  }

  /// One of several words.
  func choice<Value>(
    _ key: String, _ choices: KeyValuePairs<String, Value>, default word: String
  ) throws(CheckpointError) -> Value {
    let word = contains(key) ? self[key].string : word
    guard let value = choices.first(where: { $0.key == word })?.value else {
      throw error(key, Remedy.list(choices.map { "'\($0.key)'" }))
    }
    return value
  }

  /// An activation by its names in the reference library.
  func activation(_ key: String, default word: String) throws(CheckpointError) -> Activation {
    try choice(
      key,
      [
        "quick_gelu": .quickGELU, "gelu": .gelu, "gelu_python": .gelu, "gelu_pytorch_tanh": .tanhGELU,
        "silu": .silu, "swish": .silu,
      ], default: word)
  }
}

extension JSONValue {
  /// The value of a number without a fraction that fits in an `Int`.
  var wholeValue: Int? {
    switch self {
    case .integer(let value): value
    case .number(let value): Int(exactly: value)
    default: nil
    }
  }

  /// The value of a number, which may be infinite or not a number.
  var real: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }

  /// The value for a message.
  var excerpt: String {
    switch self {
    case .string(let text): text.excerpt
    case .array(let items): "a list of \(items.count)"
    case .null, .bool, .integer, .number, .object: kind
    }
  }
}

/// Reads JSON files, with errors that name the file and the key.
package enum JSONFile {
  /// The maximum file size in bytes; the largest configuration files are indexes of shards, with about 100 KB.
  static let sizeLimit = 16 << 20

  /// Reads the object of a configuration file.
  ///
  /// - Throws: `CheckpointError` if the file is missing, too large, not JSON, or not an object.
  package static func section(at path: String) throws(CheckpointError) -> ConfigurationSection {
    let bytes = try bytes(at: path)
    let value: JSONValue
    do throws(JSONParser.ParseError) {
      // Python reads and writes NaN and Infinity; the range check of the key refuses them.
      value = try JSONParser.parse(bytes, allowsNonFinite: true)
    } catch {
      throw .malformed(file: path, reason: "not JSON: expected \(error.expected) at byte \(error.offset)")
    }
    guard let members = value.members else {
      throw .malformed(file: path, reason: "expected an object, found \(value.excerpt)")
    }
    return ConfigurationSection(file: path, members)
  }

  /// Like `section`, or `nil` if there is no such file.
  package static func sectionIfPresent(at path: String) throws(CheckpointError) -> ConfigurationSection? {
    do { return try section(at: path) } catch .file(.notFound) { return nil } catch { throw error }
  }

  /// Reads a file of this engine's own formats.
  package static func read<Value: Decodable>(_ type: Value.Type, at path: String) throws(CheckpointError) -> Value {
    let bytes = try bytes(at: path)
    do { return try JSONDecoder().decode(type, from: Data(bytes)) } catch let error as DecodingError {
      throw .malformed(file: path, reason: error.oneLine)
    } catch {
      throw .malformed(file: path, reason: "not JSON")
    }
  }

  private static func bytes(at path: String) throws(CheckpointError) -> [UInt8] {
    let bytes: SharedBytes
    do { bytes = try SharedBytes(mapping: path) } catch { throw .file(error) }
    try GitLFSPointer.refuse(bytes, file: path)
    guard bytes.count <= sizeLimit else {
      throw .malformed(file: path, reason: "\(bytes.count) bytes of JSON, expected at most \(sizeLimit)")
    }
    return bytes.copy(0..<bytes.count)
  }
}

extension DecodingError {
  /// The reason and the key, in one line.
  fileprivate var oneLine: String {
    switch self {
    case .keyNotFound(let key, let context): "missing key \((context.codingPath + [key]).dotted)"
    case .typeMismatch(_, let context): "\(context.codingPath.dotted): not a value of the expected kind"
    case .valueNotFound(_, let context): "\(context.codingPath.dotted): expected a value, found null"
    case .dataCorrupted(let context) where context.codingPath.isEmpty: "not valid JSON"
    case .dataCorrupted(let context): "\(context.codingPath.dotted): not a value of the expected kind"
    @unknown default: "does not have the expected structure"
    }
  }
}

extension [any CodingKey] {
  fileprivate var dotted: String { map(\.stringValue).joined(separator: ".").excerpt }
}
