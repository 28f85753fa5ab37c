import Foundation
import TestSupport
import Testing
import Tokenizers

/// Reference results of the published tokenizers for 200 texts.
struct TokenizerCases: Decodable {
  struct Case: Decodable {
    var text: String
    var hf_ids: [Int32]
    var sp_ids: [Int32]
    var same: Bool
    var hf_decode: String
    var hf_decode_skip_special: String
    var metaspace_ids: [Int32]
  }

  var cases: [Case]

  static func load() throws -> [Case] { try Goldens.json("tokenizer_cases.json", as: Self.self).cases }
}

@Suite struct TokenizerTests {
  /// The tokenizer of `tokenizer.model`, ignoring the `tokenizer.json` next to it.
  private static func sentencePiece() throws -> Tokenizer {
    let directory = Goldens.url("tokenizer")
    let bytes = [UInt8](try Data(contentsOf: directory.appending(path: "tokenizer.model")))
    return Tokenizer(
      try Vocabulary.read(sentencePieceModel: bytes, configuration: TokenizerConfigurationFiles(directory: directory)))
  }

  @Test func `encodes like the reference from tokenizer.json`() throws {
    let tokenizer = try Tokenizer(directory: Goldens.url("tokenizer"))
    for golden in try TokenizerCases.load() {
      #expect(tokenizer.encode(golden.text) == golden.hf_ids, "\(golden.text.debugDescription)")
    }
  }

  @Test func `encodes like the reference with a Metaspace pre-tokenizer`() throws {
    let tokenizer = try Tokenizer(directory: Goldens.url("tokenizer_metaspace"))
    for golden in try TokenizerCases.load() {
      #expect(tokenizer.encode(golden.text) == golden.metaspace_ids, "\(golden.text.debugDescription)")
    }
  }

  @Test func `encodes like SentencePiece from tokenizer.model, with added tokens like the others`() throws {
    let tokenizer = try Self.sentencePiece()
    for golden in try TokenizerCases.load() {
      if golden.same { #expect(tokenizer.encode(golden.text) == golden.sp_ids, "\(golden.text.debugDescription)") }
      #expect(tokenizer.encode(golden.text) == golden.hf_ids, "\(golden.text.debugDescription)")
    }
  }

  @Test func `decodes like the reference, with and without special tokens`() throws {
    for tokenizer in [try Tokenizer(directory: Goldens.url("tokenizer")), try Self.sentencePiece()] {
      for golden in try TokenizerCases.load() {
        let whole = tokenizer.decode(golden.hf_ids, skipSpecialTokens: false)
        #expect(whole.utf8.elementsEqual(golden.hf_decode.utf8), "\(golden.text.debugDescription)")
        let skipped = tokenizer.decode(golden.hf_ids)
        #expect(skipped.utf8.elementsEqual(golden.hf_decode_skip_special.utf8), "\(golden.text.debugDescription)")
      }
    }
  }

  @Test func `tokenizes the parts around an image separately`() throws {
    for tokenizer in [try Tokenizer(directory: Goldens.url("tokenizer")), try Self.sentencePiece()] {
      let prompt = "USER: <image>\nWhat is shown in this image? ASSISTANT:"
      let expected = tokenizer.encode("USER: ") + [1200] + tokenizer.encode("\nWhat is shown in this image? ASSISTANT:")
      #expect(tokenizer.encode(prompt) == expected)
      // The original code also has a lone space on each side of the image: "▁", and "▁", "\n".
      #expect(expected.firstIndex(of: 1200).map { Array(expected[($0 - 1)...($0 + 2)]) } == [1079, 1200, 1079, 13])
    }
  }

  @Test func `has the special tokens and the size of its files`() throws {
    let tokenizer = try Tokenizer(directory: Goldens.url("tokenizer"))
    #expect(tokenizer.bosToken == 1 && tokenizer.eosToken == 2 && tokenizer.unkToken == 0)
    #expect(tokenizer.padToken == 1201 && tokenizer.imageToken == 1200)
    #expect(tokenizer.vocabularySize == 1202)
    #expect(tokenizer.encodePrompt("a") == [1, 262])
    #expect(tokenizer.pieces(of: [1079, 262, 1200, 5000, -1]) == ["▁", "▁a", "<image>", nil, nil])
    #expect(tokenizer.decode([262, 5000, -1, .max, .min, 264]) == "a b")
  }

  @Test func `merges a long text without a space quickly enough to finish`() throws {
    let tokenizer = try Tokenizer(directory: Goldens.url("tokenizer"))
    let text = String(repeating: "the", count: 4000)
    #expect(tokenizer.decode(tokenizer.encode(text)) == text)
  }
}
