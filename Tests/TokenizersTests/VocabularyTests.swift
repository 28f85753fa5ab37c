import Foundation
import Storage
import TestSupport
import Testing
import Tokenizers

@Suite struct VocabularyTests {
  @Test func `reads tokenizer.json with Prepend and Replace normalizers`() throws {
    let vocabulary = try Vocabulary.load(directory: Goldens.url("tokenizer"))
    #expect(vocabulary.tokens.count == 1200)
    #expect(vocabulary.merges.count == 965)
    #expect(vocabulary.size == 1202)
    #expect(vocabulary.byteTokens == Array(3..<259))
    #expect(vocabulary.normalizer == Normalizer(prependScheme: .always))
    #expect(
      vocabulary.specialTokens == SpecialTokens(bos: 1, eos: 2, unk: 0, pad: 1201, image: 1200))
    #expect(vocabulary.addedTokens.map(\.content) == ["<unk>", "<s>", "</s>", "<image>", "<pad>"])
    #expect(vocabulary.addedTokens.allSatisfy { $0.isSpecial && !$0.isNormalized })
  }

  @Test func `reads tokenizer.json with a Metaspace pre-tokenizer`() throws {
    let vocabulary = try Vocabulary.load(directory: Goldens.url("tokenizer_metaspace"))
    let older = try Vocabulary.load(directory: Goldens.url("tokenizer"))
    #expect(vocabulary.normalizer == Normalizer(prependScheme: .first, isNormalizer: false))
    #expect(vocabulary.merges == older.merges)
    #expect(vocabulary.tokens == older.tokens)
  }

  @Test func `names the reason for an unreadable file`() throws {
    let folder = try TemporaryFolder()
    func error() -> String? {
      #expect(throws: VocabularyError.self) { try Vocabulary.load(directory: folder.url) }?.description
    }
    let pointer = Data("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n".utf8)
    try folder.write("tokenizer.model", pointer)
    #expect(error()?.contains("git lfs pull") == true)
    let directory = folder.url.appending(path: "tokenizer.json")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
    #expect(error() == "tokenizer.json: cannot be read (a directory or device)")
  }

  @Test func `reads the same vocabulary from tokenizer.model`() throws {
    let directory = Goldens.url("tokenizer")
    let bytes = [UInt8](try Data(contentsOf: directory.appending(path: "tokenizer.model")))
    let model = try Vocabulary.read(
      sentencePieceModel: bytes, configuration: TokenizerConfigurationFiles(directory: directory))
    let json = try Vocabulary.load(directory: directory)
    #expect(model.tokens == json.tokens)
    let ranks = try #require(model.sentencePiece?.ranks)
    #expect(json.merges.values.allSatisfy { ranks[Int($0.token)] != nil })
    #expect(model.addedTokens == json.addedTokens)
    #expect(model.specialTokens == json.specialTokens)
    #expect(model.normalizer.stripsLeadingSpace == json.normalizer.stripsLeadingSpace)
    #expect(model.byteTokens == json.byteTokens)
  }

  @Test func `distinguishes canonically equivalent tokens`() throws {
    let vocabulary = try Vocabulary.read(
      tokenizerJSON: TokenizerFixtures.json(
        vocabulary:
          "{\"<unk>\": 0, \"<s>\": 1, \"\u{212B}\": 2, \"\u{C5}\": 3, \"A\u{30A}\": 4, \"A\": 5, \"\u{30A}\": 6}",
        merges: "[\"A \u{30A}\"]", added: "[]"))
    #expect(vocabulary.tokens.map(\.unicodeScalars.first?.value) == [60, 60, 0x212B, 0xC5, 65, 65, 0x30A])
    #expect(vocabulary.merges == [.init(5, 6): .init(rank: 0, token: 4)])
  }

  @Test func `ranks SentencePiece pieces by score, with one rank for equal scores`() throws {
    typealias F = TokenizerFixtures
    let vocabulary = try Vocabulary.read(
      sentencePieceModel: F.model(
        F.controls + F.piece("a", score: -9) + F.piece("aa", score: -2) + F.piece("aaa", score: -1)
          + F.piece("b", score: -9)))
    #expect(vocabulary.sentencePiece?.ranks == [nil, nil, nil, 2, 1, 0, 2])
  }

  @Test func `reads added and special tokens from the configuration files`() throws {
    let configuration = TokenizerConfigurationFiles(
      configuration: try JSONParser.parse(
        Array(
          """
          {"bos_token": {"content": "<s>"}, "add_bos_token": false, "image_token": "<img>", "added_tokens_decoder":
           {"9": {"content": "<img>", "special": true, "lstrip": true, "single_word": true, "normalized": true}}}
          """.utf8)),
      added: try JSONParser.parse(Array(#"{"<pad>": 10, "tool": 11}"#.utf8)),
      map: try JSONParser.parse(Array(#"{"pad_token": "<pad>", "bos_token": "</s>"}"#.utf8)))
    let vocabulary = try Vocabulary.read(tokenizerJSON: TokenizerFixtures.json(), configuration: configuration)
    #expect(vocabulary.specialTokens.addsBOS == false)
    #expect(vocabulary.specialTokens == .init(bos: 1, eos: 2, unk: 0, pad: 10, image: 9, addsBOS: false))
    #expect(
      vocabulary.addedTokens.dropFirst(2) == [
        AddedToken(
          id: 9, content: "<img>", isSpecial: true, stripsLeft: true, isSingleWord: true, isNormalized: true),
        AddedToken(id: 10, content: "<pad>", isSpecial: true), AddedToken(id: 11, content: "tool", isSpecial: false),
      ])
  }

  private func vocabulary(_ configuration: String, processor: String = "{}", added: String? = nil) throws -> Vocabulary
  {
    typealias F = TokenizerFixtures
    return try Vocabulary.read(
      tokenizerJSON: added.map { F.json(added: $0) } ?? F.json(),
      configuration: TokenizerConfigurationFiles(
        configuration: try JSONParser.parse(Array(configuration.utf8)),
        processor: try JSONParser.parse(Array(processor.utf8))))
  }

  @Test func `flags of tokenizer_config.json have precedence`() throws {
    let added = #"[{"id": 8, "content": "<image>", "lstrip": true, "special": false, "normalized": true}]"#
    let configuration =
      #"{"image_token": "<image>", "added_tokens_decoder": {"8": {"content": "<image>", "rstrip": true}}}"#
    #expect(
      try vocabulary(configuration, added: added).addedTokens == [
        AddedToken(id: 8, content: "<image>", isSpecial: true, stripsRight: true, isNormalized: true)
      ])
    #expect(
      throws: VocabularyError.twoIDs(file: "tokenizer_config.json", token: "<image>", ids: [8, 9])
    ) { try vocabulary(#"{"added_tokens_decoder": {"9": {"content": "<image>"}}}"#, added: added) }
  }

  @Test func `special tokens without an id get one, as in transformers`() throws {
    let vocabulary = try vocabulary(
      #"{"pad_token": "<pad>", "additional_special_tokens": ["ab", "<x>"], "extra_special_tokens": {"video_token": "<v>"}}"#
    )
    #expect(
      vocabulary.addedTokens.dropFirst(2).map { [$0.content, "\($0.id)"] }
        == [["<image>", "8"], ["<pad>", "9"], ["<x>", "10"], ["<v>", "11"]])
    #expect(vocabulary.addedTokens.contains { $0.content == "ab" && $0.id == 6 } && vocabulary.specialTokens.pad == 9)
    #expect(vocabulary.otherSpecialTokens == ["video_token": "<v>"])
    #expect(Tokenizer(vocabulary).encode("<x>ab") == [10, 6])
  }

  @Test(
    arguments: [
      ("{}", "{}", Int32(8)), (#"{"image_token": "</s>"}"#, #"{"image_token": "<s>"}"#, nil),
      ("{}", #"{"image_token": "<s>"}"#, 1), ("{}", #"{"image_token": {"content": "<s>"}}"#, 1),
      ("{}", #"{"image_token": "<img>"}"#, 8),
      (#"{"extra_special_tokens": {"image_token": "<s>"}}"#, #"{"image_token": "<image>"}"#, 1),
    ] as [(String, String, Int32?)])
  func `the image token is the tokenizer's, else the processor's`(
    configuration: String, processor: String, image: Int32?
  ) throws {
    #expect(try vocabulary(configuration, processor: processor).specialTokens.image == image)
  }

  @Test(arguments: [
    (#"{"tokenizer_class": "LlamaTokenizer"}"#, true), (#"{"tokenizer_class": "LlamaTokenizerFast"}"#, true),
    (#"{"tokenizer_class": "LlamaTokenizer", "add_bos_token": false}"#, false),
    (#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#, false), ("{}", false),
  ])
  func `Llama's tokenizer adds BOS by default`(configuration: String, addsBOS: Bool) throws {
    #expect(try vocabulary(configuration).specialTokens.addsBOS == addsBOS)
  }

  /// As `PreTrainedTokenizerFast.__init__` of transformers sets the step.
  @Test(arguments: [
    (#"{"tokenizer_class": "GPT2Tokenizer"}"#, true, false), (#"{"tokenizer_class": "LlamaTokenizer"}"#, true, true),
    (#"{"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true}"#, false, true), ("{}", true, true),
  ])
  func `a lone ByteLevel step has the prefix space of the configuration`(
    configuration: String, ownSpace: Bool, addsSpace: Bool
  ) throws {
    typealias F = TokenizerFixtures
    let step = #"{"type": "ByteLevel", "add_prefix_space": \#(ownSpace)}"#
    let vocabulary = try Vocabulary.read(
      tokenizerJSON: F.json(normalizer: "null", preTokenizer: step, decoder: #"{"type": "ByteLevel"}"#),
      configuration: TokenizerConfigurationFiles(configuration: try JSONParser.parse(Array(configuration.utf8))))
    #expect(vocabulary.normalizer.prependScheme == (addsSpace ? .unlessPresent : .never))
  }

  @Test func `names a folder without a tokenizer`() {
    #expect(throws: VocabularyError.missing(directory: Goldens.url("ops").path)) {
      try Vocabulary.load(directory: Goldens.url("ops"))
    }
  }

  @Test func `describes errors on one line`() {
    let token = "a\nb" + String(repeating: "x", count: 100)
    let errors: [VocabularyError] = [
      .missing(directory: "d"), .unreadable(file: "f", reason: "r\n"), .tooLarge(file: "f", byteCount: 2, limit: 1),
      .malformed(file: "f", offset: 3, expected: "':'"), .missingField(file: "f", field: "x", expected: "a list"),
      .unsupported(file: "f", part: "normalizer", found: "NFKC"),
      .idOutOfRange(file: "f", token: token, id: "-1", limit: 9), .duplicateID(file: "f", id: 1, tokens: [token, "b"]),
      .duplicateToken(file: "f", token: token),
      .twoIDs(file: "f", token: String(token.prefix(20)), ids: [1, 2]),
      .unknownToken(file: "f", token: token, neededFor: "merge 3"),
      .tokenTooLong(file: "f", token: token, byteCount: 600, limit: 512),
      .countMismatch(file: "f", field: "k", expected: 3, found: 2),
      .unknownName(file: "f", field: "k", found: token, known: ["a", "b"]),
      .embedded(file: "f", error: .duplicateToken(file: "f", token: token)), .notInGGUF(file: "f", part: "the scores"),
    ]
    for error in errors {
      #expect(!error.description.contains("\n") && error.description.count < 200, "\(error)")
    }
    #expect(errors[5].description == #"f: normalizer "NFKC" is not supported"#)
  }
}
