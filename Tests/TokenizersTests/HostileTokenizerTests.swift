import Storage
import Testing
import Tokenizers

private typealias F = TokenizerFixtures

/// A malformed file, and the case of the expected error.
private struct InvalidFile: CustomTestStringConvertible, Sendable {
  var testDescription: String
  var error: String
  var bytes: [UInt8]

  init(_ testDescription: String, _ error: String, _ bytes: [UInt8]) {
    self.testDescription = testDescription
    self.error = error
    self.bytes = bytes
  }

  func check(_ read: ([UInt8]) throws -> Vocabulary) {
    do {
      _ = try read(bytes)
      Issue.record("\(testDescription): accepted")
    } catch {
      #expect("\(error as? VocabularyError as Any)".contains(Self.words[self.error] ?? "?"), "\(error)")
    }
  }

  /// Words of the description of each case.
  private static let words = [
    "unreadable": "the file is empty", "malformed": "at byte", "missingField": "expected",
    "unsupported": "is not supported",
    "idOutOfRange": "expected the id of", "duplicateID": "is used by", "duplicateToken": "listed twice",
    "unknownToken": "not in the vocabulary", "tokenTooLong": "expected tokens of at most 512 bytes",
  ]
}

@Suite struct HostileTokenizerTests {
  private static let invalidJSON = [
    InvalidFile("empty", "unreadable", []),
    InvalidFile("not UTF-8", "malformed", [0x7B, 0x22, 0xFF, 0x22, 0x3A, 0x31, 0x7D]),
    InvalidFile("a list", "missingField", Array("[]".utf8)),
    InvalidFile("no model", "missingField", Array("{}".utf8)),
    InvalidFile("deep", "malformed", Array(String(repeating: "[", count: 100_000).utf8)),
    InvalidFile("negative id", "idOutOfRange", F.json(vocabulary: #"{"a": -1}"#)),
    InvalidFile("huge id", "idOutOfRange", F.json(vocabulary: #"{"a": 10000001}"#)),
    InvalidFile("id beyond 64 bits", "idOutOfRange", F.json(vocabulary: #"{"a": 99999999999999999999}"#)),
    InvalidFile("fractional id", "idOutOfRange", F.json(vocabulary: #"{"a": 0.5}"#)),
    InvalidFile("textual id", "idOutOfRange", F.json(vocabulary: #"{"a": "0"}"#)),
    InvalidFile("missing id", "idOutOfRange", F.json(vocabulary: #"{"<unk>": 0, "a": 2}"#)),
    InvalidFile("duplicate id", "duplicateID", F.json(vocabulary: #"{"<unk>": 0, "a": 1, "b": 1}"#)),
    InvalidFile("duplicate token", "duplicateToken", F.json(vocabulary: #"{"<unk>": 0, "a": 1, "a": 2}"#)),
    InvalidFile("vocabulary as a list", "missingField", F.json(vocabulary: "[]")),
    InvalidFile("merges as an object", "missingField", F.json(merges: "{}")),
    InvalidFile("merge of an unknown token", "unknownToken", F.json(merges: #"["a x"]"#)),
    InvalidFile("merge into an unknown token", "unknownToken", F.json(merges: #"["b a"]"#)),
    InvalidFile("merge of one", "missingField", F.json(merges: #"["a"]"#)),
    InvalidFile("merge of three", "missingField", F.json(merges: #"["a b a"]"#)),
    InvalidFile("merge of three, as a list", "missingField", F.json(merges: #"[["a", "b", "a"]]"#)),
    InvalidFile("merge of numbers", "missingField", F.json(merges: "[[1, 2]]")),
    InvalidFile("merge as a number", "missingField", F.json(merges: "[7]")),
    InvalidFile("UNK token missing", "unknownToken", F.json(vocabulary: #"{"<s>": 0}"#, merges: "[]", added: "[]")),
    InvalidFile("byte tokens missing", "unknownToken", F.json(model: #""byte_fallback": true,"#)),
    InvalidFile("added without an id", "idOutOfRange", F.json(added: #"[{"content": "x"}]"#)),
    InvalidFile("added with a negative id", "idOutOfRange", F.json(added: #"[{"id": -5, "content": "x"}]"#)),
    InvalidFile("added with a huge id", "idOutOfRange", F.json(added: #"[{"id": 4294967297, "content": "x"}]"#)),
    InvalidFile("added without text", "missingField", F.json(added: #"[{"id": 9}]"#)),
    InvalidFile("added with empty text", "missingField", F.json(added: #"[{"id": 9, "content": ""}]"#)),
    InvalidFile("added with the id of another token", "duplicateID", F.json(added: #"[{"id": 4, "content": "x"}]"#)),
    InvalidFile(
      "added twice by id", "duplicateID", F.json(added: #"[{"id": 9, "content": "x"}, {"id": 9, "content": "y"}]"#)),
    InvalidFile(
      "added twice by text", "duplicateToken", F.json(added: #"[{"id": 9, "content": "x"}, {"id": 8, "content": "x"}]"#)
    ),
    InvalidFile(
      "added with long text", "tokenTooLong",
      F.json(added: #"[{"id": 9, "content": "\#(String(repeating: "x", count: 513))"}]"#)),
    InvalidFile("added as a number", "idOutOfRange", F.json(added: "[3]")),
    InvalidFile("Unigram", "unsupported", Array(#"{"model": {"type": "Unigram", "vocab": [["a", -1.5]]}}"#.utf8)),
    InvalidFile("WordPiece", "unsupported", Array(#"{"model": {"type": "WordPiece", "vocab": {}}}"#.utf8)),
    InvalidFile("byte level", "unsupported", F.json(normalizer: "null", preTokenizer: #"{"type": "ByteLevel"}"#)),
    InvalidFile(
      "precompiled", "unsupported", F.json(normalizer: #"{"type": "Precompiled", "precompiled_charsmap": "x"}"#)),
    InvalidFile("NFKC", "unsupported", F.json(normalizer: #"{"type": "NFKC"}"#)),
    InvalidFile("normalizer as a number", "unsupported", F.json(normalizer: "1")),
    InvalidFile(
      "other space", "unsupported",
      F.json(normalizer: "null", preTokenizer: #"{"type": "Metaspace", "replacement": "_"}"#)),
    InvalidFile(
      "other scheme", "unsupported",
      F.json(normalizer: "null", preTokenizer: #"{"type": "Metaspace", "prepend_scheme": "last"}"#)),
    InvalidFile("another step", "unsupported", F.json(preTokenizer: #"{"type": "UnicodeScripts"}"#)),
    InvalidFile("spaces not replaced", "unsupported", F.json(normalizer: "null")),
    InvalidFile("no decoder", "unsupported", F.json(decoder: "null")),
    InvalidFile("other decoder", "unsupported", F.json(decoder: #"{"type": "ByteLevel"}"#)),
    InvalidFile("subword prefix", "unsupported", F.json(model: #""continuing_subword_prefix": "@@","#)),
    InvalidFile("ignore merges", "unsupported", F.json(model: #""ignore_merges": true,"#)),
    InvalidFile("dropout", "unsupported", F.json(model: #""dropout": 0.1,"#)),
    InvalidFile(
      "no BOS token", "unknownToken", F.json(vocabulary: #"{"<unk>": 0}"#, merges: "[]", added: "[]", model: "")),
  ]

  @Test(arguments: invalidJSON)
  fileprivate func `refuses a malformed tokenizer.json`(file: InvalidFile) throws {
    let needsBOS = TokenizerConfigurationFiles(
      configuration: try JSONParser.parse(Array(#"{"add_bos_token": true}"#.utf8)))
    file.check { try Vocabulary.read(tokenizerJSON: $0, configuration: needsBOS) }
  }

  private static let invalidModels = [
    InvalidFile("empty", "unsupported", []),
    InvalidFile("field zero", "malformed", [0x00, 0x00]),
    InvalidFile("group", "malformed", [0x0B]),
    InvalidFile("length beyond the end", "malformed", [0x0A, 0x7F, 0x00]),
    InvalidFile("length of 64 bits", "malformed", [0x0A] + [UInt8](repeating: 0xFF, count: 9) + [0x01]),
    InvalidFile("endless integer", "malformed", [0x08] + [UInt8](repeating: 0xFF, count: 20)),
    InvalidFile("integer beyond 64 bits", "malformed", [0x08] + [UInt8](repeating: 0xFF, count: 9) + [0x02]),
    InvalidFile("piece as an integer", "malformed", F.field(1, 5)),
    InvalidFile("piece without text", "malformed", F.model(F.piece(""))),
    InvalidFile("piece not UTF-8", "malformed", F.model(F.field(1, F.field(1, [0xC3, 0x28])))),
    InvalidFile("score as text", "malformed", F.model(F.field(1, F.field(1, [0x61]) + F.field(2, [0x61])))),
    InvalidFile("score not a number", "malformed", F.model(F.piece("a", score: .nan))),
    InvalidFile("infinite score", "malformed", F.model(F.piece("a", score: -.infinity))),
    InvalidFile("no pieces", "idOutOfRange", F.model([])),
    InvalidFile("duplicate piece", "duplicateToken", F.model(F.controls + F.piece("a") + F.piece("a"))),
    InvalidFile(
      "UNK id negative", "idOutOfRange", F.model(trainer: F.field(3, 2) + F.field(40, UInt64(bitPattern: -1)))),
    InvalidFile("UNK id beyond the end", "idOutOfRange", F.model(trainer: F.field(3, 2) + F.field(40, 99))),
    InvalidFile("UNK id of another piece", "idOutOfRange", F.model(trainer: F.field(3, 2) + F.field(40, 4))),
    InvalidFile("byte pieces missing", "unknownToken", F.model(trainer: F.field(3, 2) + F.field(35, 1))),
    InvalidFile("Unigram", "unsupported", F.model(trainer: F.field(3, 1))),
    InvalidFile("Unigram by default", "unsupported", F.model(trainer: [])),
    InvalidFile("words", "unsupported", F.model(trainer: F.field(3, 3))),
    InvalidFile("suffix spaces", "unsupported", F.model(trainer: F.field(3, 2) + F.field(24, 1))),
    InvalidFile(
      "character map", "unsupported", F.model(normalizer: F.field(1, Array("nmt_nfkc".utf8)) + F.field(2, [1, 2]))),
    InvalidFile("spaces not escaped", "unsupported", F.model(normalizer: F.field(5, 0))),
    InvalidFile("unused piece", "unsupported", F.model(F.controls + F.piece("a", kind: 5))),
    InvalidFile("piece of an unknown kind", "unsupported", F.model(F.controls + F.piece("a", kind: 77))),
    InvalidFile("long piece", "tokenTooLong", F.model(F.controls + F.piece(String(repeating: "a", count: 513)))),
    InvalidFile("no BOS token", "unknownToken", F.model(F.piece("<unk>", kind: 2))),
  ]

  @Test(arguments: invalidModels)
  fileprivate func `refuses a malformed tokenizer.model`(file: InvalidFile) {
    file.check { try Vocabulary.read(sentencePieceModel: $0) }
  }

  @Test func `accepts the unchanged fixtures`() throws {
    #expect(try Vocabulary.read(tokenizerJSON: F.json()).size == 9)
    #expect(try Vocabulary.read(sentencePieceModel: F.model()).size == 6)
  }

  @Test func `survives the loss or change of any byte of a tokenizer.model`() {
    let whole = F.model()
    for i in whole.indices {
      _ = try? Vocabulary.read(sentencePieceModel: Array(whole[..<i]))
      for value in [0, 1, 0x7F, 0x80, 0xFF] as [UInt8] {
        var changed = whole
        changed[i] = value
        _ = try? Vocabulary.read(sentencePieceModel: changed)
      }
    }
  }

  @Test func `survives the change of any byte of a tokenizer.json`() {
    let whole = F.json()
    for i in whole.indices {
      for value in Array("\"]}-9\\".utf8) {
        var changed = whole
        changed[i] = value
        _ = try? Vocabulary.read(tokenizerJSON: changed)
      }
    }
  }
}
