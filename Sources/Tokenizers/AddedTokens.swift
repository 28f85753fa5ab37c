/// A token that is matched in the text before BPE, such as `<image>`.
package struct AddedToken: Equatable, Sendable {
  package var id: Int32
  package var content: String

  /// Whether decoding can skip the token.
  package var isSpecial: Bool

  /// Whether a match includes the white space before it.
  package var stripsLeft: Bool

  /// Whether a match includes the white space after it.
  package var stripsRight: Bool

  /// Whether the token matches only without an adjacent letter, digit or underscore.
  package var isSingleWord: Bool

  /// Whether the token is matched in the normalized text rather than in the raw text.
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

/// A search for added tokens in text: the leftmost match first, the longest of those with the same start.
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

  /// A trie over the bytes of the token texts; the root comes first.
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

  /// Splits text at the added tokens in it; no text segment is empty.
  func segments(of text: ArraySlice<UInt8>) -> [Segment] {
    var segments: [Segment] = []
    var segmentStart = text.startIndex
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
        let hasNeighbour = text.scalar(before: start)?.isWord ?? false || text.scalar(at: end)?.isWord ?? false
        if hasNeighbour { continue }
      }
      if token.stripsLeft {
        while start > segmentStart, let scalar = text.scalar(before: start), scalar.properties.isWhitespace {
          start -= UTF8.width(scalar)
        }
      }
      start = max(start, segmentStart)
      if token.stripsRight {
        while let scalar = text.scalar(at: end), scalar.properties.isWhitespace { end += UTF8.width(scalar) }
      }
      if segmentStart < start { segments.append(.text(text[segmentStart..<start])) }
      segments.append(.token(token.id))
      segmentStart = end
      position = max(position, end)
    }
    if segmentStart < text.endIndex { segments.append(.text(text[segmentStart...])) }
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

// MARK: - Characters next to a match

extension UTF8 {
  fileprivate static func width(_ scalar: Unicode.Scalar) -> Int { UTF8.encode(scalar)?.count ?? 1 }
}

extension ArraySlice<UInt8> {
  /// The character that starts at a position, or nil at the end.
  fileprivate func scalar(at position: Int) -> Unicode.Scalar? {
    guard position < endIndex else { return nil }
    return String(decoding: self[position..<Swift.min(position + 4, endIndex)], as: UTF8.self).unicodeScalars.first
  }

  /// The character that ends at a position, or nil at the start.
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
