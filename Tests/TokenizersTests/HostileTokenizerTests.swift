import Storage
import Testing
import Tokenizers

private typealias F = TokenizerFixtures

/// A file that lies in one place, and the case of the error that it must give.
private struct Lie: CustomTestStringConvertible, Sendable {
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

  /// What the description of each case says.
  private static let words = [
    "malformed": "at byte", "missingField": "expected", "unsupported": "is not supported",
    "idOutOfRange": "expected the id of", "duplicateID": "is given to", "duplicatePiece": "listed twice",
    "unknownPiece": "not in the vocabulary",
  ]
}

@Suite struct HostileTokenizerTests {
  private static let jsonLies = [
    Lie("empty", "malformed", []),
    Lie("not UTF-8", "malformed", [0x7B, 0x22, 0xFF, 0x22, 0x3A, 0x31, 0x7D]),
    Lie("a list", "missingField", Array("[]".utf8)),
    Lie("no model", "missingField", Array("{}".utf8)),
    Lie("deep", "malformed", Array(String(repeating: "[", count: 100_000).utf8)),
    Lie("negative id", "idOutOfRange", F.json(vocabulary: #"{"a": -1}"#)),
    Lie("huge id", "idOutOfRange", F.json(vocabulary: #"{"a": 10000001}"#)),
    Lie("id beyond 64 bits", "idOutOfRange", F.json(vocabulary: #"{"a": 99999999999999999999}"#)),
    Lie("fractional id", "idOutOfRange", F.json(vocabulary: #"{"a": 0.5}"#)),
    Lie("textual id", "idOutOfRange", F.json(vocabulary: #"{"a": "0"}"#)),
    Lie("missing id", "idOutOfRange", F.json(vocabulary: #"{"<unk>": 0, "a": 2}"#)),
    Lie("duplicate id", "duplicateID", F.json(vocabulary: #"{"<unk>": 0, "a": 1, "b": 1}"#)),
    Lie("duplicate piece", "duplicatePiece", F.json(vocabulary: #"{"<unk>": 0, "a": 1, "a": 2}"#)),
    Lie("vocabulary as a list", "missingField", F.json(vocabulary: "[]")),
    Lie("merges as an object", "missingField", F.json(merges: "{}")),
    Lie("merge of a stranger", "unknownPiece", F.json(merges: #"["a x"]"#)),
    Lie("merge into a stranger", "unknownPiece", F.json(merges: #"["b a"]"#)),
    Lie("merge of one", "missingField", F.json(merges: #"["a"]"#)),
    Lie("merge of three", "missingField", F.json(merges: #"["a b a"]"#)),
    Lie("merge of three, as a list", "missingField", F.json(merges: #"[["a", "b", "a"]]"#)),
    Lie("merge of numbers", "missingField", F.json(merges: "[[1, 2]]")),
    Lie("merge as a number", "missingField", F.json(merges: "[7]")),
    Lie("UNK token missing", "unknownPiece", F.json(vocabulary: #"{"<s>": 0}"#, merges: "[]", added: "[]")),
    Lie("byte pieces missing", "unknownPiece", F.json(model: #""byte_fallback": true,"#)),
    Lie("added without an id", "idOutOfRange", F.json(added: #"[{"content": "x"}]"#)),
    Lie("added with a negative id", "idOutOfRange", F.json(added: #"[{"id": -5, "content": "x"}]"#)),
    Lie("added with a huge id", "idOutOfRange", F.json(added: #"[{"id": 4294967297, "content": "x"}]"#)),
    Lie("added without text", "missingField", F.json(added: #"[{"id": 9}]"#)),
    Lie("added with empty text", "missingField", F.json(added: #"[{"id": 9, "content": ""}]"#)),
    Lie("added over a piece", "duplicateID", F.json(added: #"[{"id": 4, "content": "x"}]"#)),
    Lie("added twice by id", "duplicateID", F.json(added: #"[{"id": 9, "content": "x"}, {"id": 9, "content": "y"}]"#)),
    Lie(
      "added twice by text", "duplicatePiece", F.json(added: #"[{"id": 9, "content": "x"}, {"id": 8, "content": "x"}]"#)
    ),
    Lie("added as a number", "idOutOfRange", F.json(added: "[3]")),
    Lie("Unigram", "unsupported", Array(#"{"model": {"type": "Unigram", "vocab": [["a", -1.5]]}}"#.utf8)),
    Lie("WordPiece", "unsupported", Array(#"{"model": {"type": "WordPiece", "vocab": {}}}"#.utf8)),
    Lie("byte level", "unsupported", F.json(normalizer: "null", preTokenizer: #"{"type": "ByteLevel"}"#)),
    Lie("precompiled", "unsupported", F.json(normalizer: #"{"type": "Precompiled", "precompiled_charsmap": "x"}"#)),
    Lie("NFKC", "unsupported", F.json(normalizer: #"{"type": "NFKC"}"#)),
    Lie("normalizer as a number", "unsupported", F.json(normalizer: "1")),
    Lie(
      "other space", "unsupported",
      F.json(normalizer: "null", preTokenizer: #"{"type": "Metaspace", "replacement": "_"}"#)),
    Lie(
      "other scheme", "unsupported",
      F.json(normalizer: "null", preTokenizer: #"{"type": "Metaspace", "prepend_scheme": "last"}"#)),
    Lie("prefix twice", "unsupported", F.json(preTokenizer: #"{"type": "Metaspace"}"#)),
    Lie("spaces left alone", "unsupported", F.json(normalizer: "null")),
    Lie("no decoder", "unsupported", F.json(decoder: "null")),
    Lie("other decoder", "unsupported", F.json(decoder: #"{"type": "ByteLevel"}"#)),
    Lie("subword prefix", "unsupported", F.json(model: #""continuing_subword_prefix": "@@","#)),
    Lie("ignore merges", "unsupported", F.json(model: #""ignore_merges": true,"#)),
    Lie("dropout", "unsupported", F.json(model: #""dropout": 0.1,"#)),
    Lie(
      "no BOS token", "unknownPiece", F.json(vocabulary: #"{"<unk>": 0}"#, merges: "[]", added: "[]", model: "")),
  ]

  @Test(arguments: jsonLies)
  fileprivate func `refuses a tokenizer.json that lies`(lie: Lie) throws {
    let needsBOS = TokenizerSideFiles(
      configuration: try JSONParser.parse(Array(#"{"add_bos_token": true}"#.utf8)))
    lie.check { try Vocabulary.read(tokenizerJSON: $0, sides: needsBOS) }
  }

  private static let modelLies = [
    Lie("empty", "unsupported", []),
    Lie("field zero", "malformed", [0x00, 0x00]),
    Lie("group", "malformed", [0x0B]),
    Lie("length beyond the end", "malformed", [0x0A, 0x7F, 0x00]),
    Lie("length of 64 bits", "malformed", [0x0A] + [UInt8](repeating: 0xFF, count: 9) + [0x01]),
    Lie("endless integer", "malformed", [0x08] + [UInt8](repeating: 0xFF, count: 20)),
    Lie("integer beyond 64 bits", "malformed", [0x08] + [UInt8](repeating: 0xFF, count: 9) + [0x02]),
    Lie("piece as an integer", "malformed", F.field(1, 5)),
    Lie("piece without text", "malformed", F.model(F.piece(""))),
    Lie("piece not UTF-8", "malformed", F.model(F.field(1, F.field(1, [0xC3, 0x28])))),
    Lie("score as text", "malformed", F.model(F.field(1, F.field(1, [0x61]) + F.field(2, [0x61])))),
    Lie("score not a number", "malformed", F.model(F.piece("a", score: .nan))),
    Lie("infinite score", "malformed", F.model(F.piece("a", score: -.infinity))),
    Lie("no pieces", "idOutOfRange", F.model([])),
    Lie("duplicate piece", "duplicatePiece", F.model(F.controls + F.piece("a") + F.piece("a"))),
    Lie("unknown id negative", "idOutOfRange", F.model(trainer: F.field(3, 2) + F.field(40, UInt64(bitPattern: -1)))),
    Lie("unknown id beyond", "idOutOfRange", F.model(trainer: F.field(3, 2) + F.field(40, 99))),
    Lie("unknown id of another", "idOutOfRange", F.model(trainer: F.field(3, 2) + F.field(40, 4))),
    Lie("byte pieces missing", "unknownPiece", F.model(trainer: F.field(3, 2) + F.field(35, 1))),
    Lie("Unigram", "unsupported", F.model(trainer: F.field(3, 1))),
    Lie("Unigram unsaid", "unsupported", F.model(trainer: [])),
    Lie("words", "unsupported", F.model(trainer: F.field(3, 3))),
    Lie("suffix spaces", "unsupported", F.model(trainer: F.field(3, 2) + F.field(24, 1))),
    Lie("character map", "unsupported", F.model(normalizer: F.field(1, Array("nmt_nfkc".utf8)) + F.field(2, [1, 2]))),
    Lie("spaces left alone", "unsupported", F.model(normalizer: F.field(5, 0))),
    Lie("unused piece", "unsupported", F.model(F.controls + F.piece("a", kind: 5))),
    Lie("piece of no kind", "unsupported", F.model(F.controls + F.piece("a", kind: 77))),
    Lie("long piece", "unsupported", F.model(F.controls + F.piece(String(repeating: "a", count: 513)))),
    Lie("no BOS token", "unknownPiece", F.model(F.piece("<unk>", kind: 2))),
  ]

  @Test(arguments: modelLies)
  fileprivate func `refuses a tokenizer.model that lies`(lie: Lie) {
    lie.check { try Vocabulary.read(sentencePieceModel: $0) }
  }

  @Test func `accepts the fixtures that the lies are made from`() throws {
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
