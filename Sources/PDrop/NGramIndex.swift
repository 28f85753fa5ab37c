/// An index of token sequences by the tokens before each position: what followed the last occurrence of an n-gram.
///
/// Source: Saxena 2023, Prompt Lookup Decoding; the n-gram speculation of vLLM.
package struct NGramIndex {
  /// The lengths of n-grams, longest first.
  package static let lengths = [4, 3, 2]
  /// Number of tokens after which an index starts over.
  static let capacity = 1 << 20

  /// The end of a sequence.
  private static let separator = -1
  private var tokens: [Int] = []
  /// The position after the last occurrence of each n-gram that a token follows.
  private var positions: [NGram: Int] = [:]

  /// Two to four tokens of 21 bits each: vocabularies have fewer than two million.
  private struct NGram: Hashable {
    let value: UInt64
    let count: Int

    init(_ tokens: ArraySlice<Int>) {
      (value, count) = (tokens.reduce(0) { $0 &* 0x1F_FFFF &+ UInt64(truncatingIfNeeded: $1) }, tokens.count)
    }
  }

  package init() {}

  /// Appends a token to the sequence at the end.
  package mutating func append(_ token: Int) {
    // The n-grams before the token, which now have a continuation.
    for count in Self.lengths where count <= tokens.count {
      let gram = tokens.suffix(count)
      if !gram.contains(Self.separator) { positions[NGram(gram)] = tokens.count }
    }
    tokens.append(token)
  }

  /// Adds a sequence of its own.
  package mutating func add(_ sequence: [Int]) {
    if tokens.count + sequence.count > Self.capacity { self = NGramIndex() }
    tokens.append(Self.separator)
    for token in sequence { append(token) }
  }

  /// The tokens that followed the last occurrence of the longest n-gram at the end of a text.
  ///
  /// - Parameter limit: Maximum number of tokens.
  /// - Returns: The tokens and the length of the n-gram; `nil` if none has occurred.
  package func continuation(of text: ArraySlice<Int>, limit: Int) -> (tokens: ArraySlice<Int>, length: Int)? {
    for count in Self.lengths where count <= text.count {
      let gram = text.suffix(count)
      // Different n-grams may have the same value.
      guard let position = positions[NGram(gram)], tokens[position - count..<position].elementsEqual(gram) else {
        continue
      }
      let following = tokens[position...].prefix(limit).prefix { $0 != Self.separator }
      return following.isEmpty ? nil : (following, count)
    }
    return nil
  }
}
