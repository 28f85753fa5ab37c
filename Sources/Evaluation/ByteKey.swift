/// A text that is compared by its bytes, as a key of a dictionary.
///
/// `String` treats canonically equivalent texts as equal, so that the composed and the decomposed form of "é" would be
/// one key. The ids of questions and the answers that published scorers compare are different if their bytes are.
struct ByteKey: Hashable, Sendable {
  let text: String

  init(_ text: String) { self.text = text }

  static func == (a: Self, b: Self) -> Bool { a.text.hasBytes(of: b.text) }

  func hash(into hasher: inout Hasher) {
    for byte in text.utf8 { hasher.combine(byte) }
    hasher.combine(0xFF as UInt8)
  }
}

extension String {
  /// Whether the texts have equal bytes; `==` also holds for canonically equivalent texts.
  func hasBytes(of other: String) -> Bool { utf8.elementsEqual(other.utf8) }
}
