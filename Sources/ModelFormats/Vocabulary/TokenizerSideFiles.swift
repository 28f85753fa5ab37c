#if canImport(FoundationEssentials)
  package import FoundationEssentials
#else
  package import Foundation
#endif

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

  /// Whether a prompt starts with the beginning token, where that is said.
  var addsBeginning: Bool? { configuration["add_bos_token"].bool }

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
  /// - Parameter beginning: The beginning token as the tokenizer itself names it, where it does.
  func roles(
    in table: AddedTokenTable, unknown: Int32?, beginning: String? = nil, addsBeginning: Bool
  ) throws(VocabularyError) -> SpecialTokens {
    let beginningName = name("bos_token") ?? beginning ?? "<s>"
    let roles = SpecialTokens(
      beginning: table[beginningName], end: table[name("eos_token") ?? "</s>"], unknown: unknown,
      padding: name("pad_token").flatMap { table[$0] }, image: table[name("image_token") ?? "<image>"],
      addsBeginning: self.addsBeginning ?? addsBeginning)
    if roles.addsBeginning, roles.beginning == nil {
      throw .unknownPiece(file: Self.configurationName, piece: beginningName, neededFor: "the start of a prompt")
    }
    return roles
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
