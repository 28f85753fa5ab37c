internal import Foundation

/// A file for an official scorer.
package struct Submission: Sendable, Equatable {
  /// What follows the run's name in the file's, such as `.json` or `/color.txt`.
  package var suffix: String
  package var text: String

  package init(suffix: String, text: String) { (self.suffix, self.text) = (suffix, text) }

  /// A list as JSON.
  init(suffix: String, json values: some Encodable) throws { self.init(suffix: suffix, text: try Self.json(values)) }

  /// Values as JSON, one on each line.
  init(suffix: String, lines values: [some Encodable]) throws {
    self.init(suffix: suffix, text: try values.map { try Self.json($0) + "\n" }.joined())
  }

  private static func json(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }
}
