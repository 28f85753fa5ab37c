/// A search for the strings that end an answer, in text that arrives in parts.
///
/// Text that could be the beginning of such a string is held back until it is known. Texts are compared by their
/// bytes: composed and decomposed characters differ.
package struct StopStrings {
  private let strings: [[UInt8]]
  /// The text that is held back.
  private var pending: [UInt8] = []
  /// Whether one of the strings has occurred.
  package private(set) var isFound = false

  /// - Parameter strings: Empty ones are ignored.
  package init(_ strings: [String]) { self.strings = strings.map { Array($0.utf8) }.filter { !$0.isEmpty } }

  /// Adds a part of the text.
  ///
  /// - Returns: The text that is known not to belong to a stop string; text from the first one on is dropped.
  package mutating func push(_ text: String) -> String {
    guard !strings.isEmpty else { return text }
    guard !isFound, !text.isEmpty else { return "" }
    pending += text.utf8
    let end = pending.indices.first { start in strings.contains { pending[start...].starts(with: $0) } }
    isFound = end != nil
    let released = end ?? pending.indices.first { start in strings.contains { $0.starts(with: pending[start...]) } }
    defer { pending = isFound ? [] : Array(pending[(released ?? pending.count)...]) }
    return String(decoding: pending[..<(released ?? pending.count)], as: UTF8.self)
  }

  /// The text that is still held back.
  package mutating func finish() -> String {
    defer { pending = [] }
    return String(decoding: pending, as: UTF8.self)
  }
}
