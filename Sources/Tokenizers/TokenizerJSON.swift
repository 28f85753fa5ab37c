import Storage

extension Vocabulary {
  private static let file = "tokenizer.json"

  /// Reads `tokenizer.json` of the Hugging Face tokenizers library.
  ///
  /// Two kinds of BPE models are supported: over characters with byte fallback, as in Llama-2 and Mistral, and over
  /// bytes, as in Llama-3 and Qwen2. The first kind may be written with `Prepend` and `Replace` normalizers (older
  /// files) or with a `Metaspace` pre-tokenizer (newer files).
  ///
  /// - Throws: `VocabularyError`; the error names the step of any other kind of tokenizer.
  ///
  /// Source: the library's `models/bpe`, `normalizers`, `pre_tokenizers/metaspace.rs`, `added_vocabulary.rs`.
  package static func read(
    tokenizerJSON bytes: [UInt8], configuration: TokenizerConfigurationFiles = .init()
  ) throws(VocabularyError) -> Vocabulary {
    let root = try TokenizerFile.json(file, bytes)
    let model = root["model"]
    try checkModel(model)
    let table = try tokenTable(model["vocab"], file: file)
    var added = AddedTokenTable(table)
    for entry in root["added_tokens"].array ?? [] {
      let id = try Int32(entry["id"], token: entry["content"].kind, file: file)
      try added.add(AddedToken(entry, id: id, file: file), file: file)
    }
    try configuration.addTokens(to: &added)
    try configuration.addSpecialTokens(to: &added, hasUsualNames: false)
    var unkToken: Int32? = nil
    if let name = model["unk_token"].string { unkToken = try table.id(of: name, neededFor: "unk_token") }
    let byteTokens = model["byte_fallback"].bool == true ? try table.byteTokens() : []
    let normalizer =
      if let byteLevel = try Normalizer(byteLevel: root, addsSpace: configuration.byteLevelAddsSpace, file: file) {
        byteLevel
      } else {
        try normalizer(root)
      }
    let ignoresMerges = model["ignore_merges"].bool ?? false
    if ignoresMerges, !normalizer.isByteLevel { throw unsupported("ignore_merges", "true") }
    let bosName = templateBOS(root["post_processor"])
    var vocabulary = Vocabulary(
      tokens: table.tokens, merges: try merges(model["merges"], table, file: file), addedTokens: added.sorted,
      byteTokens: byteTokens, normalizer: normalizer,
      specialTokens: try configuration.specialTokens(
        in: added, unk: unkToken, bosName: bosName, addsBOS: bosName != nil),
      fusesUNK: model["fuse_unk"].bool ?? false, ignoresMerges: ignoresMerges)
    vocabulary.otherSpecialTokens = configuration.otherSpecialTokens
    return vocabulary
  }

  private static func unsupported(_ part: String, _ found: String) -> VocabularyError {
    .unsupported(file: file, part: part, found: found)
  }

  /// Checks that the model is BPE without unsupported options; older files omit its type.
  private static func checkModel(_ model: JSONValue) throws(VocabularyError) {
    guard model.members != nil else { throw .missingField(file: file, field: "model", expected: "an object") }
    if let type = model["type"].string, type != "BPE" { throw unsupported("model", type) }
    for field in ["continuing_subword_prefix", "end_of_word_suffix"] {
      if let text = model[field].string, !text.isEmpty { throw unsupported(field, text) }
    }
    switch model["dropout"] {
    case .null, .integer(0), .number(0): break
    default: throw unsupported("dropout", model["dropout"].kind)
    }
  }

  /// Reads an object of ids by token.
  static func tokenTable(_ vocabulary: JSONValue, file: String) throws(VocabularyError) -> TokenTable {
    guard let members = vocabulary.members else {
      throw .missingField(file: file, field: "model.vocab", expected: "an object of ids")
    }
    var entries: [(token: String, id: Int)] = []
    entries.reserveCapacity(members.count)
    for member in members {
      entries.append((member.key, Int(try Int32(member.value, token: member.key, file: file))))
    }
    return try TokenTable(file: file, entries: entries)
  }

  /// Reads merges written as `"left right"` or as `["left", "right"]`; the index of a merge is its rank.
  static func merges(
    _ value: JSONValue, _ table: TokenTable, file: String
  ) throws(VocabularyError) -> [Pair: Merge] {
    guard let lines = value.array else { throw .missingField(file: file, field: "model.merges", expected: "a list") }
    var merges: [Pair: Merge] = [:]
    merges.reserveCapacity(lines.count)
    for (rank, line) in lines.enumerated() {
      let (left, right) = try mergeParts(line, rank, file: file)
      guard let leftID = table[left], let rightID = table[right], let merged = table[left + right] else {
        let missing = [left, right, left + right].first { table[$0] == nil } ?? []
        throw .unknownToken(
          file: file, token: String(decoding: missing, as: UTF8.self), neededFor: "merge \(rank)")
      }
      merges[Pair(leftID, rightID)] = Merge(rank: Int32(clamping: rank), token: merged)
    }
    return merges
  }

  private static func mergeParts(
    _ line: JSONValue, _ rank: Int, file: String
  ) throws(VocabularyError) -> (ArraySlice<UInt8>, ArraySlice<UInt8>) {
    if let text = line.string {
      let bytes = Array(text.utf8)
      if let space = bytes.firstIndex(of: 0x20), !bytes[(space + 1)...].contains(0x20) {
        return (bytes[..<space], bytes[(space + 1)...])
      }
    } else if let pair = line.array, pair.count == 2, let left = pair[0].string, let right = pair[1].string {
      return (Array(left.utf8)[...], Array(right.utf8)[...])
    }
    throw .missingField(file: file, field: "model.merges", expected: "two tokens in merge \(rank)")
  }

  /// The BOS token that the post-processor adds before a single text; nil if it adds none.
  private static func templateBOS(_ postProcessor: JSONValue) -> String? {
    let steps = postProcessor["processors"].array ?? [postProcessor]
    return steps.lazy.compactMap { $0["single"].array?.first?["SpecialToken"] }.first { !$0.isNull }.map {
      $0["id"].string ?? "<s>"
    }
  }
}

// MARK: - Normalizer, pre-tokenizer and decoder

extension Vocabulary {
  private static let space = "▁"

  private static func normalizer(_ root: JSONValue) throws(VocabularyError) -> Normalizer {
    var normalizer = Normalizer(prependScheme: .never, stripsLeadingSpace: false)
    var replacesSpaces = false
    for step in root["normalizer"].steps("normalizers") {
      switch (step["type"].string, step["prepend"].string, step["pattern"]["String"].string, step["content"].string) {
      case ("Prepend", space, _, _) where !replacesSpaces && normalizer.prependScheme == .never:
        normalizer.prependScheme = .always
      case ("Replace", _, " ", space): replacesSpaces = true
      default: throw unsupported("normalizer", step["type"].kind)
      }
    }
    let steps = root["pre_tokenizer"].steps("pretokenizers")
    if steps.count == 1, let step = steps.first, step["type"].string == "Metaspace",
      step["replacement"].string ?? space == space, normalizer.prependScheme == .never
    {
      normalizer.isNormalizer = replacesSpaces
      replacesSpaces = true
      normalizer.prependScheme = try Normalizer.prependScheme(step, file: file)
      normalizer.preTokenizer = step["split"].bool ?? true ? .metaspace : .none
    } else if !steps.isEmpty {
      let sequence = try PreTokenizerSequence(steps, file: file)
      normalizer.preTokenizer = .steps(sequence)
      normalizer.replacesSpaces = replacesSpaces
      replacesSpaces = replacesSpaces || sequence.steps.contains { if case .metaspace = $0 { true } else { false } }
    }
    guard replacesSpaces else { throw unsupported("replacement of spaces", "none") }
    try checkDecoder(root["decoder"], &normalizer)
    return normalizer
  }

  private static func checkDecoder(
    _ decoder: JSONValue, _ normalizer: inout Normalizer
  ) throws(VocabularyError) {
    var kinds: [String] = []
    for step in decoder.steps("decoders") {
      let kind = step["type"].kind
      switch (kind, step["pattern"]["String"].string, step["content"].string) {
      case ("Replace", space, " "), ("ByteFallback", _, _), ("Fuse", _, _): break
      case ("Strip", _, " ") where step["start"].integer == 1 && step["stop"].integer == 0:
        normalizer.stripsLeadingSpace = true
      default: throw unsupported("decoder", kind)
      }
      kinds.append(kind)
    }
    guard ["Replace", "ByteFallback", "Fuse", "Strip"].starts(with: kinds), kinds.count >= 3 else {
      throw unsupported("decoder", kinds.isEmpty ? "none" : kinds.joined(separator: ", "))
    }
  }
}

// MARK: - Byte-level tokenizers, such as those of Llama-3 and Qwen2

extension Normalizer {
  /// The prepend scheme of a `Metaspace` step; older files have only `add_prefix_space`.
  static func prependScheme(_ step: JSONValue, file: String) throws(VocabularyError) -> PrependScheme {
    switch step["prepend_scheme"].string ?? (step["add_prefix_space"].bool == false ? "never" : "always") {
    case "first": return .first
    case "always": return .unlessPresent
    case "never": return .never
    case let scheme: throw .unsupported(file: file, part: "prepend_scheme", found: scheme)
    }
  }

  /// The normalizer of a byte-level `tokenizer.json`; nil for other tokenizers.
  ///
  /// - Parameter addsSpace: The value of `add_prefix_space` for a pre-tokenizer of one `ByteLevel` step; nil for the
  ///   step's own.
  /// - Throws: `VocabularyError.unsupported` with the name of the unsupported step.
  init?(byteLevel root: JSONValue, addsSpace: Bool?, file: String) throws(VocabularyError) {
    func unsupported(_ part: String, _ found: String) -> VocabularyError {
      .unsupported(file: file, part: part, found: found)
    }
    let steps = root["pre_tokenizer"].steps("pretokenizers")
    guard steps.contains(where: { $0["type"].string == "ByteLevel" }) else { return nil }
    let normalizers = root["normalizer"].steps("normalizers")
    for normalizer in normalizers where normalizer["type"].string != "NFC" {
      throw unsupported("normalizer", normalizer["type"].kind)
    }
    let decoders = root["decoder"].steps("decoders").map { $0["type"].kind }
    guard decoders == ["ByteLevel"] else {
      throw unsupported("decoder", decoders.isEmpty ? "none" : decoders.joined(separator: ", "))
    }
    let sequence = try PreTokenizerSequence(steps, file: file)
    let (pattern, ownAddsSpace) = Self.published(sequence.steps) ?? (nil, false)
    let addsSpace = root["pre_tokenizer"]["type"].string == "ByteLevel" ? addsSpace ?? ownAddsSpace : ownAddsSpace
    self.init(
      prependScheme: addsSpace ? .unlessPresent : .never, isNormalizer: !normalizers.isEmpty,
      preTokenizer: pattern.map(PreTokenizer.byteLevel) ?? .steps(sequence), stripsLeadingSpace: false)
    replacesSpaces = false
    composes = !normalizers.isEmpty
  }

  /// The pattern of steps as published tokenizers have them, and whether a space is added before a text; `nil` for other
  /// steps.
  private static func published(
    _ steps: [PreTokenizerSequence.Step]
  ) -> (pattern: PreTokenizerPattern?, addsSpace: Bool)? {
    switch steps.count {
    case 1:
      if case .byteLevel(let addsSpace, splits: true) = steps[0] { return (.gpt2, addsSpace) }
    case 2:
      switch (steps[0], steps[1]) {
      case (.digits(individually: true), .byteLevel(addsSpace: false, splits: true)): return (.smolLM, false)
      // The patterns match every character, so isolating the matches equals removing everything between them.
      case (.pattern(let pattern, .isolated, inverts: false), .byteLevel(addsSpace: false, splits: false)),
        (.pattern(let pattern, .removed, inverts: true), .byteLevel(addsSpace: false, splits: false)):
        return (pattern, false)
      default: break
      }
    default: break
    }
    return nil
  }
}

extension JSONValue {
  /// The steps of a normalizer, pre-tokenizer or decoder: the members of a `Sequence`, or the value itself.
  func steps(_ field: String) -> [JSONValue] {
    isNull ? [] : self["type"].string == "Sequence" ? self[field].array ?? [] : [self]
  }
}
