/// A token that stands for itself wherever its text occurs.
package struct AddedToken: Equatable, Sendable {
  package var id: Int32
  package var content: String

  /// Left out of decoded text on request.
  package var isSpecial: Bool

  /// Also takes the white space before it.
  package var stripsLeft: Bool

  /// Also takes the white space after it.
  package var stripsRight: Bool

  /// Matches only where no letter, digit or underscore touches it.
  package var isSingleWord: Bool

  /// Looked for after the text was prepared rather than before.
  package var isNormalized: Bool

  package init(
    id: Int32, content: String, isSpecial: Bool, stripsLeft: Bool = false, stripsRight: Bool = false,
    isSingleWord: Bool = false, isNormalized: Bool = false
  ) {
    self.id = id
    self.content = content
    self.isSpecial = isSpecial
    self.stripsLeft = stripsLeft
    self.stripsRight = stripsRight
    self.isSingleWord = isSingleWord
    self.isNormalized = isNormalized
  }
}

/// Finds added tokens in text: the leftmost first, the longest of those that start together.
///
/// Source: the tokenizers library, `added_vocabulary.rs`, `find_matches`.
struct AddedTokenMatcher: Sendable {
  enum Segment: Equatable {
    case text(ArraySlice<UInt8>)
    case token(Int32)
  }

  private struct Node: Sendable {
    var children: [UInt8: Int] = [:]
    var token: AddedToken?
  }

  /// A trie over the bytes of the tokens' texts; the root comes first.
  private var nodes = [Node()]

  init(_ tokens: [AddedToken]) {
    for token in tokens {
      var node = 0
      for byte in token.content.utf8 {
        if let child = nodes[node].children[byte] {
          node = child
        } else {
          nodes.append(Node())
          nodes[node].children[byte] = nodes.count - 1
          node = nodes.count - 1
        }
      }
      nodes[node].token = token
    }
  }

  /// Cuts text at the tokens in it; no stretch of text is empty.
  func segments(of text: ArraySlice<UInt8>) -> [Segment] {
    var segments: [Segment] = []
    var stretchStart = text.startIndex
    var position = text.startIndex
    while position < text.endIndex {
      guard let (token, matchEnd) = longestMatch(in: text, at: position) else {
        position += 1
        continue
      }
      var start = position
      var end = matchEnd
      position = matchEnd
      if token.isSingleWord {
        let touches = text.scalar(before: start)?.isWord ?? false || text.scalar(at: end)?.isWord ?? false
        if touches { continue }
      }
      if token.stripsLeft {
        while start > stretchStart, let scalar = text.scalar(before: start), scalar.properties.isWhitespace {
          start -= UTF8.width(scalar)
        }
      }
      start = max(start, stretchStart)
      if token.stripsRight {
        while let scalar = text.scalar(at: end), scalar.properties.isWhitespace { end += UTF8.width(scalar) }
      }
      if stretchStart < start { segments.append(.text(text[stretchStart..<start])) }
      segments.append(.token(token.id))
      stretchStart = end
      position = max(position, end)
    }
    if stretchStart < text.endIndex { segments.append(.text(text[stretchStart...])) }
    return segments
  }

  private func longestMatch(in text: ArraySlice<UInt8>, at start: Int) -> (token: AddedToken, end: Int)? {
    var match: (AddedToken, Int)? = nil
    var node = 0
    var position = start
    while position < text.endIndex, let child = nodes[node].children[text[position]] {
      node = child
      position += 1
      if let token = nodes[node].token { match = (token, position) }
    }
    return match
  }
}

// MARK: - Characters beside a match

extension UTF8 {
  fileprivate static func width(_ scalar: Unicode.Scalar) -> Int { UTF8.encode(scalar)?.count ?? 1 }
}

extension ArraySlice<UInt8> {
  /// The character that starts here, or nil at the end.
  fileprivate func scalar(at position: Int) -> Unicode.Scalar? {
    guard position < endIndex else { return nil }
    return String(decoding: self[position..<Swift.min(position + 4, endIndex)], as: UTF8.self).unicodeScalars.first
  }

  /// The character that ends here, or nil at the start.
  fileprivate func scalar(before position: Int) -> Unicode.Scalar? {
    guard position > startIndex else { return nil }
    var start = position - 1
    while start > startIndex, self[start] & 0xC0 == 0x80 { start -= 1 }
    return scalar(at: start)
  }
}

extension Unicode.Scalar {
  /// Whether a regular expression's `\w` matches it (Unicode Technical Standard 18, annex C).
  fileprivate var isWord: Bool {
    switch properties.generalCategory {
    case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: true
    default: properties.isAlphabetic || properties.isJoinControl
    }
  }
}
