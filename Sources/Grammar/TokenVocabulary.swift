import Synchronization

/// The bytes of every token, and the tokens that terminals admit, which all grammars share.
package final class TokenVocabulary: Sendable {
  package let count: Int
  /// The number of bytes of the longest token.
  package let longestToken: Int
  /// The bytes of each token; nil if it is never admitted.
  private let tokens: [[UInt8]?]
  let trie: TokenTrie
  private let cache: Mutex<Cache>

  /// - Parameters:
  ///   - tokens: The bytes that each token appends to the answer; nil or none for tokens that are never admitted, such as
  ///     special ones.
  ///   - cacheLimit: The maximum memory of cached sets of tokens, in bytes.
  package init(tokens: [[UInt8]?], cacheLimit: Int = 64 << 20) {
    count = tokens.count
    self.tokens = tokens
    longestToken = tokens.reduce(0) { max($0, $1?.count ?? 0) }
    trie = TokenTrie(tokens)
    cache = Mutex(Cache(limit: cacheLimit))
  }

  /// The bytes of a token; nil if it is never admitted.
  package func bytes(of token: Int) -> [UInt8]? {
    guard tokens.indices.contains(token), let bytes = tokens[token], !bytes.isEmpty else { return nil }
    return bytes
  }

  /// The fewest tokens whose bytes are `bytes`; nil if there are none.
  ///
  /// Cost: O(bytes times longest token).
  package func tokens(of bytes: [UInt8]) -> [Int]? {
    // The fewest tokens from each position, and the first of them.
    var best = [(count: Int, token: Int)?](repeating: nil, count: bytes.count + 1)
    best[bytes.count] = (0, -1)
    for start in bytes.indices.reversed() {
      trie.forEachPrefix(of: bytes[start...]) { token, end in
        guard let rest = best[end], rest.count + 1 < best[start]?.count ?? .max else { return }
        best[start] = (rest.count + 1, Int(token))
      }
    }
    var result: [Int] = []
    var position = 0
    while position < bytes.count {
      guard let token = best[position]?.token, let length = tokens[token]?.count else { return nil }
      result.append(token)
      position += length
    }
    return result
  }

  // MARK: - Cache

  private struct Key: Hashable {
    var dfa: Int
    var state: Int32
    /// Of masks, the number of characters that may follow.
    var remaining: Int32 = -1
  }

  private struct Cache {
    let limit: Int
    var byteCount = 0
    var entries: [Key: TerminalTokens] = [:]
    var masks: [Key: TokenMask] = [:]

    init(limit: Int) { self.limit = limit }

    mutating func charge(_ bytes: Int) {
      byteCount += bytes
      if byteCount > limit {
        entries = [:]
        masks = [:]
        byteCount = bytes
      }
    }
  }

  /// The number of cached sets of tokens.
  package var cachedSetCount: Int { cache.withLock { $0.entries.count + $0.masks.count } }

  /// Computes in advance the largest of the sets, that of the inside of a string, which all schemas share.
  package func prepareStrings() {
    let strings = JSONString.any
    if let boundary = strings.counting?.boundary { _ = tokens(after: boundary, of: strings) }
  }

  /// The tokens that a state of a DFA admits.
  func tokens(after state: Int32, of dfa: DFA) -> TerminalTokens {
    let key = Key(dfa: dfa.id, state: state)
    if let known = cache.withLock({ $0.entries[key] }) { return known }
    let made = trie.tokens(after: state, of: dfa, tokenCount: count)
    cache.withLock { cache in
      cache.charge(made.byteCount)
      cache.entries[key] = made
    }
    return made
  }

  /// The tokens of `tokens` that stay within a string of which at most `remaining` characters may follow.
  func openTokens(of tokens: TerminalTokens, after state: Int32, of dfa: DFA, remaining: Int32) -> TokenSet {
    if Int(remaining) >= tokens.open.count - 1 { return tokens.inside }
    let key = Key(dfa: dfa.id, state: state, remaining: remaining)
    if let known = cache.withLock({ $0.masks[key] }) { return .mask(known) }
    var mask = TokenMask(tokenCount: count)
    mask.formUnion(tokens.inside)
    for tokens in tokens.open[(Int(remaining) + 1)...] { for token in tokens { mask.remove(token) } }
    cache.withLock { cache in
      cache.charge(8 * mask.words.count + 64)
      cache.masks[key] = mask
    }
    return .mask(mask)
  }
}
