import TestSupport
import Testing
import Tokenizers

@Suite struct HostileGGUFTokenizerTests {
  private struct Case: Sendable {
    var name: String
    var problem: String
    var change: @Sendable (inout GGUFTokenizer) -> Void

    init(_ name: String, _ problem: String, _ change: @escaping @Sendable (inout GGUFTokenizer) -> Void) {
      self.name = name
      self.problem = problem
      self.change = change
    }
  }

  private static let long = String(repeating: "x", count: 513)

  private static let llama = [
    Case("no kind", #""tokenizer.ggml.model" "" is not supported; supported are llama, gpt2"#) { $0.model = "" },
    Case("another kind", #""tokenizer.ggml.model" "be\nrt" is not supported; supported are llama, gpt2"#) {
      $0.model = "be\nrt"
    },
    Case("no tokens", #"expected a list of tokens in "tokenizer.ggml.tokens""#) { $0.tokens = [] },
    Case("tokens of 129 MB", "tokenizer.ggml.tokens: expected at most 134217728 bytes, found 1352") {
      $0.tokens[5] = String(repeating: "x", count: 129 << 20)
    },
    Case("no scores", #"expected a score for each token in "tokenizer.ggml.scores""#) { $0.scores = nil },
    Case("few scores", #"expected 1200 values in "tokenizer.ggml.scores", one for each token, found 1199"#) {
      $0.scores?.removeLast()
    },
    Case("many types", #"expected 1200 values in "tokenizer.ggml.token_type", one for each token, found 1201"#) {
      $0.types?.append(1)
    },
    Case("a score that is no number", #"expected a finite score of token 300 in "tokenizer.ggml.scores""#) {
      $0.scores?[300] = .nan
    },
    Case("an infinite score", #"expected a finite score of token 0 in "tokenizer.ggml.scores""#) {
      $0.scores?[0] = .infinity
    },
    Case("BOS outside", #"expected the id of "tokenizer.ggml.bos_token_id" in 0..<1200, found 1200"#) {
      $0.bosToken = 1200
    },
    Case("EOS outside", #"expected the id of "tokenizer.ggml.eos_token_id" in 0..<1200, found 4294967295"#) {
      $0.eosToken = 0xFFFF_FFFF
    },
    Case("EOT outside", #"expected the id of "tokenizer.ggml.eot_token_id" in 0..<1200, found 9223372036854775807"#) {
      $0.eotToken = .max
    },
    Case("EOM outside", #"expected the id of "tokenizer.ggml.eom_token_id" in 0..<1200, found 5000"#) {
      $0.eomToken = 5000
    },
    Case("UNK negative", #"expected the id of "tokenizer.ggml.unknown_token_id" in 0..<1200, found -1"#) {
      $0.unkToken = -1
    },
    Case("a byte missing", #"byte fallback needs token "<0x41>", which is not in the vocabulary"#) {
      $0.tokens[3 + 0x41] = "x"
    },
    Case("a long token", "expected tokens of at most 512 bytes, found \"xxxxxxxx") { $0.tokens[700] = long },
    Case("a long control token", "expected tokens of at most 512 bytes, found \"xxxxxxxx") { $0.tokens[1] = long },
    Case("invalid tokenizer.json", "tokenizer.json: expected") { $0.huggingFaceJSON = "{\"a\n" },
    Case("tokenizer.json of another kind", #"tokenizer.json: model "Unigram" is not supported"#) {
      $0.huggingFaceJSON = #"{"model": {"type": "Unigram"}}"#
    },
    Case(
      "tokenizer.json with more tokens",
      #"expected 9 values in "tokenizer.ggml.tokens", one for each token, found 5"#
    ) {
      $0.tokens = ["a", "b", "c", "d", "e"]
      ($0.types, $0.scores) = (nil, nil)
      $0.huggingFaceJSON = String(decoding: TokenizerFixtures.json(), as: UTF8.self)
    },
  ]

  private static let byteLevel = [
    Case("an unknown pre-tokenizer", #""tokenizer.ggml.pre" "rust\nbpe" is not supported; supported are gpt-2, "#) {
      $0.pre = "rust\nbpe"
    },
    Case("no merges", #"expected a list of merges in "tokenizer.ggml.merges""#) { $0.merges = nil },
    Case("an empty merge", #"expected two tokens in merge 644 in "tokenizer.ggml.merges""#) { $0.merges?.append("") },
    Case("a merge of one", #"expected two tokens in merge 3 in "tokenizer.ggml.merges""#) { $0.merges?[3] = "ab" },
    Case("a merge without a right side", #"expected two tokens in merge 0 in "tokenizer.ggml.merges""#) {
      $0.merges?[0] = "ab "
    },
    Case("a merge of a missing token", #"merge 1 needs token "qqqq", which is not in the vocabulary"#) {
      $0.merges?[1] = "qqqq e"
    },
    Case("a merge of three", #"merge 2 needs token "a b", which is not in the vocabulary"#) { $0.merges?[2] = "a a b" },
    Case("a merge into a missing token", #"merge 2 needs token "ĠĠ!", which is not in the vocabulary"#) {
      $0.merges?[2] = "Ġ Ġ!"
      $0.tokens[911] = "Ġ!"
      $0.tokens[910] = "Ġ!"
      $0.types?[910] = 1
    },
    Case("BOS without a token", #"expected the token at the start of a prompt in "tokenizer.ggml.bos_token_id""#) {
      ($0.addsBOS, $0.bosToken) = (true, nil)
    },
    Case("a prefix space", #"tokenizer.ggml.add_space_prefix "true with qwen2" is not supported"#) {
      $0.addsSpacePrefix = true
    },
    Case("a long special token", "expected tokens of at most 512 bytes, found \"xxxxxxxx") { $0.tokens[903] = long },
  ]

  @Test func `refuses each error in one line`() throws {
    for (name, cases) in [("vicuna", Self.llama), ("qwen2", Self.byteLevel)] {
      let valid = try GGUFFixtures.tokenizer(name)
      _ = try Vocabulary.load(gguf: valid, file: "model.gguf")
      for hostile in cases {
        var changed = valid
        hostile.change(&changed)
        let error = #expect(throws: VocabularyError.self, "\(hostile.name)") {
          try Vocabulary.load(gguf: changed, file: "model.gguf")
        }
        let text = error?.problem ?? ""
        #expect(text.hasPrefix("model.gguf: " + hostile.problem), "\(hostile.name): \(text)")
        #expect(!text.contains("\n") && text.utf8.count < 300)
      }
    }
  }

  @Test func `accepts a padding token outside the vocabulary, as in published files`() throws {
    var gguf = try GGUFFixtures.tokenizer("vicuna")
    gguf.padToken = 1200
    #expect(try Vocabulary.load(gguf: gguf, file: "f").specialTokens.pad == nil)
  }

  @Test func `accepts types without a meaning and a vocabulary of one token`() throws {
    var gguf = try GGUFFixtures.tokenizer("vicuna")
    gguf.types = gguf.types?.map { $0 == 1 ? .min : $0 }
    #expect(Tokenizer(try Vocabulary.load(gguf: gguf, file: "f")).encode("The red") == [342, 720])
    gguf = GGUFTokenizer()
    (gguf.model, gguf.tokens, gguf.scores, gguf.addsBOS) = ("llama", ["a"], [0], false)
    let tokenizer = Tokenizer(try Vocabulary.load(gguf: gguf, file: "f"))
    #expect(tokenizer.bosToken == nil && tokenizer.eosToken == nil)
    #expect(tokenizer.encode("aa") == [0, 0, 0])
    #expect(gguf.eosTokens.isEmpty)
  }

  @Test func `survives random changes`() throws {
    var random = SeededGenerator(17)
    for name in GGUFFixtures.names {
      let valid = try GGUFFixtures.tokenizer(name)
      for _ in 0..<(isOptimized ? 200 : 20) {
        var changed = valid
        for _ in 0..<Int.random(in: 1...20, using: &random) {
          let id = Int.random(in: changed.tokens.indices, using: &random)
          switch Int.random(in: 0..<5, using: &random) {
          case 0: changed.tokens[id] = changed.tokens.randomElement(using: &random) ?? ""
          case 1: changed.tokens[id] = ""
          case 2: changed.types?[id] = .random(in: -1...7, using: &random)
          case 3: changed.scores?[id] = .random(in: -2000...10, using: &random)
          default: changed.merges?.swapAt(0, Int.random(in: 0..<600, using: &random))
          }
        }
        guard let vocabulary = try? Vocabulary.load(gguf: changed, file: "f") else { continue }
        let tokenizer = Tokenizer(vocabulary)
        let ids = tokenizer.encode("USER: <image>\nWhat is 12? </s>é")
        #expect(ids.allSatisfy { (0..<Int32(valid.tokens.count)).contains($0) })
        _ = tokenizer.decode(ids)
      }
    }
  }
}
