import Foundation
import TestSupport
import Testing
import Tokenizers

/// Reference results of the tokenizers library for texts and random ids, with small byte-level tokenizers.
private struct ByteLevelCases: Decodable {
  struct Case: Decodable {
    var text: String?
    var ids: [Int32]
    var decode: String
    var decodeSkipSpecial: String

    enum CodingKeys: String, CodingKey {
      case text, ids, decode
      case decodeSkipSpecial = "decode_skip_special"
    }
  }

  var promptIDs: [Int32]
  var encoded: [Case]
  var decoded: [Case]

  static func load(_ kind: String) throws -> Self {
    try JSONDecoder().decode(Self.self, from: Data(contentsOf: Fixtures.url("tokenizers/\(kind)/cases.json")))
  }

  enum CodingKeys: String, CodingKey {
    case encoded, decoded
    case promptIDs = "prompt_ids"
  }
}

@Suite struct ByteLevelTokenizerTests {
  static let kinds = ["llama3", "qwen2", "gpt2"]

  private func tokenizer(_ kind: String) throws -> Tokenizer {
    try Tokenizer(directory: Fixtures.url("tokenizers/\(kind)"))
  }

  @Test(arguments: kinds)
  func `encodes like the reference`(kind: String) throws {
    let (tokenizer, cases) = (try tokenizer(kind), try ByteLevelCases.load(kind))
    for golden in cases.encoded {
      let text = golden.text ?? ""
      #expect(tokenizer.encode(text) == golden.ids, "\(text.debugDescription)")
    }
    #expect(tokenizer.encodePrompt("a b") == cases.promptIDs)
    #expect(tokenizer.addsBOSToken == (kind == "llama3"))
  }

  @Test(arguments: kinds)
  func `decodes like the reference, streaming and at once`(kind: String) throws {
    let (tokenizer, cases) = (try tokenizer(kind), try ByteLevelCases.load(kind))
    for golden in cases.encoded + cases.decoded {
      for (skips, expected) in [(true, golden.decodeSkipSpecial), (false, golden.decode)] {
        let whole = tokenizer.decode(golden.ids, skipSpecialTokens: skips)
        #expect(whole.utf8.elementsEqual(expected.utf8), "\(golden.ids)")
        var detokenizer = Detokenizer(tokenizer, skipSpecialTokens: skips)
        var streamed = ""
        for id in golden.ids {
          streamed += detokenizer.push(id)
          #expect(whole.utf8.starts(with: streamed.utf8), "\(golden.ids)")
        }
        #expect((streamed + detokenizer.finish()).utf8.elementsEqual(whole.utf8), "\(golden.ids)")
      }
    }
  }

  /// Text, marks, and by Python's `unicodedata` the characters of the composed text with 1, 20 and 300 times the marks.
  @Test(arguments: [
    ("a", ["\u{301}", "\u{323}"], [4, 42, 602], "\u{1EA1}"), ("ế", ["\u{301}", "\u{323}"], [5, 43, 603], "\u{1EC7}"),
    ("a", ["\u{F72}", "\u{F73}", "\u{F71}"], [7, 83, 1203], "a\u{F71}\u{F71}"),
    ("e", ["\u{344}", "\u{5B0}", "\u{300}", "\u{3099}"], [7, 102, 1502], "\u{EB}\u{3099}"),
    ("ế", ["\u{344}", "\u{5B0}", "\u{300}", "\u{3099}"], [8, 103, 1503], "ế\u{3099}"),
  ])
  func `composes long runs of marks`(base: String, marks: [String], counts: [Int], start: String) throws {
    let tokenizer = try tokenizer("qwen2")
    for (count, expected) in zip([1, 20, 300], counts) {
      let text = "x" + base + String(repeating: marks.joined(), count: count) + "e\u{301}"
      let composed = tokenizer.decode(tokenizer.encode(text))
      #expect(composed.unicodeScalars.count == expected)
      #expect(composed.unicodeScalars.starts(with: ("x" + start).unicodeScalars))
      #expect(composed.hasSuffix("\u{E9}") && tokenizer.encode(composed) == tokenizer.encode(text))
    }
  }

  @Test func `buffers a character until its last byte arrives`() throws {
    let tokenizer = try tokenizer("llama3")
    // One token per byte, because the vocabulary has no token for the character.
    let ids = tokenizer.encode("\u{10FFFF}!")
    var detokenizer = Detokenizer(tokenizer)
    let parts = ids.map { detokenizer.push($0) }
    #expect(parts.count > 2 && parts.first == "" && parts.last == "!")
    #expect(parts.joined() == "\u{10FFFF}!")
  }

  @Test func `encodes a word that is a token without merges if ignore_merges is set`() throws {
    let tokenizer = try tokenizer("llama3")
    #expect(tokenizer.pieces(of: tokenizer.encode("x question")) == ["x", "Ġquestion"])
  }

  @Test func `splits at each digit with a Digits step`() throws {
    let json = """
      {"model": {"type": "BPE", "vocab": {"1": 0, "a": 1, "11": 2, "aa": 3, "Ġ": 4, "Ġ1": 5}, "merges":
       ["1 1", "a a", "Ġ 1"]}, "decoder": {"type": "ByteLevel"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers":
       [{"type": "Digits", "individual_digits": true}, {"type": "ByteLevel", "add_prefix_space": false}]}}
      """
    let vocabulary = try Vocabulary.read(tokenizerJSON: Array(json.utf8))
    #expect(Tokenizer(vocabulary).encode("aa11 1") == [3, 0, 0, 4, 0])
    #expect(try GGUFTokenizer(vocabulary).pre == "smollm")
  }

  @Test(arguments: [
    (#"{"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated"}"#, "pre_tokenizer pattern"),
    (#"{"type": "Split", "pattern": {"String": " "}, "behavior": "Kept"}"#, "behavior of a Split"),
    (#"{"type": "UnicodeScripts"}"#, "pre_tokenizer"),
  ])
  func `refuses an unsupported pre-tokenizer and names it`(step: String, part: String) throws {
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
