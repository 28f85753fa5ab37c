import Foundation
import Storage
import TestSupport
import Testing
import Tokenizers

@Suite struct GGUFTokenizerWritingTests {
  private static let texts = [
    "", " ", "a", "Hello  world", "USER: <image>\nWhat is shown? ASSISTANT:", "\n a\tb", "café cafe\u{301} 中文 😀",
    "<s>hello</s> x",
    "it's 12345.678", "<|im_start|>user\nhi<|im_end|>\n", "  a <pad>b ", "<unk>x", "<0x0A>", "▁a", "tool  <café>",
  ]

  /// Expects a vocabulary and its GGUF values to encode and decode alike.
  private func expectEqual(_ vocabulary: Vocabulary, _ gguf: GGUFTokenizer) throws {
    let (own, other) = (Tokenizer(vocabulary), Tokenizer(try Vocabulary.load(gguf: gguf, file: "f")))
    for text in Self.texts {
      let ids = own.encodePrompt(text)
      #expect(other.encodePrompt(text) == ids, "\(text.debugDescription)")
      #expect(other.decode(ids) == own.decode(ids))
      #expect(other.decode(ids, skipSpecialTokens: false) == own.decode(ids, skipSpecialTokens: false))
    }
    #expect(own.vocabularySize == other.vocabularySize)
  }

  private func repository(_ path: String) -> URL {
    Goldens.folder.deletingLastPathComponent().deletingLastPathComponent().appending(path: path)
  }

  @Test(arguments: [
    "Models/tiny-textvqa", "Tests/Goldens/tokenizer", "Tests/Goldens/tokenizer_metaspace",
    "Tests/Fixtures/tokenizers/llama3", "Tests/Fixtures/tokenizers/qwen2", "Tests/Fixtures/tokenizers/gpt2",
  ])
  func `holds the tokenizer of a directory, in both forms`(path: String) throws {
    let directory = repository(path)
    for prefersSentencePiece in [false, true] {
      let vocabulary = try Vocabulary.load(directory: directory, prefersSentencePiece: prefersSentencePiece)
      let gguf = try GGUFTokenizer(directory: directory, prefersSentencePiece: prefersSentencePiece)
      try expectEqual(vocabulary, gguf)
      #expect(gguf.tokens.count == vocabulary.size)
      #expect(gguf.model == (path.contains("Fixtures") ? "gpt2" : "llama"))
      #expect(vocabulary.sentencePiece == nil || gguf.huggingFaceJSON == nil)
    }
  }

  @Test(arguments: [("llama3", "llama-bpe"), ("qwen2", "qwen2"), ("gpt2", "gpt-2")])
  func `names the pre-tokenizer of a byte-level tokenizer`(kind: String, pre: String) throws {
    let gguf = try GGUFTokenizer(directory: Fixtures.url("tokenizers/\(kind)"))
    #expect(gguf.pre == pre)
    // The fixtures have an added token that is matched in the normalized text.
    #expect(gguf.huggingFaceJSON != nil)
  }

  @Test func `needs no tokenizer.json for a byte-level tokenizer with plain added tokens`() throws {
    let vocabulary = try Vocabulary.load(gguf: GGUFFixtures.tokenizer("qwen2"), file: "f")
    let gguf = try GGUFTokenizer(vocabulary)
    #expect(gguf.huggingFaceJSON == nil)
    try expectEqual(vocabulary, gguf)
  }

  @Test(arguments: GGUFFixtures.names)
  func `writes what it read`(name: String) throws {
    let original = try GGUFFixtures.tokenizer(name)
    let vocabulary = try Vocabulary.load(gguf: original, file: "f")
    let gguf = try GGUFTokenizer(vocabulary, tokenCount: original.tokens.count)
    #expect(gguf.tokens == original.tokens)
    #expect(gguf.merges == original.merges)
    #expect(gguf.pre == original.pre || name == "vicuna-2023")
    #expect(gguf.types == original.types || name == "vicuna-2023")
    #expect(gguf.eosTokens == original.eosTokens)
    #expect(gguf.bosToken == original.bosToken && gguf.padToken == original.padToken)
    for golden in try GGUFFixtures.cases(name).cases {
      #expect(Tokenizer(try Vocabulary.load(gguf: gguf, file: "f")).encode(golden.text) == golden.ids)
    }
  }

  @Test func `has scores by which readers without tokenizer.json find the same tokens`() throws {
    var gguf = try GGUFTokenizer(directory: Goldens.url("tokenizer"))
    #expect(gguf.huggingFaceJSON != nil)
    gguf.huggingFaceJSON = nil
    for golden in try GGUFFixtures.cases("vicuna").cases
    where !golden.text.contains("<image>") && !golden.text.contains("<pad>") {
      #expect(Tokenizer(try Vocabulary.load(gguf: gguf, file: "f")).encode(golden.text) == golden.ids)
    }
  }

  @Test func `holds SentencePiece models of transformers with and without legacy`() throws {
    for isLegacy in [true, false] {
      let configuration = TokenizerConfigurationFiles(
        configuration: try JSONParser.parse(Array(#"{"legacy": \#(isLegacy)}"#.utf8)))
      for model in isLegacy ? ["bytes"] : ["bytes", "noprefix"] {
        let bytes = [UInt8](try Data(contentsOf: Fixtures.url("tokenizers/llama/\(model).model")))
        let vocabulary = try Vocabulary.read(sentencePieceModel: bytes, configuration: configuration)
        let gguf = try GGUFTokenizer(vocabulary, tokenCount: vocabulary.size + 3)
        #expect(gguf.isLegacy == (isLegacy ? nil : false))
        #expect(gguf.tokens.suffix(1) == ["[PAD\(vocabulary.size + 2)]"])
        try expectEqual(vocabulary, gguf)
      }
    }
  }

  @Test func `refuses what a GGUF file cannot hold`() throws {
    typealias F = TokenizerFixtures
    func part(_ vocabulary: Vocabulary, tokenCount: Int? = nil) -> VocabularyError? {
      #expect(throws: VocabularyError.self) { try GGUFTokenizer(vocabulary, tokenCount: tokenCount) }
    }
    let symbols = F.controls + F.piece("a") + F.piece("ing", kind: 4)
    let userDefined = try Vocabulary.read(sentencePieceModel: F.model(symbols))
    #expect(part(userDefined) == .notInGGUF(file: "tokenizer.model", part: "the user-defined pieces"))
    let controls = try Vocabulary.read(sentencePieceModel: F.model(F.controls + F.piece("<ctl>", kind: 3)))
    #expect(part(controls) == .notInGGUF(file: "tokenizer.model", part: "the control pieces"))
    let json = try Vocabulary.read(tokenizerJSON: F.json())
    #expect(part(json) == .notInGGUF(file: "tokenizer.json", part: "the added tokens"))
    #expect(
      part(json, tokenCount: 8) == .idOutOfRange(file: "tokenizer.json", token: "the last token", id: "8", limit: 8))
    var flagged = try Vocabulary.load(gguf: GGUFFixtures.tokenizer("qwen2"), file: "f")
    flagged.addedTokens[0].stripsRight = true
    #expect(part(flagged) == .notInGGUF(file: "tokenizer.json", part: "the added tokens"))
    // Encoded without a prefix space, but decoded as if there were one.
    let bytes = [UInt8](try Data(contentsOf: Fixtures.url("tokenizers/llama/noprefix.model")))
    let noPrefix = try Vocabulary.read(sentencePieceModel: bytes)
    #expect(part(noPrefix) == .notInGGUF(file: "tokenizer.model", part: "the normalizer"))
  }
}
