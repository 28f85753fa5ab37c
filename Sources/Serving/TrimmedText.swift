/// A text without white space at both ends, which arrives in parts.
///
/// White space is held back until it is known that text follows, so that all parts together are the trimmed text.
struct TrimmedText {
  private var pending = ""
  private var hasBegun = false

  /// Adds a part of the text, and returns what can be sent.
  mutating func push(_ text: String) -> String {
    pending += text
    if !hasBegun {
      let start = pending.unicodeScalars.drop { $0.properties.isWhitespace }
      pending = String(start)
      hasBegun = !pending.isEmpty
    }
    let scalars = pending.unicodeScalars
    var end = scalars.endIndex
    while end > scalars.startIndex, scalars[scalars.index(before: end)].properties.isWhitespace {
      end = scalars.index(before: end)
    }
    defer { pending = String(scalars[end...]) }
    return String(scalars[..<end])
  }
}
