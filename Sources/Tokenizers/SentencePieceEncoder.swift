/// The pieces of a SentencePiece BPE model and its normalization.
package struct SentencePieceRules: Equatable, Sendable {
  /// The merge rank of each piece, which is lowest for the best score; nil for pieces that no merge makes.
  package var ranks: [Int32?]

  /// Pieces that are taken from the text before BPE and never merged.
  package var userDefined: [Int32]

  /// Control pieces, which decode to no text.
  package var controls: Set<Int32>

  /// Whether the text starts with a `▁` of its own.
  package var addsDummyPrefix: Bool

  /// Whether spaces at both ends are removed and runs of spaces become one space.
  package var collapsesSpaces: Bool

  /// Whether each segment of text between added tokens is encoded like a text of its own, as in transformers before
  /// version 4.32; otherwise only the text as a whole gets a space.
  package var isLegacy: Bool

  /// Whether a text that is not legacy gets a space at its beginning.
  package var addsPrefixSpace: Bool

  /// The text of the UNK token.
  package var unkText: String

  /// Tokens before which a `▁` at the beginning of the text is left out.
  package var specialTokens: Set<Int32>
}

/// An encoder of SentencePiece BPE: two symbols merge if their concatenation is a piece, best score first.
///
/// Unlike the merges of `tokenizer.json`, the symbols themselves need not be pieces.
///
/// Source: sentencepiece's `normalizer.cc`, `bpe_model.cc` and `sentencepiece_processor.cc`.
struct SentencePieceEncoder: Sendable {
  private struct Piece: Sendable {
    var id: Int32
    var rank: Int32?
  }

  /// A part of the text during BPE.
  private struct Symbol {
    var range: Range<Int>
    /// Whether the symbol is a user-defined piece, which never merges.
    var isFrozen: Bool
  }

  private let pieces: [ArraySlice<UInt8>: Piece]
  private let longestPiece: Int
  private let userDefined: ByteTrie
  private let byteTokens: [Int32]
  /// The ids of the added tokens by their texts.
  private let addedTokens: ByteTrie
  private let unkToken: Int32?
  private let collapsesSpaces: Bool

  init(_ vocabulary: Vocabulary, _ rules: SentencePieceRules) {
    var pieces: [ArraySlice<UInt8>: Piece] = [:]
    pieces.reserveCapacity(vocabulary.tokens.count)
    for (id, token) in vocabulary.tokens.enumerated() {
      pieces[Array(token.utf8)[...]] = Piece(id: Int32(id), rank: rules.ranks[id])
    }
    self.pieces = pieces
    longestPiece = vocabulary.tokens.lazy.map(\.utf8.count).max() ?? 0
    userDefined = ByteTrie(rules.userDefined.map { (Array(vocabulary.tokens[Int($0)].utf8), $0) })
    byteTokens = vocabulary.byteTokens
    addedTokens = ByteTrie(vocabulary.addedTokens.filter { $0.id >= 0 }.map { (Array($0.content.utf8), $0.id) })
    unkToken = vocabulary.specialTokens.unk
    collapsesSpaces = rules.collapsesSpaces
  }

  /// The ids of a text without added tokens.
  ///
  /// Cost: O(n log n) in the length of the text.
  func encode(_ text: ArraySlice<UInt8>, addsDummyPrefix: Bool) -> [Int32] {
    let text = normalized(text, addsDummyPrefix: addsDummyPrefix)
    var symbols = symbols(of: text[...])
    symbols.mergeNeighbours { left, right in
      let range = left.range.lowerBound..<right.range.upperBound
      guard !left.isFrozen, !right.isFrozen, range.count <= longestPiece, let rank = pieces[text[range]]?.rank
      else { return nil }
      return (Symbol(range: range, isFrozen: false), rank)
    }
    var ids: [Int32] = []
    ids.reserveCapacity(symbols.count)
    // A run of unknown characters is one UNK token, or the token with its text.
    var unknown = 0..<0
    for symbol in symbols {
      let piece = pieces[text[symbol.range]]
      if piece == nil, byteTokens.isEmpty {
        unknown = (unknown.isEmpty ? symbol.range.lowerBound : unknown.lowerBound)..<symbol.range.upperBound
        continue
      }
      appendUnknown(text[unknown], to: &ids)
      unknown = 0..<0
      if let piece { ids.append(piece.id) } else { ids += text[symbol.range].map { byteTokens[Int($0)] } }
    }
    appendUnknown(text[unknown], to: &ids)
    return ids
  }

  private func appendUnknown(_ text: ArraySlice<UInt8>, to ids: inout [Int32]) {
    guard !text.isEmpty, let unkToken else { return }
    ids.append(addedTokens[text] ?? unkToken)
  }

  /// A text with `▁` for spaces; with `collapsesSpaces`, a `▁` of the text itself is also removed from its end.
  private func normalized(_ text: ArraySlice<UInt8>, addsDummyPrefix: Bool) -> [UInt8] {
    let text = collapsesSpaces ? Array(text.split(separator: 0x20).joined(separator: [0x20]))[...] : text
    guard !text.isEmpty else { return [] }
    var normalized = addsDummyPrefix ? Normalizer.space : []
    normalized.reserveCapacity(text.count + text.count / 2)
    for byte in text {
      if byte == 0x20 { normalized += Normalizer.space } else { normalized.append(byte) }
    }
    if collapsesSpaces {
      while normalized.suffix(Normalizer.space.count).elementsEqual(Normalizer.space) {
        normalized.removeLast(Normalizer.space.count)
      }
    }
    return normalized
  }

  /// Splits a text into user-defined pieces, the longest first, and characters.
  private func symbols(of text: ArraySlice<UInt8>) -> [Symbol] {
    var symbols: [Symbol] = []
    symbols.reserveCapacity(text.count)
    var start = text.startIndex
    while start < text.endIndex {
      if let (_, end) = userDefined.longestMatch(in: text, at: start) {
        symbols.append(Symbol(range: start..<end, isFrozen: true))
        start = end
      } else {
        let end = text[(start + 1)...].firstIndex { $0 & 0xC0 != 0x80 } ?? text.endIndex
        symbols.append(Symbol(range: start..<end, isFrozen: false))
        start = end
      }
    }
    return symbols
  }
}
