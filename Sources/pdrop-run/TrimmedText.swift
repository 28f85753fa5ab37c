/// A text that comes in pieces, without the white space at its ends.
struct TrimmedText {
  /// What has come so far.
  private(set) var text = ""
  /// White space that belongs to the text only if more follows.
  private var held = ""

  /// Takes the next piece and returns what it adds.
  mutating func push(_ piece: String) -> String {
    held += piece
    let scalars = held.unicodeScalars
    guard let last = scalars.lastIndex(where: { !$0.properties.isWhitespace }) else {
      if text.isEmpty { held = "" }
      return ""
    }
    let end = scalars.index(after: last)
    let begin = text.isEmpty ? scalars.firstIndex { !$0.properties.isWhitespace } ?? end : scalars.startIndex
    let added = String(scalars[begin..<end])
    held = String(scalars[end...])
    text += added
    return added
  }
}
