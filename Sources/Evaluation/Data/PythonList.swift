/// Lists of texts as Python prints them, `['a', "it's"]`, which VLMEvalKit's tables hold where a question has several right
/// answers.
package enum PythonList {
  /// The texts of a list; `nil` for what is no such list.
  package static func texts(_ text: String) -> [String]? {
    let trimmed = text.drop { $0.isWhitespace }
    guard trimmed.first == "[", let end = trimmed.lastIndex(of: "]"),
      trimmed[end...].dropFirst().allSatisfy(\.isWhitespace)
    else { return nil }
    var rest = trimmed[..<end].dropFirst().drop { $0.isWhitespace }
    var texts: [String] = []
    while let quote = rest.first {
      guard quote == "'" || quote == "\"", let item = quoted(rest.dropFirst(), until: quote) else { return nil }
      texts.append(item.text)
      rest = item.rest.drop { $0.isWhitespace }
      guard rest.isEmpty || rest.first == "," else { return nil }
      rest = rest.dropFirst().drop { $0.isWhitespace }
    }
    return texts
  }

  private static func quoted(_ text: Substring, until quote: Character) -> (text: String, rest: Substring)? {
    var (result, rest) = ("", text)
    while let character = rest.popFirst() {
      switch character {
      case quote: return (result, rest)
      case "\\":
        guard let escaped = rest.popFirst() else { return nil }
        result.append(["n": "\n", "t": "\t", "r": "\r"][escaped] ?? escaped)
      default: result.append(character)
      }
    }
    return nil
  }
}
