/// The fields of a SentencePiece model that tokenizing needs, with the defaults of its schema.
///
/// Source: sentencepiece's `sentencepiece_model.proto`.
struct SentencePieceModel {
  struct Piece {
    var text = ""
    var score: Float = 0
    var kind: Int32 = 1
  }

  /// The numbers that the schema gives the kinds of pieces.
  enum Kind {
    static let normal: Int32 = 1
    static let unknown: Int32 = 2
    static let control: Int32 = 3
    static let userDefined: Int32 = 4
    static let byte: Int32 = 6
  }

  var pieces: [Piece] = []
  var modelType: Int32 = 1
  var treatsSpaceAsSuffix = false
  var hasByteFallback = false
  var unknown: Int32 = 0
  var normalizerName = ""
  var hasCharacterMap = false
  var addsDummyPrefix = true
  var removesExtraSpaces = true
  var escapesSpaces = true

  init(_ bytes: [UInt8]) throws(WireReader.Failure) {
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

  private static func piece(_ message: ArraySlice<UInt8>) throws(WireReader.Failure) -> Piece {
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

  private mutating func readTrainer(_ message: ArraySlice<UInt8>) throws(WireReader.Failure) {
    let offset = message.startIndex
    var fields = WireReader(message)
    while let (number, value) = try fields.next() {
      switch number {
      case 3: modelType = try value.int32(at: offset)
      case 24: treatsSpaceAsSuffix = try value.int32(at: offset) != 0
      case 35: hasByteFallback = try value.int32(at: offset) != 0
      case 40: unknown = try value.int32(at: offset)
      default: break
      }
    }
  }

  private mutating func readNormalizer(_ message: ArraySlice<UInt8>) throws(WireReader.Failure) {
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

  private static func text(_ value: WireReader.Value, _ offset: Int) throws(WireReader.Failure) -> String {
    guard let text = String(validating: try value.bytes(at: offset), as: UTF8.self) else {
      throw .init(offset: offset, expected: "UTF-8")
    }
    return text
  }
}
