import Foundation
package import Storage

/// A JSON value of a benchmark's file, with where it stands, so that whatever is wrong with it can be said.
struct DataRow {
  let value: JSONValue
  let path: String
  let place: String?

  func problem(_ reason: String) -> DataError { DataError(path, at: place, reason) }

  func has(_ key: String) -> Bool { !value[key].isNull }

  func text(_ key: String) throws(DataError) -> String {
    guard let text = value[key].string else { throw expected("a text", at: key) }
    return text
  }

  /// A text that need not be there.
  func optionalText(_ key: String) -> String? { value[key].string }

  /// The number at a key, or that the record itself is.
  func integer(_ key: String? = nil) throws(DataError) -> Int {
    guard let integer = (key.map { value[$0] } ?? value).integer else { throw expected("a whole number", at: key) }
    return integer
  }

  /// A text or a whole number that names a question.
  func identifier(_ key: String) throws(DataError) -> QuestionID {
    switch value[key] {
    case .string(let text): return QuestionID(text)
    case .integer(let number): return QuestionID(number)
    default: throw expected("a text or a whole number", at: key)
    }
  }

  func texts(_ key: String) throws(DataError) -> [String] {
    guard let texts = value[key].array?.map(\.string), !texts.contains(nil) else { throw expected("texts", at: key) }
    return texts.compactMap(\.self)
  }

  /// The elements of the list at a key, or of the record itself.
  func list(_ key: String? = nil) throws(DataError) -> [DataRow] {
    guard let elements = (key.map { value[$0] } ?? value).array else { throw expected("a list", at: key) }
    return elements.enumerated().map { index, element in
      DataRow(value: element, path: path, place: joined("\(key ?? "")[\(index)]"))
    }
  }

  /// The members of the object at a key, or of the record itself, in their order.
  func members(_ key: String? = nil) throws(DataError) -> [(key: String, record: DataRow)] {
    guard let members = (key.map { value[$0] } ?? value).members else { throw expected("an object", at: key) }
    return members.map { ($0.key, DataRow(value: $0.value, path: path, place: joined("'\($0.key)'"))) }
  }

  private func joined(_ step: String) -> String { place.map { $0 + "." + step } ?? step }

  private func expected(_ what: String, at key: String?) -> DataError {
    let found = key.map { value[$0] } ?? value
    return problem(
      (key.map { "\($0): " } ?? "")
        + "expected \(what), found \(found.isNull ? "none" : found.kind.prefix(40).description)")
  }
}

extension DataRow {
  /// The record that a whole file is.
  static func read(_ path: String) throws(DataError) -> DataRow {
    let bytes = try contents(of: path)
    do { return DataRow(value: try JSONParser.parse(bytes), path: path, place: nil) } catch {
      let line = bytes.prefix(error.offset).count { $0 == UInt8(ascii: "\n") } + 1
      throw DataError(path, at: "line \(line)", "not JSON: expected \(error.expected) at byte \(error.offset)")
    }
  }

  /// Hands out the records of a file with a JSON object on each line; blank lines are none.
  static func readLines(
    _ path: String, _ body: (DataRow) throws -> Void
  ) throws {
    let lines = try contents(of: path).split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    for (index, line) in lines.enumerated() where !line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }) {
      let place = "line \(index + 1)"
      let value: JSONValue
      do throws(JSONParser.ParseError) { value = try JSONParser.parse(Array(line)) } catch {
        throw DataError(path, at: place, "not JSON: expected \(error.expected) at byte \(error.offset) of the line")
      }
      guard value.members != nil else {
        throw DataError(path, at: place, "expected a JSON object, found \(value.kind)")
      }
      try body(DataRow(value: value, path: path, place: place))
    }
  }

  private static func contents(of path: String) throws(DataError) -> [UInt8] {
    do {
      let bytes = try SharedBytes(mapping: path)
      return bytes.copy(0..<bytes.count)
    } catch {
      // The error names the file as well.
      throw DataError(path, String("\(error)".dropFirst(path.count + 2)))
    }
  }
}

/// The folder of all benchmarks, laid out as LLaVA's `playground/data/eval`.
package struct DataFolder: Sendable {
  package let path: String

  package init(_ path: String) { self.path = path }

  /// The path of a file or folder in it.
  package func path(_ name: String) -> String { path + "/" + name }

  package func has(_ name: String) -> Bool { FileManager.default.fileExists(atPath: path(name)) }
}

/// A file or folder that a benchmark looks for.
package struct DataFile: Sendable, Equatable {
  package enum Role: Sendable { case questions, images, truth }

  /// Below the folder of all benchmarks.
  package let path: String
  /// What it is for; a table of questions is often truth and images as well.
  package let specialTokens: Set<Role>

  init(_ path: String, _ specialTokens: Role...) { (self.path, self.specialTokens) = (path, Set(specialTokens)) }
}

/// What is wrong with a benchmark's file, and where.
package struct DataError: UserFacingError, Equatable {
  package let path: String
  /// Such as `line 3` or `data[17]`; `nil` for the file as a whole.
  package let place: String?
  package let reason: String

  package init(_ path: String, at place: String? = nil, _ reason: String) {
    (self.path, self.place, self.reason) = (path, place, reason)
  }

  package var category: ErrorCategory { .resource }
  package var problem: String { path + (place.map { ", " + $0 } ?? "") + ": " + reason }
}
