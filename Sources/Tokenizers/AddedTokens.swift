/// A token that is matched in the text before BPE, such as `<image>`.
package struct AddedToken: Equatable, Sendable {
  /// The maximum length of an added token or of a SentencePiece piece in bytes.
  package static let lengthLimit = 512

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

  private let tokens: [AddedToken]
  /// The indices of the tokens by their texts.
  private let trie: ByteTrie

  init(_ tokens: [AddedToken]) {
    self.tokens = tokens
    trie = ByteTrie(tokens.enumerated().map { (Array($1.content.utf8), Int32($0)) })
  }

  /// Splits text at the added tokens in it; no text segment is empty.
  func segments(of text: ArraySlice<UInt8>) -> [Segment] {
    var segments: [Segment] = []
    var segmentStart = text.startIndex
    var position = text.startIndex
    var spaceEnd = text.startIndex
    while position < text.endIndex {
      guard let (index, matchEnd) = trie.longestMatch(in: text, at: position) else {
        position += 1
        continue
      }
      let token = tokens[Int(index)]
      var start = position
      var end = matchEnd
      position = matchEnd
      if token.isSingleWord {
        let hasNeighbour = text.scalar(before: start)?.isWord ?? false || text.scalar(at: end)?.isWord ?? false
        if hasNeighbour { continue }
      }
      if token.stripsLeft {
        while start > segmentStart, let scalar = text.scalar(before: start), scalar.properties.isWhitespace {
          start -= scalar.width
        }
      }
      start = max(start, segmentStart)
      if token.stripsRight {
        // The search goes on in the white space, which can contain tokens itself; it is measured once for all of them.
        if end >= spaceEnd {
          spaceEnd = end
          while let scalar = text.scalar(at: spaceEnd), scalar.properties.isWhitespace { spaceEnd += scalar.width }
        }
        end = spaceEnd
      }
      if segmentStart < start { segments.append(.text(text[segmentStart..<start])) }
      segments.append(.token(token.id))
      segmentStart = end
    }
    if segmentStart < text.endIndex { segments.append(.text(text[segmentStart...])) }
    return segments
  }
}

// MARK: - Characters next to a match

extension Unicode.Scalar {
  /// The length of the character in bytes of UTF-8.
  var width: Int { UTF8.width(self) }
}

extension ArraySlice<UInt8> {
  /// The character that starts at a position, or nil at the end.
  func scalar(at position: Int) -> Unicode.Scalar? {
    guard position < endIndex else { return nil }
    return String(decoding: self[position..<Swift.min(position + 4, endIndex)], as: UTF8.self).unicodeScalars.first
  }

  /// The character that ends at a position, or nil at the start.
  func scalar(before position: Int) -> Unicode.Scalar? {
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
