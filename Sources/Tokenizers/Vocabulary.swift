/// The pieces of a byte-pair tokenizer, how they merge, and how text is prepared for them.
///
/// Pieces are told apart by their bytes: `String` holds canonically equivalent texts equal, and published vocabularies
/// contain such pairs.
package struct Vocabulary: Sendable {
  /// Two neighbouring pieces.
  package struct Pair: Hashable, Sendable {
    package var left: Int32
    package var right: Int32

    package init(_ left: Int32, _ right: Int32) {
      self.left = left
      self.right = right
    }
  }

  /// What a pair becomes, and when: the lowest rank goes first, and the leftmost of equals.
  package struct Merge: Equatable, Sendable {
    package var rank: Int32
    package var piece: Int32

    package init(rank: Int32, piece: Int32) {
      self.rank = rank
      self.piece = piece
    }
  }

  /// The text of each piece; the index is the id.
  package var pieces: [String]

  package var merges: [Pair: Merge]

  /// Tokens matched in the text before it is cut into pieces, in order of id; those with an id below `pieces.count` are
  /// pieces too.
  package var addedTokens: [AddedToken]

  /// The pieces `<0x00>` to `<0xFF>` that spell characters without a piece, or empty.
  package var bytePieces: [Int32]

  package var preparation: Normalizer
  package var specialTokens: SpecialTokens

  /// Whether a run of unknown characters becomes one UNK token.
  package var fusesUNK: Bool

  /// Whether a word that is a piece is taken as it is, whatever its merges are.
  package var ignoresMerges: Bool

  package init(
    pieces: [String], merges: [Pair: Merge], addedTokens: [AddedToken], bytePieces: [Int32],
    preparation: Normalizer, specialTokens: SpecialTokens, fusesUNK: Bool, ignoresMerges: Bool = false
  ) {
    self.pieces = pieces
    self.merges = merges
    self.addedTokens = addedTokens
    self.bytePieces = bytePieces
    self.preparation = preparation
    self.specialTokens = specialTokens
    self.fusesUNK = fusesUNK
    self.ignoresMerges = ignoresMerges
  }

  /// The token that stands for an image; where the tokenizer has none, `sentinel` becomes it, found in text as `<image>`.
  ///
  /// Text around it then is cut into pieces stretch by stretch, as in the original LLaVA code.
  ///
  /// Source: `tokenizer_image_token` in LLaVA's `llava/mm_utils.py`.
  package mutating func imageToken(orElse sentinel: Int32) -> Int32 {
    if let image = specialTokens.image { return image }
    addedTokens.insert(AddedToken(id: sentinel, content: "<image>", isSpecial: true), at: 0)
    specialTokens.image = sentinel
    return sentinel
  }

  /// One more than the largest id.
  package var size: Int { max(pieces.count, addedTokens.last.map { Int($0.id) + 1 } ?? 0) }
}

/// The tokens that have a part to play; nil where the checkpoint has none.
package struct SpecialTokens: Equatable, Sendable {
  package var bos: Int32?
  package var eos: Int32?
  package var unk: Int32?
  package var pad: Int32?
  package var image: Int32?

  /// Whether a prompt starts with the BOS token.
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

/// The pieces of a vocabulary by id and by their bytes, checked to be one each.
struct PieceTable {
  /// No id may reach this, so that no file can ask for more memory than it deserves.
  static let idLimit = 10_000_000

  let file: String
  let pieces: [String]
  private let ids: [[UInt8]: Int32]

  /// Puts the entries in order of id.
  ///
  /// - Throws: `VocabularyError` unless the ids are 0 to `entries.count` - 1 and no piece occurs twice.
  init(file: String, entries: [(piece: String, id: Int)]) throws(VocabularyError) {
    guard entries.count <= Self.idLimit else {
      throw .unsupported(file: file, part: "vocabulary size", found: "\(entries.count)")
    }
    var pieces = [String?](repeating: nil, count: entries.count)
    var ids: [[UInt8]: Int32] = [:]
    ids.reserveCapacity(entries.count)
    for (piece, id) in entries {
      guard pieces.indices.contains(id) else {
        throw .idOutOfRange(file: file, piece: piece, id: "\(id)", limit: entries.count)
      }
      if let other = pieces[id] { throw .duplicateID(file: file, id: id, pieces: [other, piece]) }
      guard ids.updateValue(Int32(id), forKey: Array(piece.utf8)) == nil else {
        throw .duplicatePiece(file: file, piece: piece)
      }
      pieces[id] = piece
    }
    self.file = file
    self.pieces = pieces.compactMap(\.self)
    self.ids = ids
  }

  subscript(piece: String) -> Int32? { ids[Array(piece.utf8)] }

  subscript(bytes: some Sequence<UInt8>) -> Int32? { ids[Array(bytes)] }

  /// The id of a piece that something else relies on.
  func id(of piece: String, neededFor use: String) throws(VocabularyError) -> Int32 {
    guard let id = self[piece] else { throw .unknownPiece(file: file, piece: piece, neededFor: use) }
    return id
  }

  /// The ids of `<0x00>` to `<0xFF>`.
  func bytePieces() throws(VocabularyError) -> [Int32] {
    var ids: [Int32] = []
    for byte in 0...255 {
      let digits = String(byte, radix: 16, uppercase: true)
      ids.append(try id(of: "<0x\(digits.count < 2 ? "0" : "")\(digits)>", neededFor: "byte fallback"))
    }
    return ids
  }
}

/// The added tokens gathered from several files, one for each id and text.
struct AddedTokenTable {
  private(set) var tokens: [Int32: AddedToken] = [:]
  private var ids: [[UInt8]: Int32] = [:]
  private let pieces: PieceTable

  init(pieces: PieceTable) { self.pieces = pieces }

  /// The tokens in order of id.
  var sorted: [AddedToken] { tokens.values.sorted { $0.id < $1.id } }

  /// The id of a token or piece with this text.
  subscript(text: String) -> Int32? { ids[Array(text.utf8)] ?? pieces[text] }

  /// Adds a token unless it is there already; the first file to name a token says how it behaves.
  ///
  /// - Throws: `VocabularyError` if its id or its text belongs to another token or piece.
  mutating func add(_ token: AddedToken, file: String) throws(VocabularyError) {
    let id = Int(token.id)
    guard !token.content.isEmpty else {
      throw .missingField(file: file, field: "content", expected: "text for id \(id)")
    }
    let owner = tokens[token.id]?.content ?? (pieces.pieces.indices.contains(id) ? pieces.pieces[id] : nil)
    if let owner, !owner.utf8.elementsEqual(token.content.utf8) {
      throw .duplicateID(file: file, id: id, pieces: [owner, token.content])
    }
    if let other = self[token.content], other != token.id { throw .duplicatePiece(file: file, piece: token.content) }
    guard tokens[token.id] == nil else { return }
    tokens[token.id] = token
    ids[Array(token.content.utf8)] = token.id
  }
}
