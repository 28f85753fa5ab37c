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
