extension Vocabulary {
  /// Reads the tokenizer of a GGUF file.
  ///
  /// A `llama` tokenizer encodes like transformers' `LlamaTokenizer` with `legacy`: each segment of text between special
  /// tokens is a text of its own, with a prefix space. Special tokens are those of type 2, 3 and 4. Of several tokens with
  /// the same text the last one is used. Tokens that are unused decode to no text.
  ///
  /// - Parameter file: The name of the file in errors.
  /// - Throws: `VocabularyError`.
  package static func load(gguf tokenizer: GGUFTokenizer, file: String) throws(VocabularyError) -> Vocabulary {
    if let json = tokenizer.huggingFaceJSON { return try read(json, tokenizer, file) }
    guard let model = GGUFModel(rawValue: tokenizer.model) else {
      throw .unknownName(
        file: file, field: GGUFTokenizer.Key.model.rawValue, found: tokenizer.model,
        known: GGUFModel.allCases.map(\.rawValue))
    }
    let table = try GGUFTokenTable(tokenizer, file: file)
    return switch model {
    case .llama: try sentencePiece(table)
    case .gpt2: try byteLevel(table)
    }
  }

  private static func sentencePiece(_ table: GGUFTokenTable) throws(VocabularyError) -> Vocabulary {
    let (tokenizer, file) = (table.tokenizer, table.file)
    guard let scores = tokenizer.scores else {
      throw .missingField(file: file, field: GGUFTokenizer.Key.scores.rawValue, expected: "a score for each token")
    }
    var ranked: [(id: Int, score: Float)] = []
    for id in table.tokens.indices {
      guard scores[id].isFinite else {
        throw .missingField(
          file: file, field: GGUFTokenizer.Key.scores.rawValue, expected: "a finite score of token \(id)")
      }
      try table.tokens[id].checkLength(file: file)
      if table.isMerged(id) { ranked.append((id, scores[id])) }
    }
    let byteTokens = try table.byteTokens()
    let unk = try table.id(tokenizer.unkToken, .unkToken) ?? 0
    let isLegacy = tokenizer.isLegacy ?? true
    let addsSpacePrefix = tokenizer.addsSpacePrefix ?? true
    let rules = SentencePieceRules(
      ranks: SentencePieceRules.ranks(ranked, count: table.tokens.count), userDefined: [],
      controls: [], addsDummyPrefix: addsSpacePrefix,
      collapsesSpaces: tokenizer.removesExtraWhitespaces ?? false, isLegacy: isLegacy, addsPrefixSpace: addsSpacePrefix,
      unkText: tokenizer.tokens[Int(unk)],
      specialTokens: Set(table.addedTokens.lazy.filter(\.isSpecial).map(\.id)))
    return Vocabulary(
      tokens: table.tokens, merges: [:], addedTokens: table.addedTokens, byteTokens: byteTokens,
      normalizer: Normalizer(prependScheme: .never, stripsLeadingSpace: addsSpacePrefix),
      specialTokens: try table.specialTokens(bos: 1, eos: 2, unk: unk, addsBOS: true), fusesUNK: true,
      sentencePiece: rules)
  }

  private static func byteLevel(_ table: GGUFTokenTable) throws(VocabularyError) -> Vocabulary {
    let (tokenizer, file) = (table.tokenizer, table.file)
    let kind = try table.preTokenizer()
    let addsSpace = tokenizer.addsSpacePrefix ?? false
    if addsSpace, kind.pattern != .gpt2 {
      throw .unsupported(
        file: file, part: GGUFTokenizer.Key.addsSpacePrefix.rawValue, found: "true with \(kind.names[0])")
    }
    var normalizer = Normalizer(
      prependScheme: addsSpace ? .unlessPresent : .never, isNormalizer: kind.composes,
      preTokenizer: .byteLevel(kind.pattern), stripsLeadingSpace: false)
    normalizer.composes = kind.composes
    return Vocabulary(
      tokens: table.tokens, merges: try table.merges(), addedTokens: table.addedTokens, byteTokens: [],
      normalizer: normalizer,
      // Characters that are not in the vocabulary are left out, so there is no UNK token.
      specialTokens: try table.specialTokens(bos: nil, eos: nil, unk: nil, addsBOS: kind.addsBOS), fusesUNK: false,
      ignoresMerges: kind.ignoresMerges)
  }

  /// Reads the content of `tokenizer.json` in a GGUF file; the special tokens that have keys of their own replace its own.
  private static func read(
    _ json: String, _ tokenizer: GGUFTokenizer, _ file: String
  ) throws(VocabularyError) -> Vocabulary {
    let key = GGUFTokenizer.Key.huggingFaceJSON.rawValue
    let bytes = Array(json.utf8)
    guard bytes.count <= TokenizerFile.byteLimit else {
      throw .tooLarge(file: "\(file): \(key)", byteCount: bytes.count, limit: TokenizerFile.byteLimit)
    }
    var vocabulary: Vocabulary
    do { vocabulary = try read(tokenizerJSON: bytes) } catch { throw .embedded(file: file, error: error) }
    guard !tokenizer.tokens.isEmpty else { return vocabulary }
    let table = try GGUFTokenTable(tokenizer, file: file)
    guard vocabulary.size <= tokenizer.tokens.count else {
      throw .countMismatch(
        file: file, field: GGUFTokenizer.Key.tokens.rawValue, expected: vocabulary.size, found: tokenizer.tokens.count)
    }
    let present = Set(vocabulary.addedTokens.map(\.id))
    vocabulary.addedTokens += table.addedTokens.filter {
      Int($0.id) >= vocabulary.tokens.count && !present.contains($0.id)
    }
    vocabulary.addedTokens.sort { $0.id < $1.id }
    let own = vocabulary.specialTokens
    vocabulary.specialTokens = try table.specialTokens(
      bos: own.bos.map(Int.init), eos: own.eos.map(Int.init), unk: own.unk, addsBOS: own.addsBOS)
    vocabulary.specialTokens.pad = vocabulary.specialTokens.pad ?? own.pad
    vocabulary.specialTokens.image = own.image ?? vocabulary.specialTokens.image
    return vocabulary
  }
}

/// The checked tokens of a GGUF file.
struct GGUFTokenTable {
  private typealias Key = GGUFTokenizer.Key
  private typealias TokenType = GGUFTokenizer.TokenType

  let tokenizer: GGUFTokenizer
  let file: String

  /// The texts up to the last token that is neither special nor unused; those of unused tokens are empty.
  let tokens: [String]

  /// The tokens that are matched in the text before BPE, in order of id.
  let addedTokens: [AddedToken]
  private let types: [Int32]

  /// The tokens by their texts; of a `llama` tokenizer only those that can be byte tokens, which have six bytes.
  private let ids: [ArraySlice<UInt8>: Int32]

  init(_ tokenizer: GGUFTokenizer, file: String) throws(VocabularyError) {
    self.tokenizer = tokenizer
    self.file = file
    let count = tokenizer.tokens.count
    guard count > 0 else { throw .missingField(file: file, field: Key.tokens.rawValue, expected: "a list of tokens") }
    guard count <= TokenTable.idLimit else {
      throw .unsupported(file: file, part: "vocabulary size", found: "\(count)")
    }
    for (key, texts) in [(Key.tokens, tokenizer.tokens), (.merges, tokenizer.merges ?? [])] {
      let byteCount = texts.reduce(0) { $0 + $1.utf8.count }
      guard byteCount <= TokenizerFile.byteLimit else {
        throw .tooLarge(file: "\(file): \(key.rawValue)", byteCount: byteCount, limit: TokenizerFile.byteLimit)
      }
    }
    for (key, found) in [(Key.scores, tokenizer.scores?.count), (.types, tokenizer.types?.count)] {
      if let found, found != count {
        throw .countMismatch(file: file, field: key.rawValue, expected: count, found: found)
      }
    }
    var types = tokenizer.types ?? [Int32](repeating: TokenType.normal, count: count)
    var addedTokens: [AddedToken] = []
    var ids: [ArraySlice<UInt8>: Int32] = [:]
    let needsAllIDs = tokenizer.model == GGUFModel.gpt2.rawValue
    if needsAllIDs { ids.reserveCapacity(count) }
    var end = 0
    for (id, token) in tokenizer.tokens.enumerated() {
      if token.isEmpty { types[id] = TokenType.unused }
      if GGUFTokenizer.endsAnswer(token) { types[id] = TokenType.control }
      switch types[id] {
      case TokenType.unknown, TokenType.control, TokenType.userDefined:
        try token.checkLength(file: file)
        addedTokens.append(
          AddedToken(id: Int32(id), content: token, isSpecial: types[id] != TokenType.userDefined))
      case TokenType.unused: break
      default: end = id + 1
      }
      if types[id] != TokenType.unused, needsAllIDs || token.utf8.count == 6 {
        ids[Array(token.utf8)[...]] = Int32(id)
      }
    }
    self.addedTokens = addedTokens
    self.types = types
    self.ids = ids
    tokens = tokenizer.tokens[..<end].indices.map { types[$0] == TokenType.unused ? "" : tokenizer.tokens[$0] }
  }

  /// Whether merges can make a token.
  func isMerged(_ id: Int) -> Bool {
    ![TokenType.unknown, TokenType.control, TokenType.unused, TokenType.byte].contains(types[id])
  }

  /// A token of a key; nil for a missing key.
  func id(_ id: Int?, _ key: GGUFTokenizer.Key) throws(VocabularyError) -> Int32? {
    guard let id else { return nil }
    guard tokenizer.tokens.indices.contains(id) else {
      throw .idOutOfRange(file: file, token: key.rawValue, id: "\(id)", limit: tokenizer.tokens.count)
    }
    return Int32(id)
  }

  /// The special tokens of the keys.
  ///
  /// - Parameters:
  ///   - bos: The BOS token without its key, left out if it is not in the vocabulary.
  ///   - eos: The EOS token without its key, likewise.
  ///   - addsBOS: Whether prompts start with the BOS token without the key for it.
  func specialTokens(bos: Int?, eos: Int?, unk: Int32?, addsBOS: Bool) throws(VocabularyError) -> SpecialTokens {
    _ = try (id(tokenizer.eotToken, .eotToken), id(tokenizer.eomToken, .eomToken))
    // Published files have padding tokens outside the vocabulary.
    let known = [bos, eos, tokenizer.padToken].map { id in
      id.flatMap { tokenizer.tokens.indices.contains($0) ? Int32($0) : nil }
    }
    let specialTokens = SpecialTokens(
      bos: try id(tokenizer.bosToken, .bosToken) ?? known[0], eos: try id(tokenizer.eosToken, .eosToken) ?? known[1],
      unk: unk, pad: known[2], image: addedTokens.last { $0.content.utf8.elementsEqual("<image>".utf8) }?.id,
      addsBOS: tokenizer.addsBOS ?? addsBOS)
    if specialTokens.addsBOS, specialTokens.bos == nil {
      throw .missingField(file: file, field: Key.bosToken.rawValue, expected: "the token at the start of a prompt")
    }
    return specialTokens
  }

  /// The ids of `<0x00>` to `<0xFF>`; empty if there are none of them.
  func byteTokens() throws(VocabularyError) -> [Int32] {
    let names = (0...255).map { byte in
      let digits = String(byte, radix: 16, uppercase: true)
      return "<0x\(digits.count < 2 ? "0" : "")\(digits)>"
    }
    let found = names.map { ids[Array($0.utf8)[...]] }
    guard found.contains(where: { $0 != nil }) else { return [] }
    for (name, id) in zip(names, found) where id == nil {
      throw .unknownToken(file: file, token: name, neededFor: "byte fallback")
    }
    return found.compactMap(\.self)
  }

  /// The rules that split text into words.
  ///
  /// Files of Llama 3 that are older than the key have none; its rules are recognised by its BOS token.
  func preTokenizer() throws(VocabularyError) -> GGUFPreTokenizer {
    let isLlama3 = tokenizer.pre == nil && ids[Array("<|begin_of_text|>".utf8)[...]] != nil
    let name = isLlama3 ? "llama-bpe" : tokenizer.pre ?? "default"
    guard let kind = GGUFPreTokenizer.named(name) else {
      throw .unknownName(
        file: file, field: Key.pre.rawValue, found: name, known: GGUFPreTokenizer.all.flatMap(\.names))
    }
    return kind
  }

  /// The merges; the first of equal pairs is used.
  func merges() throws(VocabularyError) -> [Vocabulary.Pair: Vocabulary.Merge] {
    guard let lines = tokenizer.merges else {
      throw .missingField(file: file, field: Key.merges.rawValue, expected: "a list of merges")
    }
    var merges: [Vocabulary.Pair: Vocabulary.Merge] = [:]
    merges.reserveCapacity(lines.count)
    for (rank, line) in lines.enumerated() {
      let bytes = Array(line.utf8)
      guard let space = bytes.dropFirst().firstIndex(of: 0x20), space + 1 < bytes.count else {
        throw .missingField(file: file, field: Key.merges.rawValue, expected: "two tokens in merge \(rank)")
      }
      let (left, right) = (bytes[..<space], bytes[(space + 1)...])
      guard let leftID = ids[left], let rightID = ids[right], let merged = ids[left + right] else {
        let missing = [left, right, left + right].first { ids[$0] == nil } ?? []
        throw .unknownToken(file: file, token: String(decoding: missing, as: UTF8.self), neededFor: "merge \(rank)")
      }
      let pair = Vocabulary.Pair(leftID, rightID)
      if merges[pair] == nil { merges[pair] = .init(rank: Int32(clamping: rank), token: merged) }
    }
    return merges
  }
}
