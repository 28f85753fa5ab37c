/// The vocabulary of a BPE tokenizer: tokens, merges, added tokens and normalizer.
///
/// Tokens are compared by their bytes: `String` treats canonically equivalent texts as equal, and published
/// vocabularies contain such pairs.
package struct Vocabulary: Sendable {
  /// Two neighbouring tokens.
  package struct Pair: Hashable, Sendable {
    package var left: Int32
    package var right: Int32

    package init(_ left: Int32, _ right: Int32) {
      self.left = left
      self.right = right
    }
  }

  /// The token that a pair merges into, and its rank: the lowest rank merges first, then the leftmost pair.
  package struct Merge: Equatable, Sendable {
    package var rank: Int32
    package var token: Int32

    package init(rank: Int32, token: Int32) {
      self.rank = rank
      self.token = token
    }
  }

  /// The text of each token; the index is the id.
  package var tokens: [String]

  package var merges: [Pair: Merge]

  /// Tokens matched in the text before BPE, in order of id. Those with an id below `tokens.count` are in `tokens` too.
  package var addedTokens: [AddedToken]

  /// The tokens `<0x00>` to `<0xFF>` for byte fallback; empty without byte fallback.
  package var byteTokens: [Int32]

  package var normalizer: Normalizer
  package var specialTokens: SpecialTokens

  /// The texts of further special tokens by the names of `tokenizer_config.json`, such as `image_token`.
  package internal(set) var otherSpecialTokens: [String: String] = [:]

  /// Whether a run of unknown characters becomes one UNK token.
  package var fusesUNK: Bool

  /// Whether a word that is a token is encoded as that token, whatever its merges are.
  package var ignoresMerges: Bool

  /// The rules of a `tokenizer.model`, which replace `merges` and `normalizer` in encoding; nil for a `tokenizer.json`.
  package var sentencePiece: SentencePieceRules?

  /// Whether the text on each side of `<image>` is tokenized like a text of its own.
  package private(set) var splitsAtImages = false

  package init(
    tokens: [String], merges: [Pair: Merge], addedTokens: [AddedToken], byteTokens: [Int32],
    normalizer: Normalizer, specialTokens: SpecialTokens, fusesUNK: Bool, ignoresMerges: Bool = false,
    sentencePiece: SentencePieceRules? = nil
  ) {
    self.tokens = tokens
    self.merges = merges
    self.addedTokens = addedTokens
    self.byteTokens = byteTokens
    self.normalizer = normalizer
    self.specialTokens = specialTokens
    self.fusesUNK = fusesUNK
    self.ignoresMerges = ignoresMerges
    self.sentencePiece = sentencePiece
  }

  /// The image token; a tokenizer without one gets `sentinel`, which matches `<image>` in text.
  ///
  /// The text on each side of `<image>` is then tokenized like a text of its own, as in the original LLaVA code.
  ///
  /// Source: `tokenizer_image_token` in LLaVA's `llava/mm_utils.py`.
  package mutating func imageToken(orElse sentinel: Int32) -> Int32 {
    splitsAtImages = true
    if let image = specialTokens.image { return image }
    addedTokens.insert(AddedToken(id: sentinel, content: "<image>", isSpecial: true), at: 0)
    specialTokens.image = sentinel
    return sentinel
  }

  /// One more than the largest id.
  package var size: Int { max(tokens.count, addedTokens.last.map { Int($0.id) + 1 } ?? 0) }
}

/// The special tokens; nil if the checkpoint does not define one.
package struct SpecialTokens: Equatable, Sendable {
  package var bos: Int32?
  package var eos: Int32?
  package var unk: Int32?
  package var pad: Int32?
  package var image: Int32?

  /// Whether prompts start with the BOS token.
  package var addsBOS: Bool

  package init(
    bos: Int32?, eos: Int32?, unk: Int32?, pad: Int32?, image: Int32?, addsBOS: Bool = true
  ) {
    self.bos = bos
    self.eos = eos
    self.unk = unk
    self.pad = pad
    self.image = image
    self.addsBOS = addsBOS
  }
}

/// The tokens of a vocabulary by id and by their bytes, both unique.
struct TokenTable {
  /// The upper bound of ids, so that a small file cannot cause a large allocation.
  static let idLimit = 10_000_000

  let file: String
  let tokens: [String]
  private let ids: [ArraySlice<UInt8>: Int32]

  /// Sorts the entries by id.
  ///
  /// - Throws: `VocabularyError` unless the ids are 0 to `entries.count` - 1 and no token occurs twice.
  init(file: String, entries: [(token: String, id: Int)]) throws(VocabularyError) {
    guard entries.count <= Self.idLimit else {
      throw .unsupported(file: file, part: "vocabulary size", found: "\(entries.count)")
    }
    var tokens = [String?](repeating: nil, count: entries.count)
    var ids: [ArraySlice<UInt8>: Int32] = [:]
    ids.reserveCapacity(entries.count)
    for (token, id) in entries {
      guard tokens.indices.contains(id) else {
        throw .idOutOfRange(file: file, token: token, id: "\(id)", limit: entries.count)
      }
      if let other = tokens[id] { throw .duplicateID(file: file, id: id, tokens: [other, token]) }
      guard ids.updateValue(Int32(id), forKey: Array(token.utf8)[...]) == nil else {
        throw .duplicateToken(file: file, token: token)
      }
      tokens[id] = token
    }
    self.file = file
    self.tokens = tokens.compactMap(\.self)
    self.ids = ids
  }

  subscript(token: String) -> Int32? { ids[Array(token.utf8)[...]] }

  subscript(bytes: ArraySlice<UInt8>) -> Int32? { ids[bytes] }

  /// The id of a token that another part of the file refers to.
  func id(of token: String, neededFor use: String) throws(VocabularyError) -> Int32 {
    guard let id = self[token] else { throw .unknownToken(file: file, token: token, neededFor: use) }
    return id
  }

  /// The ids of `<0x00>` to `<0xFF>`.
  func byteTokens() throws(VocabularyError) -> [Int32] {
    var ids: [Int32] = []
    for byte in 0...255 {
      let digits = String(byte, radix: 16, uppercase: true)
      ids.append(try id(of: "<0x\(digits.count < 2 ? "0" : "")\(digits)>", neededFor: "byte fallback"))
    }
    return ids
  }
}

/// The added tokens of several files, unique by id and by text.
struct AddedTokenTable {
  private(set) var added: [Int32: AddedToken] = [:]
  private var ids: [[UInt8]: Int32] = [:]
  private let table: TokenTable

  /// The first id after those of all tokens.
  private(set) var nextID: Int32

  init(_ table: TokenTable) {
    self.table = table
    nextID = Int32(table.tokens.count)
  }

  /// The added tokens in order of id.
  var sorted: [AddedToken] { added.values.sorted { $0.id < $1.id } }

  /// The id of the added token with this text.
  func addedID(_ text: String) -> Int32? { ids[Array(text.utf8)] }

  /// The id of the token with this text, added or not.
  subscript(text: String) -> Int32? { ids[Array(text.utf8)] ?? table[text] }

  /// Adds a token unless it is present.
  ///
  /// - Parameter replacesFlags: Whether a token that is present gets the flags of this one.
  /// - Throws: `VocabularyError` if its id or its text belongs to another token.
  mutating func add(
    _ token: AddedToken, replacesFlags: Bool = false, file: String
  ) throws(VocabularyError) {
    let id = Int(token.id)
    guard !token.content.isEmpty else {
      throw .missingField(file: file, field: "content", expected: "text for id \(id)")
    }
    try token.content.checkLength(file: file)
    let owner = added[token.id]?.content ?? (table.tokens.indices.contains(id) ? table.tokens[id] : nil)
    if let owner, !owner.utf8.elementsEqual(token.content.utf8) {
      throw .duplicateID(file: file, id: id, tokens: [owner, token.content])
    }
    if let other = self[token.content], other != token.id {
      guard file != table.file else { throw .duplicateToken(file: file, token: token.content) }
      throw .twoIDs(file: file, token: token.content, ids: [Int(other), id])
    }
    guard replacesFlags || added[token.id] == nil else { return }
    added[token.id] = token
    ids[Array(token.content.utf8)] = token.id
    nextID = max(nextID, token.id + 1)
  }
}

extension String {
  /// Checks the length of an added token or piece, which bounds the cost of a search for it.
  func checkLength(file: String) throws(VocabularyError) {
    guard utf8.count <= AddedToken.lengthLimit else {
      throw .tokenTooLong(file: file, token: self, byteCount: utf8.count, limit: AddedToken.lengthLimit)
    }
  }
}
