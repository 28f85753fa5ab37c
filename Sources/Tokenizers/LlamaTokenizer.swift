/// A SentencePiece model with the added tokens and the rules of transformers' `LlamaTokenizer`.
///
/// A legacy tokenizer encodes each segment of text between added tokens like a text of its own, with the model's dummy
/// prefix. Otherwise only the text as a whole gets a `▁`, so there is none after `<image>` or `</s>`.
///
/// Source: transformers 4.46, `tokenization_llama.py` and `tokenization_utils.py`.
struct LlamaTokenizer: Sendable {
  private let rules: SentencePieceRules
  private let encoder: SentencePieceEncoder
  private let added: [AddedToken]
  /// The indices of the added tokens by their texts.
  private let trie: ByteTrie
  /// The number of tokens of the text `<unk>`, and that text.
  private let unk: (count: Int, text: [UInt8])
  /// The token `▁`.
  private let spaceToken: Int32?

  init(_ vocabulary: Vocabulary, _ rules: SentencePieceRules) {
    self.rules = rules
    encoder = SentencePieceEncoder(vocabulary, rules)
    added = vocabulary.addedTokens
    trie = ByteTrie(added.enumerated().map { (Array($1.content.utf8), Int32($0)) })
    let text = Array(rules.unkText.utf8)
    unk = (encoder.encode(text[...], addsDummyPrefix: false).count, text)
    spaceToken = vocabulary.tokens.firstIndex { $0.utf8.elementsEqual(Normalizer.space) }.map { Int32($0) }
  }

  /// The ids of a text, without a BOS token.
  ///
  /// Cost: O(n log n) in the length of the text.
  func encode(_ text: [UInt8]) -> [Int32] {
    guard !text.isEmpty else { return [] }
    var ids: [Int32] = []
    for segment in segments(of: rules.isLegacy ? text[...] : prefixed(text)[...]) {
      if let index = trie[segment] {
        let id = added[Int(index)].id
        // The `▁` before the text is left out before a special token.
        if !rules.isLegacy, ids == [spaceToken], rules.specialTokens.contains(id) { ids.removeFirst() }
        ids.append(id)
      } else {
        ids += encode(segment: segment)
      }
    }
    return ids
  }

  /// A text with `▁` at its beginning, and spaces for those of the text itself.
  private func prefixed(_ text: [UInt8]) -> [UInt8] {
    var prefixed = rules.addsPrefixSpace ? Normalizer.space : []
    prefixed.reserveCapacity(text.count + prefixed.count)
    var start = 0
    while start < text.count {
      if text[start] == Normalizer.space[0], text[start...].starts(with: Normalizer.space) {
        prefixed.append(0x20)
        start += Normalizer.space.count
      } else {
        prefixed.append(text[start])
        start += 1
      }
    }
    return prefixed
  }

  private func encode(segment: ArraySlice<UInt8>) -> [Int32] {
    if rules.isLegacy { return encoder.encode(segment, addsDummyPrefix: rules.addsDummyPrefix) }
    guard segment.first == 0x20 || segment.starts(with: Normalizer.space) else {
      return encoder.encode(segment, addsDummyPrefix: false)
    }
    // SentencePiece may remove spaces at the beginning of a text, so they are encoded after the text `<unk>`.
    let ids = encoder.encode((unk.text + segment)[...], addsDummyPrefix: false)
    return ids.count >= unk.count ? Array(ids.dropFirst(unk.count)) : ids
  }

  /// Splits a text at the added tokens in it, the leftmost first, the longest of those with the same start.
  ///
  /// A token that must be a single word joins the text next to it unless there is a space between them.
  private func segments(of text: ArraySlice<UInt8>) -> [ArraySlice<UInt8>] {
    var segments: [ArraySlice<UInt8>] = []
    var (start, position) = (text.startIndex, text.startIndex)
    while position < text.endIndex {
      guard let (_, end) = trie.longestMatch(in: text, at: position) else {
        position += 1
        continue
      }
      if start < position { segments.append(text[start..<position]) }
      segments.append(text[position..<end])
      (start, position) = (end, end)
    }
    if start < text.endIndex { segments.append(text[start...]) }

    for i in segments.indices {
      guard let index = trie[segments[i]] else { continue }
      let token = added[Int(index)]
      let left = i > 0 ? segments[i - 1] : []
      let right = i + 1 < segments.count ? segments[i + 1] : []
      if token.stripsRight, !right.isEmpty { segments[i + 1] = right.withoutLeadingSpace }
      if token.stripsLeft, !left.isEmpty { segments[i - 1] = left.withoutTrailingSpace }
      if token.isSingleWord, let last = left.last, last != 0x20 {
        segments[i - 1] += segments[i]
        segments[i] = []
      } else if token.isSingleWord, let first = right.first, first != 0x20 {
        segments[i + 1] = segments[i] + segments[i + 1]
        segments[i] = []
      }
    }
    return segments.filter { !$0.isEmpty }
  }
}

extension ArraySlice<UInt8> {
  fileprivate var withoutLeadingSpace: Self {
    var rest = self
    while let scalar = rest.scalar(at: rest.startIndex), scalar.isPythonSpace { rest = rest.dropFirst(scalar.width) }
    return rest
  }

  fileprivate var withoutTrailingSpace: Self {
    var rest = self
    while let scalar = rest.scalar(before: rest.endIndex), scalar.isPythonSpace { rest = rest.dropLast(scalar.width) }
    return rest
  }
}

extension Unicode.Scalar {
  /// Whether Python's `str.isspace` is true: white space, and the separators U+001C to U+001F.
  fileprivate var isPythonSpace: Bool { properties.isWhitespace || (0x1C...0x1F).contains(value) }
}
