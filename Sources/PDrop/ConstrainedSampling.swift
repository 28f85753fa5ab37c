import Grammar

/// The choice of tokens within a constraint, so that an answer is complete before its maximum number of tokens.
struct ConstrainedSampling: Sendable {
  private var state: GrammarState
  private let eosTokens: Set<Int>
  /// The rest of an answer that must be completed in the shortest way.
  private var completion: ArraySlice<Int> = []
  /// Whether a token was refused because the answer could not have been completed after it.
  private(set) var isShortened = false
  /// Number of tokens that are refused in a step before the answer is completed in the shortest way.
  private static let attempts = 64

  /// - Parameter eosTokens: The tokens that may end a complete answer; empty if none ends it.
  init(_ state: GrammarState, eosTokens: Set<Int>) {
    self.state = state
    self.eosTokens = eosTokens
  }

  /// Whether the answer is complete and no token can follow.
  var mustEnd: Bool { state.mustEnd }

  /// The next token; `nil` if no logit is a number.
  ///
  /// - Parameters:
  ///   - logits: `[N]`; set to minus infinity for tokens that are not allowed.
  ///   - remaining: Maximum number of tokens that may still be generated, this one included.
  mutating func choose(_ logits: inout [Float], remaining: Int, _ sampler: inout Sampler) -> Int? {
    // Tokens that are masked have a number, so this cannot be seen afterwards.
    guard logits.contains(where: { !$0.isNaN }) else { return nil }
    if let next = completion.popFirst() { return next }
    apply(state.mask(), to: &logits)
    for _ in 0..<Self.attempts {
      guard let token = sampler(logits) else { return nil }
      // All allowed tokens have been refused, or have no number.
      guard logits[token] > -.infinity else { break }
      if eosTokens.contains(token) || canComplete(after: token, remaining: remaining - 1) { return token }
      logits[token] = -.infinity
      isShortened = true
    }
    isShortened = true
    completion = (state.shortestCompletionTokens() ?? [])[...]
    return completion.popFirst()
  }

  private func apply(_ mask: TokenMask, to logits: inout [Float]) {
    let ends = state.canEnd ? eosTokens.filter(logits.indices.contains).map { ($0, logits[$0]) } : []
    // The model may have fewer logits than the tokenizer has tokens, or more.
    let words = mask.words.prefix((logits.count + 63) / 64)
    for (index, word) in words.enumerated() where word != .max {
      for token in index * 64..<min(index * 64 + 64, logits.count) where word >> UInt64(token & 63) & 1 == 0 {
        logits[token] = -.infinity
      }
    }
    for token in min(words.count * 64, logits.count)..<logits.count { logits[token] = -.infinity }
    for (token, logit) in ends { logits[token] = logit }
  }

  private func canComplete(after token: Int, remaining: Int) -> Bool {
    var next = state
    guard next.accept(token) else { return false }
    // A token has at least one byte.
    if next.shortestCompletionLength <= remaining { return true }
    return (next.shortestCompletionTokens()?.count).map { $0 <= remaining } ?? false
  }

  /// Adds a chosen token to the answer.
  mutating func append(_ token: Int) {
    let isAllowed = state.accept(token)
    precondition(isAllowed, "token \(token) is outside the grammar")
  }
}
