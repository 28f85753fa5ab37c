import Foundation
import TestSupport
import Testing
import Tokenizers

/// What the tokenizers library makes of texts and of random ids with small byte-level tokenizers.
private struct ByteLevelCases: Decodable {
  struct Case: Decodable {
    var text: String?
    var ids: [Int32]
    var decode: String
    var decode_skip_special: String
  }

  var prompt_ids: [Int32]
  var encoded: [Case]
  var decoded: [Case]

  static func load(_ kind: String) throws -> Self {
    try JSONDecoder().decode(Self.self, from: Data(contentsOf: Fixtures.url("tokenizers/\(kind)/cases.json")))
  }
}

@Suite struct ByteLevelTokenizerTests {
  static let kinds = ["llama3", "qwen2", "gpt2"]

  private func tokenizer(_ kind: String) throws -> Tokenizer {
    try Tokenizer(directory: Fixtures.url("tokenizers/\(kind)"))
  }

  @Test(arguments: kinds)
  func `encodes as the reference`(kind: String) throws {
    let (tokenizer, cases) = (try tokenizer(kind), try ByteLevelCases.load(kind))
    for golden in cases.encoded {
      let text = golden.text ?? ""
      #expect(tokenizer.encode(text) == golden.ids, "\(text.debugDescription)")
    }
    #expect(tokenizer.encodePrompt("a b") == cases.prompt_ids)
    #expect(tokenizer.addsBOSToken == (kind == "llama3"))
  }

  @Test(arguments: kinds)
  func `decodes as the reference, in parts and at once`(kind: String) throws {
    let (tokenizer, cases) = (try tokenizer(kind), try ByteLevelCases.load(kind))
    for golden in cases.encoded + cases.decoded {
      for (skips, expected) in [(true, golden.decode_skip_special), (false, golden.decode)] {
        let whole = tokenizer.decode(golden.ids, skipSpecialTokens: skips)
        #expect(whole.utf8.elementsEqual(expected.utf8), "\(golden.ids)")
        var decoder = Detokenizer(tokenizer, skipSpecialTokens: skips)
        var given = ""
        for id in golden.ids {
          given += decoder.push(id)
          #expect(whole.utf8.starts(with: given.utf8), "\(golden.ids)")
        }
        #expect((given + decoder.finish()).utf8.elementsEqual(whole.utf8), "\(golden.ids)")
      }
    }
  }

  @Test func `holds back a character until its last byte has come`() throws {
    let tokenizer = try tokenizer("llama3")
    // Spelled byte by byte, as characters without pieces of their own are.
    let ids = tokenizer.encode("\u{10FFFF}!")
    var decoder = Detokenizer(tokenizer)
    let parts = ids.map { decoder.push($0) }
    #expect(parts.count > 2 && parts.first == "" && parts.last == "!")
    #expect(parts.joined() == "\u{10FFFF}!")
  }

  @Test func `takes a word that is a piece whole where the file says so`() throws {
    let tokenizer = try tokenizer("llama3")
    #expect(tokenizer.pieces(of: tokenizer.encode("x question")) == ["x", "Ġquestion"])
  }

  @Test(arguments: [
    (#"{"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated"}"#, "pre_tokenizer pattern"),
    (#"{"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated"}"#, "pre_tokenizer pattern"),
    (#"{"type": "Split", "pattern": {"Regex": "\\p{N}"}, "behavior": "MergedWithNext"}"#, "Split behavior"),
    (#"{"type": "Digits"}"#, "pre_tokenizer"),
  ])
  func `refuses words that it cannot cut by name`(step: String, part: String) throws {
    let json = """
      {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "decoder": {"type": "ByteLevel"}, "pre_tokenizer":
       {"type": "Sequence", "pretokenizers": [\(step), {"type": "ByteLevel", "use_regex": false}]}}
      """
    let error = #expect(throws: VocabularyError.self) { try Vocabulary.read(tokenizerJSON: Array(json.utf8)) }
    guard case .unsupported("tokenizer.json", part, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }
}
