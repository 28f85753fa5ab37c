package import Foundation
package import Storage

extension Vocabulary {
  /// Reads the tokenizer of a checkpoint's folder.
  ///
  /// `tokenizer.json` wins over `tokenizer.model` where both exist, as the published libraries prefer it. The side
  /// files `tokenizer_config.json`, `added_tokens.json` and `special_tokens_map.json` are read where they exist: they
  /// add tokens and name those with a part to play.
  ///
  /// - Throws: `VocabularyError`.
  package static func load(directory: URL) throws(VocabularyError) -> Vocabulary {
    let sides = try TokenizerSideFiles(directory: directory)
    if let bytes = try TokenizerFile.bytes("tokenizer.json", in: directory) {
      return try read(tokenizerJSON: bytes, sides: sides)
    }
    if let bytes = try TokenizerFile.bytes("tokenizer.model", in: directory) {
      return try read(sentencePieceModel: bytes, sides: sides)
    }
    throw .missing(directory: directory.path)
  }
}

/// Access to the files of a tokenizer, none of which has a reason to be large.
package enum TokenizerFile {
  package static let byteLimit = 128 << 20

  /// The file's content, or nil where there is no such file.
  package static func bytes(_ name: String, in directory: URL) throws(VocabularyError) -> [UInt8]? {
    let file: SharedBytes
    do { file = try SharedBytes(mapping: directory.appending(path: name).path) } catch {
      switch error {
      case .notFound: return nil
      case .empty: return []
      case .notAFile: throw .unreadable(file: name, reason: "a directory or device")
      case .unreadable(_, let reason), .unwritable(_, let reason): throw .unreadable(file: name, reason: reason)
      }
    }
    guard file.count <= byteLimit else {
      throw .tooLarge(file: name, byteCount: file.count, limit: byteLimit)
    }
    let bytes = file.copy(0..<file.count)
    guard !FilePointer.isFound(bytes) else { throw .notFetched(file: name) }
    return bytes
  }

  /// The file's content as JSON, or nil where there is no such file.
  package static func json(_ name: String, in directory: URL) throws(VocabularyError) -> JSONValue? {
    guard let bytes = try bytes(name, in: directory) else { return nil }
    return try json(name, bytes)
  }

  static func json(_ name: String, _ bytes: [UInt8]) throws(VocabularyError) -> JSONValue {
    do throws(JSONParser.ParseError) {
      return try JSONParser.parse(bytes)
    } catch {
      throw .malformed(file: name, offset: error.offset, expected: error.expected)
    }
  }
}

/// What the JSON files beside a tokenizer say about added and special tokens.
package struct TokenizerSideFiles {
  private static let configurationName = "tokenizer_config.json"
  private static let addedName = "added_tokens.json"
  private static let mapName = "special_tokens_map.json"

  private let configuration: JSONValue
  private let added: JSONValue
  private let map: JSONValue

  package init(configuration: JSONValue = .null, added: JSONValue = .null, map: JSONValue = .null) {
    self.configuration = configuration
    self.added = added
    self.map = map
  }

  package init(directory: URL) throws(VocabularyError) {
    self.init(
      configuration: try TokenizerFile.json(Self.configurationName, in: directory) ?? .null,
      added: try TokenizerFile.json(Self.addedName, in: directory) ?? .null,
      map: try TokenizerFile.json(Self.mapName, in: directory) ?? .null)
  }

  /// Whether a prompt starts with the BOS token, where that is said.
  var addsBOS: Bool? { configuration["add_bos_token"].bool }

  /// The text of a token by the part it plays, such as `bos_token`.
  func name(_ part: String) -> String? { Self.text(configuration[part]) ?? Self.text(map[part]) }

  /// Adds the tokens that the files list with an id.
  func addTokens(to table: inout AddedTokenTable) throws(VocabularyError) {
    for member in configuration["added_tokens_decoder"].members ?? [] {
      let token = try AddedToken(
        member.value, id: .init(member.key, file: Self.configurationName), file: Self.configurationName)
      try table.add(token, file: Self.configurationName)
    }
    let special = specialNames.map { Array($0.utf8) }
    for member in added.members ?? [] {
      let token = AddedToken(
        id: try .init(member.value, piece: member.key, file: Self.addedName), content: member.key,
        isSpecial: special.contains(Array(member.key.utf8)))
      try table.add(token, file: Self.addedName)
    }
  }

  /// Says which tokens play which part; those without a name take the usual one.
  ///
  /// - Parameter beginning: The BOS token as the tokenizer itself names it, where it does.
  func specialTokens(
    in table: AddedTokenTable, unknown: Int32?, beginning: String? = nil, addsBOS: Bool
  ) throws(VocabularyError) -> SpecialTokens {
    let bosName = name("bos_token") ?? beginning ?? "<s>"
    let specialTokens = SpecialTokens(
      bos: table[bosName], eos: table[name("eos_token") ?? "</s>"], unk: unknown,
      pad: name("pad_token").flatMap { table[$0] }, image: table[name("image_token") ?? "<image>"],
      addsBOS: self.addsBOS ?? addsBOS)
    if specialTokens.addsBOS, specialTokens.bos == nil {
      throw .unknownPiece(file: Self.configurationName, piece: bosName, neededFor: "the start of a prompt")
    }
    return specialTokens
  }

  private var specialNames: [String] {
    [configuration, map].flatMap { file in
      ["bos_token", "eos_token", "unk_token", "pad_token", "image_token"].compactMap { Self.text(file[$0]) }
        + (file["additional_special_tokens"].array ?? []).compactMap(Self.text)
    }
  }

  /// A token's text, written plainly or as an object with flags.
  private static func text(_ value: JSONValue) -> String? { value.string ?? value["content"].string }
}

extension AddedToken {
  /// Reads `content` and the flags of an added token's record.
  init(_ record: JSONValue, id: Int32, file: String) throws(VocabularyError) {
    guard let content = record["content"].string else {
      throw .missingField(file: file, field: "content", expected: "the text of token \(id)")
    }
    let isSpecial = record["special"].bool ?? false
    self.init(
      id: id, content: content, isSpecial: isSpecial, stripsLeft: record["lstrip"].bool ?? false,
      stripsRight: record["rstrip"].bool ?? false, isSingleWord: record["single_word"].bool ?? false,
      isNormalized: record["normalized"].bool ?? !isSpecial)
  }
}

extension Int32 {
  /// A token's id as a JSON value.
  init(_ value: JSONValue, piece: String, file: String) throws(VocabularyError) {
    guard let id = value.integer, (0..<PieceTable.idLimit).contains(id) else {
      throw .idOutOfRange(file: file, piece: piece, id: value.kind, limit: PieceTable.idLimit)
    }
    self = Int32(id)
  }

  /// A token's id as a key.
  fileprivate init(_ key: String, file: String) throws(VocabularyError) {
    try self.init(Int(key).map(JSONValue.integer) ?? .string(key), piece: key, file: file)
  }
}

/// Why the tokenizer files of a checkpoint cannot be used.
package enum VocabularyError: UserFacingError, Equatable {
  /// Neither `tokenizer.json` nor `tokenizer.model` is there.
  case missing(directory: String)
  case unreadable(file: String, reason: String)
  case notFetched(file: String)
  case tooLarge(file: String, byteCount: Int, limit: Int)
  case malformed(file: String, offset: Int, expected: String)
  case missingField(file: String, field: String, expected: String)

  /// A kind of tokenizer that this engine does not have.
  case unsupported(file: String, part: String, found: String)
  case idOutOfRange(file: String, piece: String, id: String, limit: Int)
  case duplicateID(file: String, id: Int, pieces: [String])
  case duplicatePiece(file: String, piece: String)
  case unknownPiece(file: String, piece: String, neededFor: String)
}

extension VocabularyError {
  package var category: ErrorCategory { .model }

  package var problem: String {
    switch self {
    case .missing(let directory):
      "\(directory): expected tokenizer.json or tokenizer.model, found neither"
    case .unreadable(let file, let reason):
      "\(file): cannot be read: \(quoted(reason))"
    case .notFetched(let file):
      "\(file): \(FilePointer.reason)"
    case .tooLarge(let file, let byteCount, let limit):
      "\(file): expected at most \(limit) bytes, found \(byteCount)"
    case .malformed(let file, let offset, let expected):
      "\(file): expected \(expected) at byte \(offset)"
    case .missingField(let file, let field, let expected):
      "\(file): expected \(expected) in \(quoted(field))"
    case .unsupported(let file, let part, let found):
      "\(file): \(part) \(quoted(found)) is not supported"
    case .idOutOfRange(let file, let piece, let id, let limit):
      "\(file): expected the id of \(quoted(piece)) in 0..<\(limit), found \(id.prefix(60))"
    case .duplicateID(let file, let id, let pieces):
      "\(file): id \(id) is given to \(pieces.map(quoted).joined(separator: " and "))"
    case .duplicatePiece(let file, let piece):
      "\(file): piece \(quoted(piece)) is listed twice"
    case .unknownPiece(let file, let piece, let use):
      "\(file): \(use) needs piece \(quoted(piece)), which is not in the vocabulary"
    }
  }

  /// The text in quotation marks, on one line, and cut where it is too long to be read.
  private func quoted(_ text: String) -> String {
    (text.count > 60 ? text.prefix(60) + "…" : text).debugDescription
  }
}
