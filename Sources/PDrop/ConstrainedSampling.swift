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
    for token in logits.indices where !mask.contains(token) {
      if state.canEnd, eosTokens.contains(token) { continue }
      logits[token] = -.infinity
    }
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
