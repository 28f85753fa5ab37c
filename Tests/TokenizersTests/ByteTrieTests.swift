import TestSupport
import Testing
import Tokenizers

@Suite struct ByteTrieTests {
  private func trie(_ texts: [String]) -> ByteTrie { ByteTrie(texts.enumerated().map { (Array($1.utf8), Int32($0)) }) }

  @Test func `finds the longest string at each position, like a plain search`() {
    var generator = SeededGenerator(3)
    for _ in 0..<200 {
      func text(_ limit: Int) -> String {
        String(
          (0..<Int.random(in: 1...limit, using: &generator)).map { _ in "abé".randomElement(using: &generator) ?? "a" })
      }
      let texts = (0..<Int.random(in: 0...12, using: &generator)).map { _ in text(5) }
      let trie = trie(texts)
      let searched = Array(text(40).utf8)
      for start in searched.indices {
        let longest = texts.filter { searched[start...].starts(with: $0.utf8) }.max { $0.utf8.count < $1.utf8.count }
        let match = trie.longestMatch(in: searched[...], at: start)
        #expect(match?.end == longest.map { start + $0.utf8.count })
        #expect(match.map { Int($0.value) } == longest.flatMap { texts.lastIndex(of: $0) })
      }
      for text in texts { #expect(trie[Array(text.utf8)[...]] == texts.lastIndex(of: text).map { Int32($0) }) }
      #expect(trie[[]] == nil && trie[Array("abc".utf8)[...]] == nil)
    }
  }

  @Test func `needs at most 9 bytes of memory for each byte of its strings`() {
    let texts = (0..<1000).map { "\($0 * 7919 % 1000)" + String(repeating: "x", count: 200) }
    #expect(trie(texts).byteCount <= 9 * (texts.map(\.utf8.count).reduce(0, +) + 2))
    #expect(trie([]).byteCount < 20)
  }
}
