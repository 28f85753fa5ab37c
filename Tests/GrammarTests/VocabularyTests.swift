import Grammar
import Storage
import Testing

@Suite struct VocabularyTests {
  @Test func `a text has the fewest tokens`() {
    let vocabulary = TokenVocabulary(tokens: ["a", "ab", "bc", "c", "abc", "x"].map { Array($0.utf8) } + [nil, []])
    #expect(vocabulary.tokens(of: Array("abcabbc".utf8)) == [4, 1, 2])
    #expect(vocabulary.tokens(of: []) == [])
    #expect(vocabulary.tokens(of: Array("abz".utf8)) == nil)
    #expect(vocabulary.longestToken == 3)
  }

  @Test func `a small cache gives the same masks`() throws {
    let tokens = (0..<Vocabularies.mixed(seed: 1).count).map { Vocabularies.mixed(seed: 1).bytes(of: $0) }
    let (large, small) = (TokenVocabulary(tokens: tokens), TokenVocabulary(tokens: tokens, cacheLimit: 1000))
    large.prepareStrings()
    let grammar = try schema(#"{"items":{"anyOf":[{"type":"string","maxLength":4},{"type":"number"}]},"minItems":3}"#)
    var states = (GrammarState(grammar, large), GrammarState(grammar, small))
    var generator = SeededGenerator(seed: 2)
    for _ in 0..<100 {
      let mask = states.0.mask()
      #expect(mask == states.1.mask() && mask.count == mask.tokens.count)
      guard !mask.isEmpty else { break }
      let token = generator.element(mask.tokens)
      let areAccepted = states.0.accept(token) && states.1.accept(token)
      #expect(areAccepted)
    }
    #expect(small.cachedSetCount < large.cachedSetCount)
  }

  @Test func `special, empty and unknown tokens are never admitted`() throws {
    var state = GrammarState(try Grammar(.regex(".*")), TokenVocabulary(tokens: [nil, [], [0x61]]))
    #expect(state.mask().tokens == [2])
    for token in [0, 1, 3, -1] {
      let isAccepted = state.accept(token)
      #expect(!isAccepted && !state.allows(token))
    }
  }

  @Test func `a vocabulary without a byte of the completion has no tokens for it`() throws {
    let state = GrammarState(try schema(#"{"type":"array","minItems":1}"#), TokenVocabulary(tokens: [[0x5B], [0x31]]))
    #expect(state.shortestCompletionTokens() == nil && state.shortestCompletionLength == 3)
  }
}
