/// A set of tokens, one bit each.
package struct TokenMask: Sendable, Equatable {
  /// 64 tokens each, the lowest in the lowest bit.
  package private(set) var words: [UInt64]

  init(tokenCount: Int) { words = [UInt64](repeating: 0, count: (tokenCount + 63) / 64) }

  @inlinable
  package func contains(_ token: Int) -> Bool {
    token >> 6 < words.count && words[token >> 6] >> UInt64(token & 63) & 1 != 0
  }

  package var count: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }
  package var isEmpty: Bool { words.allSatisfy { $0 == 0 } }

  /// The tokens in order.
  package var tokens: [Int] {
    var tokens: [Int] = []
    for (i, word) in words.enumerated() {
      var rest = word
      while rest != 0 {
        tokens.append(64 * i + rest.trailingZeroBitCount)
        rest &= rest - 1
      }
    }
    return tokens
  }

  mutating func insert(_ token: Int32) { words[Int(token) >> 6] |= 1 << UInt64(token & 63) }

  mutating func remove(_ token: Int32) { words[Int(token) >> 6] &= ~(1 << UInt64(token & 63)) }

  mutating func formUnion(_ other: TokenSet) {
    switch other {
    case .list(let tokens): for token in tokens { insert(token) }
    case .mask(let mask): for i in words.indices { words[i] |= mask.words[i] }
    }
  }
}

/// A set of tokens as a list if they are few.
enum TokenSet: Sendable {
  case list([Int32])
  case mask(TokenMask)

  init(_ tokens: [Int32], tokenCount: Int) {
    if tokens.count < tokenCount / 128 {
      self = .list(tokens)
    } else {
      var mask = TokenMask(tokenCount: tokenCount)
      for token in tokens { mask.insert(token) }
      self = .mask(mask)
    }
  }

  /// Bytes of memory.
  var byteCount: Int {
    switch self {
    case .list(let tokens): 4 * tokens.count
    case .mask(let mask): 8 * mask.words.count
    }
  }
}
