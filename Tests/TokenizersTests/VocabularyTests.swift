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
      .duplicateToken(file: "f", token: token), .unknownToken(file: "f", token: token, neededFor: "merge 3"),
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
