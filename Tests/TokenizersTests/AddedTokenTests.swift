import Testing
import Tokenizers

/// Expected ids are those of the tokenizers package 0.23.3, for the same vocabulary.
@Suite struct AddedTokenTests {
  private func tokenizer(_ normalizer: Normalizer, _ added: [AddedToken]) -> Tokenizer {
    Tokenizer(
      Vocabulary(
        tokens: ["?", "▁", "a", "b", "▁a", "ab"],
        merges: [.init(1, 2): .init(rank: 0, token: 4), .init(2, 3): .init(rank: 1, token: 5)], addedTokens: added,
        byteTokens: [], normalizer: normalizer,
        specialTokens: .init(bos: nil, eos: nil, unk: 0, pad: nil, image: nil, addsBOS: false),
        fusesUNK: true))
  }

  @Test func `prefers the leftmost, then the longest`() {
    let tokenizer = tokenizer(
      .init(prependScheme: .never),
      [.init(id: 6, content: "<x>", isSpecial: true), .init(id: 7, content: "<x>b", isSpecial: true)])
    #expect(tokenizer.encode("a<x>ba<x><x>b") == [2, 7, 2, 6, 7])
  }

  @Test func `strips white space around a token`() {
    let tokenizer = tokenizer(
      .init(prependScheme: .never), [.init(id: 6, content: "<x>", isSpecial: true, stripsLeft: true, stripsRight: true)]
    )
    #expect(tokenizer.encode("a \n<x>\t b <x> <x>") == [2, 6, 3, 6, 6])
  }

  @Test func `matches a single word only without adjacent word characters`() {
    let tokenizer = tokenizer(
      .init(prependScheme: .never), [.init(id: 6, content: "abc", isSpecial: true, isSingleWord: true)])
    #expect(tokenizer.encode("abc aabc abc") == [6, 4, 5, 0, 1, 6])
    #expect(tokenizer.encode("abcé abc") == [5, 0, 1, 6])
  }

  @Test func `matches normalized tokens in the normalized text`() {
    let token = AddedToken(id: 6, content: "b a", isSpecial: false, isNormalized: true)
    #expect(tokenizer(.init(prependScheme: .always), [token]).encode("ab a") == [4, 3, 4])
    #expect(tokenizer(.init(prependScheme: .always), [token]).encode("b ab a b a") == [6, 3, 4, 6])
    #expect(tokenizer(.init(prependScheme: .first, isNormalizer: false), [token]).encode("ab a") == [4, 6])
  }

  @Test func `adds a space by the prepend scheme`() {
    let token = AddedToken(id: 6, content: "<x>", isSpecial: true)
    let texts = ["a<x>a", " a<x> a", "<x>a"]
    func encode(_ scheme: Normalizer.PrependScheme) -> [[Int32]] {
      texts.map(tokenizer(.init(prependScheme: scheme, isNormalizer: false), [token]).encode)
    }
    #expect(encode(.always) == [[4, 6, 4], [1, 4, 6, 1, 4], [6, 4]])
    #expect(encode(.unlessPresent) == [[4, 6, 4], [4, 6, 4], [6, 4]])
    #expect(encode(.first) == [[4, 6, 2], [4, 6, 4], [6, 2]])
    #expect(encode(.never) == [[2, 6, 2], [4, 6, 4], [6, 2]])
  }

  @Test func `fuses UNK tokens, and stops merging at word boundaries`() {
    #expect(tokenizer(.init(prependScheme: .never), []).encode("xyaz") == [0, 2, 0])
    var vocabulary = Vocabulary(
      tokens: ["?", "▁", "a", "a▁"], merges: [.init(2, 1): .init(rank: 0, token: 3)], addedTokens: [], byteTokens: [],
      normalizer: .init(prependScheme: .never),
      specialTokens: .init(bos: nil, eos: nil, unk: 0, pad: nil, image: nil), fusesUNK: false)
    #expect(Tokenizer(vocabulary).encode("a axy") == [3, 2, 0, 0])
    vocabulary.normalizer.preTokenizer = .metaspace
    #expect(Tokenizer(vocabulary).encode("a axy") == [2, 1, 2, 0, 0])
  }
}
