/// A SentencePiece model: the fields that a tokenizer needs, with the defaults of the schema.
///
/// Source: sentencepiece's `sentencepiece_model.proto`.
struct SentencePieceModel {
  struct Piece {
    var text = ""
    var score: Float = 0
    var kind: Int32 = 1
  }

  /// The values of the schema's enum of piece types.
  enum Kind {
    static let normal: Int32 = 1
    static let unknown: Int32 = 2
    static let control: Int32 = 3
    static let userDefined: Int32 = 4
    static let byte: Int32 = 6
    static let all = [normal, unknown, control, userDefined, byte]
  }

  var pieces: [Piece] = []
  var modelType: Int32 = 1
  var treatsSpaceAsSuffix = false
  var hasByteFallback = false
  var unkID: Int32 = 0
  var normalizerName = ""
  var hasCharacterMap = false
  var addsDummyPrefix = true
  var removesExtraSpaces = true
  var escapesSpaces = true

  init(_ bytes: [UInt8]) throws(WireReader.WireError) {
    var fields = WireReader(bytes[...])
    while let (number, value) = try fields.next() {
      switch number {
      case 1: pieces.append(try Self.piece(value.bytes(at: bytes.count)))
      case 2: try readTrainer(value.bytes(at: bytes.count))
      case 3: try readNormalizer(value.bytes(at: bytes.count))
      default: break
      }
    }
  }

  /// The ids of the pieces of a kind.
  func ids(of kind: Int32) -> [Int32] { pieces.indices.filter { pieces[$0].kind == kind }.map(Int32.init) }

  private static func piece(_ message: ArraySlice<UInt8>) throws(WireReader.WireError) -> Piece {
    var piece = Piece()
    let offset = message.startIndex
    var fields = WireReader(message)
    while let (number, value) = try fields.next() {
      switch number {
      case 1: piece.text = try text(value, offset)
      case 2: piece.score = try value.float(at: offset)
      case 3: piece.kind = try value.int32(at: offset)
      default: break
      }
    }
    guard piece.score.isFinite else { throw .init(offset: offset, expected: "a finite score") }
    guard !piece.text.isEmpty else { throw .init(offset: offset, expected: "a piece with text") }
    return piece
  }

  private mutating func readTrainer(_ message: ArraySlice<UInt8>) throws(WireReader.WireError) {
    let offset = message.startIndex
    var fields = WireReader(message)
    while let (number, value) = try fields.next() {
      switch number {
      case 3: modelType = try value.int32(at: offset)
      case 24: treatsSpaceAsSuffix = try value.int32(at: offset) != 0
      case 35: hasByteFallback = try value.int32(at: offset) != 0
      case 40: unkID = try value.int32(at: offset)
      default: break
      }
    }
  }

  private mutating func readNormalizer(_ message: ArraySlice<UInt8>) throws(WireReader.WireError) {
    let offset = message.startIndex
    var fields = WireReader(message)
    while let (number, value) = try fields.next() {
      switch number {
      case 1: normalizerName = try Self.text(value, offset)
      case 2: hasCharacterMap = try !value.bytes(at: offset).isEmpty
      case 3: addsDummyPrefix = try value.int32(at: offset) != 0
      case 4: removesExtraSpaces = try value.int32(at: offset) != 0
      case 5: escapesSpaces = try value.int32(at: offset) != 0
      default: break
      }
    }
  }

  private static func text(_ value: WireReader.Value, _ offset: Int) throws(WireReader.WireError) -> String {
    guard let text = String(validating: try value.bytes(at: offset), as: UTF8.self) else {
      throw .init(offset: offset, expected: "UTF-8")
    }
    return text
  }
}

extension Vocabulary {
  private static let file = "tokenizer.model"

  /// Reads the `tokenizer.model` of a SentencePiece BPE tokenizer.
  ///
  /// The `legacy`, `add_prefix_space` and special tokens of the configuration have the meaning that they have for
  /// transformers' `LlamaTokenizer`.
  ///
  /// - Throws: `VocabularyError`; the error names the model type or normalizer that is not supported.
  ///
  /// Source: sentencepiece's `bpe_model.cc` and `normalizer.cc`.
  package static func read(
    sentencePieceModel bytes: [UInt8], configuration: TokenizerConfigurationFiles = .init()
  ) throws(VocabularyError) -> Vocabulary {
    let model: SentencePieceModel
    do throws(WireReader.WireError) {
      model = try SentencePieceModel(bytes)
    } catch {
      throw .malformed(file: file, offset: error.offset, expected: error.expected)
    }
    try check(model)
    let table = try TokenTable(file: file, entries: model.pieces.enumerated().map { ($1.text, $0) })
    guard table.tokens.indices.contains(Int(model.unkID)), model.pieces[Int(model.unkID)].kind == 2 else {
      throw .idOutOfRange(file: file, token: "unk_id", id: "\(model.unkID)", limit: table.tokens.count)
    }
    var added = AddedTokenTable(table)
    try configuration.addTokens(to: &added)
    try configuration.addSpecialTokens(to: &added, hasUsualNames: true)
    let rules = SentencePieceRules(
      ranks: ranks(model),
      userDefined: model.ids(of: SentencePieceModel.Kind.userDefined),
      controls: Set(model.ids(of: SentencePieceModel.Kind.control)), addsDummyPrefix: model.addsDummyPrefix,
      collapsesSpaces: model.removesExtraSpaces,
      isLegacy: configuration.isLegacy, addsPrefixSpace: configuration.addsPrefixSpace,
      unkText: configuration.name("unk_token") ?? "<unk>", specialTokens: configuration.namedSpecialTokens(in: added))
    var vocabulary = Vocabulary(
      tokens: table.tokens, merges: [:], addedTokens: added.sorted,
      byteTokens: model.hasByteFallback ? try table.byteTokens() : [],
      normalizer: Normalizer(
        prependScheme: .never, stripsLeadingSpace: rules.addsPrefixSpace || (rules.isLegacy && rules.addsDummyPrefix)),
      specialTokens: try configuration.specialTokens(in: added, unk: model.unkID, addsBOS: true), fusesUNK: true,
      sentencePiece: rules)
    vocabulary.otherSpecialTokens = configuration.otherSpecialTokens
    return vocabulary
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
      guard SentencePieceModel.Kind.all.contains(piece.kind) else {
        throw .unsupported(file: file, part: "piece type \(piece.kind) of", found: piece.text)
      }
      try piece.text.checkLength(file: file)
    }
  }

  /// The rank of each piece that merges can make.
  private static func ranks(_ model: SentencePieceModel) -> [Int32?] {
    let merged = model.pieces.indices.filter {
      [SentencePieceModel.Kind.normal, SentencePieceModel.Kind.userDefined].contains(model.pieces[$0].kind)
    }
    return SentencePieceRules.ranks(merged.map { ($0, model.pieces[$0].score) }, count: model.pieces.count)
  }
}

extension SentencePieceRules {
  /// The rank of each piece by score; equal scores share a rank, and pieces without a score have none.
  static func ranks(_ scores: [(id: Int, score: Float)], count: Int) -> [Int32?] {
    var ranks = [Int32?](repeating: nil, count: count)
    var rank: Int32 = -1
    var lastScore = Float.infinity
    for (id, score) in scores.sorted(by: { $0.score > $1.score }) {
      if score != lastScore {
        lastScore = score
        rank += 1
      }
      ranks[id] = rank
    }
    return ranks
  }
}

/// A reader of the fields of one protobuf message that checks every length.
///
/// Source: the protobuf encoding guide, "Message Structure".
struct WireReader {
  struct WireError: Error, Equatable {
    var offset: Int
    var expected: String
  }

  enum Value {
    case integer(UInt64)
    case fixed32(UInt32)
    case fixed64(UInt64)
    case bytes(ArraySlice<UInt8>)
  }

  private var rest: ArraySlice<UInt8>

  init(_ message: ArraySlice<UInt8>) { rest = message }

  /// The number and value of the next field; nil at the end of the message.
  mutating func next() throws(WireError) -> (number: UInt64, value: Value)? {
    guard !rest.isEmpty else { return nil }
    let offset = rest.startIndex
    let key = try integer()
    guard key >> 3 > 0, key >> 3 < 1 << 29 else { throw WireError(offset: offset, expected: "a field number") }
    let value: Value
    switch key & 7 {
    case 0: value = .integer(try integer())
    case 1: value = .fixed64(try fixed(8))
    case 2:
      let count = try integer()
      guard count <= UInt64(rest.count) else { throw error("\(count) bytes") }
      value = .bytes(take(Int(count)))
    case 5: value = .fixed32(UInt32(try fixed(4)))
    default: throw WireError(offset: offset, expected: "wire type 0, 1, 2 or 5")
    }
    return (key >> 3, value)
  }

  private func error(_ expected: String) -> WireError { WireError(offset: rest.startIndex, expected: expected) }

  private mutating func take(_ count: Int) -> ArraySlice<UInt8> {
    defer { rest = rest.dropFirst(count) }
    return rest.prefix(count)
  }

  private mutating func fixed(_ count: Int) throws(WireError) -> UInt64 {
    guard rest.count >= count else { throw error("\(count) bytes") }
    return take(count).reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  private mutating func integer() throws(WireError) -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: 0, to: 70, by: 7) {
      guard let byte = rest.popFirst() else { throw error("the rest of an integer") }
      guard shift < 63 || byte <= 1 else { break }
      value |= UInt64(byte & 0x7F) << UInt64(shift)
      if byte < 0x80 { return value }
    }
    throw error("an integer of 64 bits")
  }
}

extension WireReader.Value {
  /// The value of an `int32`, `enum` or `bool` field.
  func int32(at offset: Int) throws(WireReader.WireError) -> Int32 {
    guard case .integer(let bits) = self else { throw .init(offset: offset, expected: "an integer") }
    return Int32(truncatingIfNeeded: bits)
  }

  func float(at offset: Int) throws(WireReader.WireError) -> Float {
    guard case .fixed32(let bits) = self else { throw .init(offset: offset, expected: "a float") }
    return Float(bitPattern: bits)
  }

  func bytes(at offset: Int) throws(WireReader.WireError) -> ArraySlice<UInt8> {
    guard case .bytes(let bytes) = self else { throw .init(offset: offset, expected: "a message or string") }
    return bytes
  }
}
