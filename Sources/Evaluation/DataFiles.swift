import Foundation
package import Storage

/// A JSON value of a benchmark's file, with its location for error messages.
struct DataValue {
  let json: JSONValue
  let path: String
  /// The location in the file, such as `line 3` or `data[17]`; `nil` for the whole file.
  let place: String?

  func error(_ reason: String) -> DataError { DataError(path, at: place, reason) }

  /// The value at a key; null if there is none. A key that occurs twice has its last value, as in Python.
  subscript(key: String) -> JSONValue {
    json.members?.last { $0.key.utf8.elementsEqual(key.utf8) }?.value ?? .null
  }

  func has(_ key: String) -> Bool { !self[key].isNull }

  func string(_ key: String) throws(DataError) -> String {
    guard let text = self[key].string else { throw expected("a string", at: key) }
    return text
  }

  /// The string at a key; `nil` if there is none.
  func optionalString(_ key: String) -> String? { self[key].string }

  /// The value of 0 or 1, or of a Boolean; `nil` if there is none.
  func optionalFlag(_ key: String) throws(DataError) -> Bool? {
    switch self[key] {
    case .null: return nil
    case .bool(let flag): return flag
    case .integer(0), .number(0): return false
    case .integer(1), .number(1): return true
    default: throw expected("0 or 1", at: key)
    }
  }

  /// The integer at a key, or the value itself.
  func integer(_ key: String? = nil) throws(DataError) -> Int {
    guard let integer = (key.map { self[$0] } ?? json).integer else { throw expected("an integer", at: key) }
    return integer
  }

  /// The identifier of a question: a string or an integer.
  func identifier(_ key: String) throws(DataError) -> QuestionID {
    switch self[key] {
    case .string(let text): return QuestionID(text)
    case .integer(let number): return QuestionID(number)
    default: throw expected("a string or an integer", at: key)
    }
  }

  func strings(_ key: String) throws(DataError) -> [String] {
    guard let strings = self[key].array?.map(\.string), !strings.contains(nil) else {
      throw expected("a list of strings", at: key)
    }
    return strings.compactMap(\.self)
  }

  /// The elements of the list at a key, or of the value itself.
  func list(_ key: String? = nil) throws(DataError) -> [DataValue] {
    guard let elements = (key.map { self[$0] } ?? json).array else { throw expected("a list", at: key) }
    return elements.enumerated().map { index, element in
      DataValue(json: element, path: path, place: joined("\(key ?? "")[\(index)]"))
    }
  }

  /// The members of the object at a key, or of the value itself, in file order.
  func members(_ key: String? = nil) throws(DataError) -> [(key: String, entry: DataValue)] {
    guard let members = (key.map { self[$0] } ?? json).members else { throw expected("an object", at: key) }
    return members.map { ($0.key, DataValue(json: $0.value, path: path, place: joined($0.key.excerpt))) }
  }

  private func joined(_ step: String) -> String { place.map { $0 + "." + step } ?? step }

  private func expected(_ what: String, at key: String?) -> DataError {
    let found = key.map { self[$0] } ?? json
    return error(
      (key.map { "\($0): " } ?? "")
        + "expected \(what), found \(found.isNull ? "none" : found.string?.excerpt ?? found.kind)")
  }
}

extension DataValue {
  /// The value of a JSON file.
  static func read(_ path: String) throws(DataError) -> DataValue {
    let bytes = try contents(of: path)
    do { return DataValue(json: try JSONParser.parse(bytes, allowsNonFinite: true), path: path, place: nil) } catch {
      let line = bytes.prefix(error.offset).count { $0 == UInt8(ascii: "\n") } + 1
      throw DataError(path, at: "line \(line)", "not JSON: expected \(error.expected) at byte \(error.offset)")
    }
  }

  /// Calls `body` with the object on each line of a JSONL file; blank lines are skipped.
  static func readLines(_ path: String, _ body: (DataValue) throws -> Void) throws {
    let lines = try contents(of: path).split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    for (index, line) in lines.enumerated() where !line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }) {
      let place = "line \(index + 1)"
      let json: JSONValue
      do throws(JSONParser.ParseError) { json = try JSONParser.parse(Array(line), allowsNonFinite: true) } catch {
        throw DataError(path, at: place, "not JSON: expected \(error.expected) at byte \(error.offset) of the line")
      }
      guard json.members != nil else {
        throw DataError(path, at: place, "expected a JSON object, found \(json.string?.excerpt ?? json.kind)")
      }
      try body(DataValue(json: json, path: path, place: place))
    }
  }

  /// Checks that a file does not begin like another kind of file: UTF-16, as some spreadsheets and shells write it, a
  /// compressed file, a pointer of Git LFS or a web page.
  static func checkText(_ bytes: SharedBytes, _ path: String) throws(DataError) {
    let beginning = bytes.copy(0..<min(64, bytes.count))
    if let content = ForeignContent(firstBytes: beginning) {
      throw DataError(path, "expected UTF-8, found \(content.name); \(content.remedy)")
    }
    if GitLFSPointer.isFound(beginning) { throw DataError(path, GitLFSPointer.reason) }
    let text = PythonText.stripped(String(decoding: beginning, as: UTF8.self)).lowercased()
    if text.hasPrefix("<!doctype html") || text.hasPrefix("<html") {
      throw DataError(path, "is a web page (HTML) instead of data; download the file itself")
    }
  }

  private static func contents(of path: String) throws(DataError) -> [UInt8] {
    let bytes: SharedBytes
    do { bytes = try SharedBytes(mapping: path) } catch { throw DataError(path, reading: error) }
    try checkText(bytes, path)
    return bytes.copy(0..<bytes.count)
  }
}

/// The data folder: the files of all benchmarks, laid out as in LLaVA's `playground/data/eval`.
package struct DataFolder: Sendable {
  package let path: String

  package init(_ path: String) { self.path = path }

  /// The path of a file or folder in the data folder.
  package func path(_ name: String) -> String { path + "/" + name }

  package func has(_ name: String) -> Bool { FileManager.default.fileExists(atPath: path(name)) }

  /// Whether a path leads to a file of the system instead of data: a hidden file, such as `.DS_Store`, or a file of
  /// attributes that an archive made on macOS has next to every file, `._1.txt` or `__MACOSX/1.txt`.
  package static func isSystemFile(_ path: String) -> Bool {
    path.split(separator: "/").contains { $0.hasPrefix(".") || $0 == "__MACOSX" }
  }
}

/// A file or folder of a benchmark.
package struct DataFile: Sendable, Equatable {
  package enum Role: Sendable { case questions, images, groundTruth }

  /// The path relative to the data folder.
  package let path: String
  /// The contents; one table often has the questions, the images and the ground truth.
  package let roles: Set<Role>

  init(_ path: String, _ roles: Role...) { (self.path, self.roles) = (path, Set(roles)) }
}

/// An error in a file of a benchmark, with its location.
package struct DataError: UserFacingError, Equatable {
  package let path: String
  /// The location in the file, such as `line 3` or `data[17]`; `nil` for the whole file.
  package let place: String?
  package let reason: String

  package init(_ path: String, at place: String? = nil, _ reason: String) {
    (self.path, self.place, self.reason) = (path, place, reason)
  }

  /// An error that names the file itself: its message begins with the path, a colon and a space.
  init(_ path: String, reading error: FileError) {
    self.init(path, String("\(error)".dropFirst(path.count + 2)))
  }

  package var category: ErrorCategory { .resource }
  package var problem: String { path + (place.map { ", " + $0 } ?? "") + ": " + reason }
}
