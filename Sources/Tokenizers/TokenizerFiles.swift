package import Foundation
public import Storage

extension Vocabulary {
  /// Reads the tokenizer of a model directory.
  ///
  /// The optional files `tokenizer_config.json`, `added_tokens.json` and `special_tokens_map.json` add tokens and name
  /// the special ones.
  ///
  /// - Parameter prefersSentencePiece: Whether `tokenizer.model` has precedence over `tokenizer.json`, as in the
  ///   original LLaVA code, which passes `use_fast=False`. In transformers the precedence is reversed.
  /// - Throws: `VocabularyError`.
  package static func load(
    directory: URL, prefersSentencePiece: Bool = false
  ) throws(VocabularyError) -> Vocabulary {
    let configuration = try TokenizerConfigurationFiles(directory: directory)
    if prefersSentencePiece, let bytes = try TokenizerFile.bytes("tokenizer.model", in: directory) {
      return try read(sentencePieceModel: bytes, configuration: configuration)
    }
    if let bytes = try TokenizerFile.bytes("tokenizer.json", in: directory) {
      return try read(tokenizerJSON: bytes, configuration: configuration)
    }
    if let bytes = try TokenizerFile.bytes("tokenizer.model", in: directory) {
      return try read(sentencePieceModel: bytes, configuration: configuration)
    }
    throw .missing(directory: directory.path)
  }
}

/// Reads the files of a tokenizer, with a size limit.
package enum TokenizerFile {
  package static let byteLimit = 128 << 20

  /// The bytes of a file; nil if there is no such file.
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
    guard !GitLFSPointer.isFound(bytes) else { throw .notFetched(file: name) }
    return bytes
  }

  /// A JSON file; nil if there is no such file.
  package static func json(_ name: String, in directory: URL) throws(VocabularyError) -> JSONValue? {
    guard let bytes = try bytes(name, in: directory) else { return nil }
    return try json(name, bytes)
  }

  static func json(_ name: String, _ bytes: [UInt8]) throws(VocabularyError) -> JSONValue {
    guard !bytes.isEmpty else { throw .unreadable(file: name, reason: "the file is empty") }
    do throws(JSONParser.ParseError) {
      return try JSONParser.parse(bytes)
    } catch {
      throw .malformed(file: name, offset: error.offset, expected: error.expected)
    }
  }
}

/// The added and special tokens of `tokenizer_config.json`, `added_tokens.json`, `special_tokens_map.json` and
/// `processor_config.json`.
package struct TokenizerConfigurationFiles {
  private static let configurationName = "tokenizer_config.json"
  private static let addedName = "added_tokens.json"
  private static let mapName = "special_tokens_map.json"
  private static let processorName = "processor_config.json"

  private let configuration: JSONValue
  private let added: JSONValue
  private let map: JSONValue
  private let processor: JSONValue

  package init(
    configuration: JSONValue = .null, added: JSONValue = .null, map: JSONValue = .null, processor: JSONValue = .null
  ) {
    self.configuration = configuration
    self.added = added
    self.map = map
    self.processor = processor
  }

  package init(directory: URL) throws(VocabularyError) {
    func object(_ name: String) throws(VocabularyError) -> JSONValue {
      guard let value = try TokenizerFile.json(name, in: directory) else { return .null }
      guard value.members != nil else { throw .malformed(file: name, offset: 0, expected: "an object") }
      return value
    }
    self.init(
      configuration: try object(Self.configurationName), added: try object(Self.addedName),
      map: try object(Self.mapName), processor: try object(Self.processorName))
  }

  /// Whether prompts start with the BOS token; nil if the files do not define it.
  var addsBOS: Bool? { configuration["add_bos_token"].bool ?? (isLlamaTokenizer ? true : nil) }

  /// Whether the class is Llama's, whose defaults differ from those of other classes.
  private var isLlamaTokenizer: Bool {
    ["LlamaTokenizer", "LlamaTokenizerFast"].contains(configuration["tokenizer_class"].string)
  }

  /// Whether a pre-tokenizer of one `ByteLevel` step adds a space before a text; nil for the step's own value.
  ///
  /// Source: `PreTrainedTokenizerFast.__init__` of transformers; Llama's class passes null, which changes nothing.
  var byteLevelAddsSpace: Bool? {
    guard configuration["tokenizer_class"].string != nil else { return nil }
    return configuration["add_prefix_space"].bool ?? (isLlamaTokenizer ? nil : false)
  }

  /// Whether each segment of text between added tokens is a text of its own; the default of transformers' tokenizer.
  var isLegacy: Bool { configuration["legacy"].bool ?? true }

  /// Whether a space is added at the beginning of a text that is not `isLegacy`.
  var addsPrefixSpace: Bool { configuration["add_prefix_space"].bool ?? !isNull("add_prefix_space") }

  /// Whether a field is null, which differs from a missing field.
  private func isNull(_ key: String) -> Bool {
    configuration[key].isNull && configuration.members?.contains { $0.key == key } == true
  }

  /// The text of a special token by its key, such as `bos_token`.
  func name(_ key: String) -> String? { entry(key).flatMap(Self.text) }

  /// The text of a special token, or the object with its text and flags.
  ///
  /// Version 4.34 of transformers introduced `added_tokens_decoder`. Without it, the map has precedence.
  private func entry(_ key: String) -> JSONValue? {
    let files = configuration["added_tokens_decoder"].isNull ? [map, configuration] : [configuration, map]
    return files.lazy.map { $0[key] }.first { Self.text($0) != nil }
  }

  /// Adds the tokens that the files list with ids.
  ///
  /// The flags of `tokenizer_config.json` have precedence over those of tokens that the table has already.
  func addTokens(to table: inout AddedTokenTable) throws(VocabularyError) {
    let special = Set(specialNames.map { Array($0.utf8) })
    for member in configuration["added_tokens_decoder"].members ?? [] {
      var token = try AddedToken(
        member.value, id: .init(member.key, file: Self.configurationName), file: Self.configurationName)
      if special.contains(Array(token.content.utf8)) { token.isSpecial = true }
      try table.add(token, replacesFlags: true, file: Self.configurationName)
    }
    for member in added.members ?? [] {
      let token = AddedToken(
        id: try .init(member.value, token: member.key, file: Self.addedName), content: member.key,
        isSpecial: special.contains(Array(member.key.utf8)))
      try table.add(token, file: Self.addedName)
    }
  }

  /// Adds the special tokens that the files name without an id.
  ///
  /// A token that is not in the vocabulary gets the next free id, except for the BOS, EOS and UNK tokens.
  ///
  /// - Parameter hasUsualNames: Whether BOS, EOS and UNK tokens that are not named have their usual names.
  func addSpecialTokens(to table: inout AddedTokenTable, hasUsualNames: Bool) throws(VocabularyError) {
    let usual = Self.usualNames.compactMap { key, name in
      entry(key) ?? (isNull(key) || !hasUsualNames ? nil : .string(name))
    }
    let others = ["sep_token", "pad_token", "cls_token", "mask_token"].compactMap(entry) + additionalTokens
    for (index, value) in (usual + others).enumerated() {
      guard let text = Self.text(value), !text.isEmpty else { continue }
      guard table.addedID(text) == nil, let id = table[text] ?? (index < usual.count ? nil : table.nextID) else {
        continue
      }
      try table.add(AddedToken(special: value, text: text, id: id), file: Self.configurationName)
    }
  }

  /// The ids of the tokens that the files name as special, and of those with the usual names.
  func namedSpecialTokens(in table: AddedTokenTable) -> Set<Int32> {
    let usual = Self.usualNames.compactMap { key, name in self.name(key) ?? (isNull(key) ? nil : name) }
    return Set((usual + specialNames).compactMap(table.addedID))
  }

  private static let usualNames = [("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")]

  /// The special tokens; a token that the files do not name has its usual name.
  ///
  /// - Parameters:
  ///   - unk: The UNK token of the tokenizer.
  ///   - bosName: The BOS token of the tokenizer's own post-processor, if any.
  ///   - addsBOS: The value of `addsBOS` if the files do not define it.
  func specialTokens(
    in table: AddedTokenTable, unk: Int32?, bosName: String? = nil, addsBOS: Bool
  ) throws(VocabularyError) -> SpecialTokens {
    let bosName = name("bos_token") ?? bosName ?? "<s>"
    let specialTokens = SpecialTokens(
      bos: table[bosName], eos: table[name("eos_token") ?? "</s>"], unk: unk,
      pad: name("pad_token").flatMap { table[$0] }, image: imageToken(in: table),
      addsBOS: self.addsBOS ?? addsBOS)
    if specialTokens.addsBOS, specialTokens.bos == nil {
      throw .unknownToken(file: Self.configurationName, token: bosName, neededFor: "the start of a prompt")
    }
    return specialTokens
  }

  /// The image token: that of the tokenizer, else that of the processor if it is an added token, else `<image>`.
  ///
  /// Source: `LlavaProcessor.__init__` of transformers.
  private func imageToken(in table: AddedTokenTable) -> Int32? {
    if let text = Self.text(configuration["extra_special_tokens"]["image_token"]) ?? name("image_token") {
      return table.addedID(text)
    }
    return Self.text(processor["image_token"]).flatMap(table.addedID) ?? table.addedID("<image>")
  }

  /// The texts of special tokens that chat templates get besides BOS, EOS, PAD and UNK, by their names.
  var otherSpecialTokens: [String: String] {
    var texts: [String: String] = [:]
    for key in ["sep_token", "cls_token", "mask_token"] { texts[key] = name(key) }
    for member in configuration["extra_special_tokens"].members ?? [] { texts[member.key] = Self.text(member.value) }
    return texts
  }

  private var specialNames: [String] {
    [configuration, map].flatMap { file in
      ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token", "image_token"]
        .compactMap { Self.text(file[$0]) }
    } + additionalTokens.compactMap(Self.text)
  }

  private var additionalTokens: [JSONValue] {
    [configuration, map].flatMap {
      ($0["additional_special_tokens"].array ?? []) + ($0["extra_special_tokens"].members ?? []).map(\.value)
    }
  }

  /// The text of a token, which is a string or an object with flags.
  private static func text(_ value: JSONValue) -> String? { value.string ?? value["content"].string }
}

extension AddedToken {
  /// A special token that the configuration names, by a string or by an object with flags.
  fileprivate init(special entry: JSONValue, text: String, id: Int32) {
    self.init(
      id: id, content: text, isSpecial: true, stripsLeft: entry["lstrip"].bool ?? false,
      stripsRight: entry["rstrip"].bool ?? false, isSingleWord: entry["single_word"].bool ?? false)
  }

  /// Reads the `content` and flags of an added token.
  init(_ entry: JSONValue, id: Int32, file: String) throws(VocabularyError) {
    guard let content = entry["content"].string else {
      throw .missingField(file: file, field: "content", expected: "the text of token \(id)")
    }
    let isSpecial = entry["special"].bool ?? false
    self.init(
      id: id, content: content, isSpecial: isSpecial, stripsLeft: entry["lstrip"].bool ?? false,
      stripsRight: entry["rstrip"].bool ?? false, isSingleWord: entry["single_word"].bool ?? false,
      isNormalized: entry["normalized"].bool ?? !isSpecial)
  }
}

extension Int32 {
  /// Reads a token id from a JSON value.
  init(_ value: JSONValue, token: String, file: String) throws(VocabularyError) {
    guard let id = value.integer, (0..<TokenTable.idLimit).contains(id) else {
      throw .idOutOfRange(file: file, token: token, id: value.string?.excerpt ?? value.kind, limit: TokenTable.idLimit)
    }
    self = Int32(id)
  }

  /// Reads a token id from a key.
  fileprivate init(_ key: String, file: String) throws(VocabularyError) {
    try self.init(Int(key).map(JSONValue.integer) ?? .string(key), token: key, file: file)
  }
}

/// An error in the tokenizer files of a checkpoint.
public enum VocabularyError: UserFacingError, Equatable {
  /// Neither `tokenizer.json` nor `tokenizer.model` is there.
  case missing(directory: String)
  /// A CLIP directory without the files of its tokenizer.
  case missingCLIP(directory: String)
  case unreadable(file: String, reason: String)
  case notFetched(file: String)
  case tooLarge(file: String, byteCount: Int, limit: Int)
  case malformed(file: String, offset: Int, expected: String)
  case missingField(file: String, field: String, expected: String)

  /// A kind of tokenizer that is not supported.
  case unsupported(file: String, part: String, found: String)
  case idOutOfRange(file: String, token: String, id: String, limit: Int)
  case duplicateID(file: String, id: Int, tokens: [String])
  case duplicateToken(file: String, token: String)
  /// A token of a file with an id that is not its id in another place.
  case twoIDs(file: String, token: String, ids: [Int])
  case unknownToken(file: String, token: String, neededFor: String)
  case tokenTooLong(file: String, token: String, byteCount: Int, limit: Int)

  /// A list of a GGUF file whose length does not fit the number of tokens.
  case countMismatch(file: String, field: String, expected: Int, found: Int)

  /// A name that is none of those supported.
  case unknownName(file: String, field: String, found: String, known: [String])

  /// An error in a tokenizer file that is part of a GGUF file.
  indirect case embedded(file: String, error: VocabularyError)

  /// A tokenizer with a property that the keys of a GGUF file do not hold.
  case notInGGUF(file: String, part: String)
}

extension VocabularyError {
  public var category: ErrorCategory { .model }

  public var problem: String {
    switch self {
    case .missing(let directory):
      "\(directory): expected tokenizer.json or tokenizer.model, found neither"
    case .missingCLIP(let directory):
      "\(directory): expected CLIP's tokenizer.json, or vocab.json and merges.txt, found none; is the download complete?"
    case .unreadable(let file, let reason):
      "\(file): cannot be read (\(reason.pathExcerpt))"
    case .notFetched(let file):
      "\(file): \(GitLFSPointer.reason)"
    case .tooLarge(let file, let byteCount, let limit):
      "\(file): expected at most \(limit) bytes, found \(byteCount)"
    case .malformed(let file, let offset, let expected):
      "\(file): expected \(expected) at byte \(offset)"
    case .missingField(let file, let field, let expected):
      "\(file): expected \(expected) in \(field.excerpt)"
    case .unsupported(let file, let part, let found):
      "\(file): \(part) \(found.excerpt) is not supported"
    case .idOutOfRange(let file, let token, let id, let limit):
      "\(file): expected the id of \(token.excerpt) in 0..<\(limit), found \(id)"
    case .duplicateID(let file, let id, let tokens):
      "\(file): id \(id) is used by \(tokens.map(\.excerpt).joined(separator: " and "))"
    case .duplicateToken(let file, let token):
      "\(file): token \(token.excerpt) is listed twice"
    case .twoIDs(let file, let token, let ids):
      "\(file): token \(token.excerpt) has the id \(ids[1]), and \(ids[0]) in the vocabulary or another list; take all "
        + "files of the tokenizer from one model"
    case .unknownToken(let file, let token, let use):
      "\(file): \(use) needs token \(token.excerpt), which is not in the vocabulary"
    case .tokenTooLong(let file, let token, let byteCount, let limit):
      "\(file): expected tokens of at most \(limit) bytes, found \(token.excerpt) of \(byteCount)"
    case .countMismatch(let file, let field, let expected, let found):
      "\(file): expected \(expected) values in \(field.excerpt), one for each token, found \(found)"
    case .unknownName(let file, let field, let found, let known):
      "\(file): \(field.excerpt) \(found.excerpt) is not supported; supported are \(known.joined(separator: ", "))"
    case .embedded(let file, let error):
      "\(file): \(error.problem)"
    case .notInGGUF(let file, let part):
      "\(file): a GGUF file cannot hold \(part) of this tokenizer"
    }
  }
}
