package import Foundation

extension GGUFTokenizer {
  /// The tokenizer of a model directory, for a GGUF file.
  ///
  /// - Parameters:
  ///   - tokenCount: The number of rows of the token embedding, which the tokens are filled up to.
  ///   - prefersSentencePiece: As for `Vocabulary.load(directory:prefersSentencePiece:)`.
  /// - Throws: `VocabularyError.notInGGUF`, or an error in the files.
  package init(
    directory: URL, tokenCount: Int? = nil, prefersSentencePiece: Bool = false
  ) throws(VocabularyError) {
    let vocabulary = try Vocabulary.load(directory: directory, prefersSentencePiece: prefersSentencePiece)
    let json =
      vocabulary.sentencePiece == nil ? try TokenizerFile.bytes("tokenizer.json", in: directory) : nil
    try self.init(
      vocabulary, tokenCount: tokenCount, tokenizerJSON: json.flatMap { String(validating: $0, as: UTF8.self) })
  }

  /// A vocabulary as the values of GGUF keys, so that reading them results in the same vocabulary.
  ///
  /// The content of `tokenizer.json` is added if the other keys do not hold all of it. They are then as close as they can
  /// be, for readers that use them alone.
  package init(
    _ vocabulary: Vocabulary, tokenCount: Int? = nil, tokenizerJSON: String? = nil
  ) throws(VocabularyError) {
    let file = vocabulary.sentencePiece == nil ? "tokenizer.json" : "tokenizer.model"
    let count = tokenCount ?? vocabulary.size
    guard count >= vocabulary.size, count <= TokenTable.idLimit else {
      throw .idOutOfRange(
        file: file, token: "the last token", id: "\(vocabulary.size - 1)", limit: min(count, TokenTable.idLimit))
    }
    setTokens(vocabulary, count)
    let special = vocabulary.specialTokens
    bosToken = special.bos.map(Int.init)
    eosToken = special.eos.map(Int.init)
    unkToken = special.unk.map(Int.init)
    padToken = special.pad.map(Int.init)
    addsBOS = special.addsBOS
    addsEOS = false
    if let rules = vocabulary.sentencePiece { setRules(rules) } else { setMerges(vocabulary) }
    var part = change(vocabulary, file)
    if part != nil, let tokenizerJSON {
      huggingFaceJSON = tokenizerJSON
      part = change(vocabulary, file)
    }
    if let part { throw .notInGGUF(file: file, part: part) }
  }

  private mutating func setTokens(_ vocabulary: Vocabulary, _ count: Int) {
    let added = Dictionary(vocabulary.addedTokens.map { ($0.id, $0) }) { first, _ in first }
    let bytes = Set(vocabulary.byteTokens)
    var types: [Int32] = []
    for id in 0..<Int32(count) {
      let text = added[id]?.content ?? (id < vocabulary.tokens.count ? vocabulary.tokens[Int(id)] : "")
      tokens.append(text.isEmpty ? "[PAD\(id)]" : text)
      let type =
        if let token = added[id] {
          token.isSpecial ? TokenType.control : TokenType.userDefined
        } else if text.isEmpty {
          TokenType.unused
        } else if id == vocabulary.specialTokens.unk {
          TokenType.unknown
        } else {
          bytes.contains(id) ? TokenType.byte : TokenType.normal
        }
      types.append(type)
    }
    self.types = types
  }

  private mutating func setRules(_ rules: SentencePieceRules) {
    model = GGUFModel.llama.rawValue
    pre = "default"
    setScores { id in id < rules.ranks.count ? rules.ranks[id] : nil }
    addsSpacePrefix = rules.isLegacy ? rules.addsDummyPrefix : rules.addsPrefixSpace
    removesExtraWhitespaces = rules.collapsesSpaces
    isLegacy = rules.isLegacy ? nil : false
  }

  /// Scores that are lower for higher ranks, and lowest for tokens that no merge makes.
  private mutating func setScores(_ rank: (Int) -> Int32?) {
    scores = tokens.indices.map { id in
      switch types?[id] {
      case TokenType.normal: rank(id).map { -Float($0) } ?? -1e9
      case TokenType.byte: 0
      case TokenType.unused: -10_000
      default: -1000
      }
    }
  }

  private mutating func setMerges(_ vocabulary: Vocabulary) {
    let normalizer = vocabulary.normalizer
    addsSpacePrefix = normalizer.prependScheme != .never
    let sorted = vocabulary.merges.sorted { $0.value.rank < $1.value.rank }
    var pattern: PreTokenizerPattern?
    if case .byteLevel(let known) = normalizer.preTokenizer { pattern = known }
    guard normalizer.isByteLevel else {
      model = GGUFModel.llama.rawValue
      pre = "default"
      let ranks = Dictionary(sorted.map { (Int($0.value.token), $0.value.rank) }) { first, _ in first }
      setScores { ranks[$0] }
      return
    }
    model = GGUFModel.gpt2.rawValue
    let kinds = GGUFPreTokenizer.all.filter { $0.pattern == pattern }
    let kind = kinds.first {
      $0.composes == normalizer.composes && $0.ignoresMerges == vocabulary.ignoresMerges
    }
    pre = (kind ?? kinds.first)?.names[0] ?? "default"
    merges = sorted.map { tokens[Int($0.key.left)] + " " + tokens[Int($0.key.right)] }
  }

  /// The part of a vocabulary that these values do not hold; nil if reading them results in an equal one.
  private func change(_ vocabulary: Vocabulary, _ file: String) -> String? {
    guard let read = try? Vocabulary.load(gguf: self, file: file) else { return "the tokens" }
    return vocabulary.difference(from: read)
  }
}

extension Vocabulary {
  /// The first part that encodes or decodes otherwise than in another vocabulary; nil if there is none.
  fileprivate func difference(from other: Vocabulary) -> String? {
    if !hasEqualTokens(other) { return "the tokens" }
    if !hasEqualAddedTokens(other) { return "the added tokens" }
    if specialTokens != other.specialTokens || byteTokens != other.byteTokens { return "the special tokens" }
    if ignoresMerges != other.ignoresMerges || fusesUNK != other.fusesUNK || orderedMerges != other.orderedMerges {
      return "the merges"
    }
    guard let rules = sentencePiece, let otherRules = other.sentencePiece else {
      let isEqual = sentencePiece == nil && other.sentencePiece == nil && normalizer == other.normalizer
      return isEqual ? nil : "the normalizer"
    }
    return rules.difference(from: otherRules, added: Set(addedTokens.map(\.id)))
      ?? (normalizer == other.normalizer ? nil : "the normalizer")
  }

  private func hasEqualTokens(_ other: Vocabulary) -> Bool {
    let added = Set(addedTokens.map(\.id))
    func text(_ vocabulary: Vocabulary, _ id: Int) -> String {
      vocabulary.tokens.indices.contains(id) ? vocabulary.tokens[id] : ""
    }
    return (0..<max(tokens.count, other.tokens.count)).allSatisfy { id in
      added.contains(Int32(id)) || text(self, id).utf8.elementsEqual(text(other, id).utf8)
    }
  }

  /// Whether the added tokens are equal; those of `tokenizer.model` are matched in the raw text, whatever their flag is.
  private func hasEqualAddedTokens(_ other: Vocabulary) -> Bool {
    addedTokens.count == other.addedTokens.count
      && zip(addedTokens, other.addedTokens).allSatisfy { own, other in
        var own = own
        if sentencePiece != nil { own.isNormalized = false }
        return own == other && own.content.utf8.elementsEqual(other.content.utf8)
      }
  }

  /// The merges in order, without the numbers of their ranks.
  private var orderedMerges: [[Int32]] {
    merges.sorted { $0.value.rank < $1.value.rank }.map { [$0.key.left, $0.key.right, $0.value.token] }
  }
}

extension SentencePieceRules {
  /// The first part that encodes otherwise than other rules do; nil if there is none.
  ///
  /// The ranks of added tokens do not matter, as a text with one is split there.
  fileprivate func difference(from other: Self, added: Set<Int32>) -> String? {
    func rank(_ rules: Self, _ id: Int) -> Int32? { id < rules.ranks.count ? rules.ranks[id] : nil }
    let hasEqualRanks = (0..<max(ranks.count, other.ranks.count)).allSatisfy { id in
      added.contains(Int32(id)) || rank(self, id) == rank(other, id)
    }
    if !userDefined.isEmpty { return "the user-defined pieces" }
    if !controls.isSubset(of: added) { return "the control pieces" }
    if !hasEqualRanks { return "the scores" }
    let hasEqualPrefix =
      isLegacy ? addsDummyPrefix == other.addsDummyPrefix : addsPrefixSpace == other.addsPrefixSpace
    if isLegacy != other.isLegacy || collapsesSpaces != other.collapsesSpaces || !hasEqualPrefix {
      return "the spaces"
    }
    if !isLegacy, unkText != other.unkText || specialTokens != other.specialTokens { return "the special tokens" }
    return nil
  }
}
