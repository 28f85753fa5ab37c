extension Vocabulary {
  private static let file = "tokenizer.model"

  /// The longest piece, in bytes; trainers stop at 16 characters unless told otherwise.
  private static let pieceLimit = 512

  /// Reads the `tokenizer.model` of a SentencePiece byte-pair tokenizer.
  ///
  /// A pair merges where the two texts together are a piece, the piece with the best score first. Every stretch of text
  /// between added tokens gets the dummy prefix, as the published LLaVA code calls the tokenizer once for each.
  ///
  /// - Throws: `VocabularyError`; models of other kinds and normalizers that change characters are refused by name.
  ///
  /// Source: sentencepiece's `bpe_model.cc` and `normalizer.cc`.
  package static func read(
    sentencePieceModel bytes: [UInt8], sides: TokenizerSideFiles = .init()
  ) throws(VocabularyError) -> Vocabulary {
    let model: SentencePieceModel
    do throws(WireReader.Failure) {
      model = try SentencePieceModel(bytes)
    } catch {
      throw .malformed(file: file, offset: error.offset, expected: error.expected)
    }
    try check(model)
    let table = try PieceTable(file: file, entries: model.pieces.enumerated().map { ($1.text, $0) })
    guard table.pieces.indices.contains(Int(model.unknown)), model.pieces[Int(model.unknown)].kind == 2 else {
      throw .idOutOfRange(file: file, piece: "unknown", id: "\(model.unknown)", limit: table.pieces.count)
    }
    var added = AddedTokenTable(pieces: table)
    try sides.addTokens(to: &added)
    for (id, piece) in model.pieces.enumerated() where isAdded(piece.kind) {
      let token = AddedToken(
        id: Int32(id), content: piece.text, isSpecial: piece.kind != SentencePieceModel.Kind.userDefined)
      try added.add(token, file: file)
    }
    var addedTokens = added.sorted
    for i in addedTokens.indices { addedTokens[i].isNormalized = false }
    return Vocabulary(
      pieces: table.pieces, merges: merges(model, table), addedTokens: addedTokens,
      bytePieces: model.hasByteFallback ? try table.bytePieces() : [],
      preparation: TextPreparation(
        prefix: model.addsDummyPrefix ? .always : .never, collapsesSpaces: model.removesExtraSpaces,
        stripsLeadingSpace: model.addsDummyPrefix),
      roles: try sides.roles(in: added, unknown: model.unknown, addsBeginning: true), fusesUnknown: true)
  }

  private static func isAdded(_ kind: Int32) -> Bool {
    [SentencePieceModel.Kind.unknown, SentencePieceModel.Kind.control, SentencePieceModel.Kind.userDefined]
      .contains(kind)
  }

  private static func check(_ model: SentencePieceModel) throws(VocabularyError) {
    guard model.modelType == 2 else {
      let names: [Int32: String] = [1: "Unigram", 3: "Word", 4: "Char"]
      throw .unsupported(file: file, part: "model_type", found: names[model.modelType] ?? "\(model.modelType)")
    }
    if model.hasCharacterMap { throw .unsupported(file: file, part: "normalizer", found: model.normalizerName) }
    if !model.escapesSpaces { throw .unsupported(file: file, part: "escape_whitespaces", found: "false") }
    if model.treatsSpaceAsSuffix { throw .unsupported(file: file, part: "treat_whitespace_as_suffix", found: "true") }
    for piece in model.pieces {
      guard isAdded(piece.kind) || [SentencePieceModel.Kind.normal, SentencePieceModel.Kind.byte].contains(piece.kind)
      else { throw .unsupported(file: file, part: "piece type \(piece.kind) of", found: piece.text) }
      guard piece.text.utf8.count <= pieceLimit else {
        throw .unsupported(file: file, part: "length of piece", found: piece.text)
      }
    }
  }

  /// Every way to make a piece out of two others, ranked by the score of the whole.
  private static func merges(_ model: SentencePieceModel, _ table: PieceTable) -> [Pair: Merge] {
    let normal = model.pieces.indices.filter { model.pieces[$0].kind == SentencePieceModel.Kind.normal }
    let order = normal.sorted { model.pieces[$0].score > model.pieces[$1].score }
    var merges: [Pair: Merge] = [:]
    var rank: Int32 = -1
    var lastScore = Float.infinity
    for id in order {
      if model.pieces[id].score != lastScore {
        lastScore = model.pieces[id].score
        rank += 1
      }
      let bytes = Array(model.pieces[id].text.utf8)
      // A piece starts at a character: never at a continuation byte.
      for cut in bytes.indices.dropFirst() where bytes[cut] & 0xC0 != 0x80 {
        guard let left = table[bytes[..<cut]], let right = table[bytes[cut...]],
          model.pieces[Int(left)].kind == SentencePieceModel.Kind.normal,
          model.pieces[Int(right)].kind == SentencePieceModel.Kind.normal
        else { continue }
        merges[Pair(left, right)] = Merge(rank: rank, piece: Int32(id))
      }
    }
    return merges
  }
}
