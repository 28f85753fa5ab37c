public import Foundation

/// Values as single lines of JSON.
public enum JSONLine {
  /// The line, newline included.
  public static func encode(_ value: some Encodable) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(value) + Data("\n".utf8)
  }

  /// Writes the line to standard output.
  public static func print(_ value: some Encodable) throws {
    try Output().write(encode(value))
  }
}
