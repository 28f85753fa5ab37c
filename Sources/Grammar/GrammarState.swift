/// The state of one answer within a grammar; copies are cheap and independent.
package struct GrammarState: Sendable {
  package let grammar: Grammar
  package let vocabulary: TokenVocabulary
  private var configuration: Configuration

  /// The state before the first token.
  package init(_ grammar: Grammar, _ vocabulary: TokenVocabulary) {
    self.grammar = grammar
    self.vocabulary = vocabulary
    configuration = grammar.initial()
  }

  /// Whether the answer is complete, so that it may end here.
  package var canEnd: Bool { configuration.canEnd }

  /// Whether the answer is complete and no token can follow.
  package var mustEnd: Bool { configuration.canEnd && configuration.heads.isEmpty }

  /// Adds a token to the answer; if that would leave the grammar, returns false and changes nothing.
  package mutating func accept(_ token: Int) -> Bool {
    guard let bytes = vocabulary.bytes(of: token) else { return false }
    let next = grammar.advance(configuration, bytes)
    if next.isDead { return false }
    configuration = next
    return true
  }

  /// Whether a token may follow: as `mask` says, at the cost of one token.
  package func allows(_ token: Int) -> Bool {
    guard let bytes = vocabulary.bytes(of: token) else { return false }
    return !grammar.advance(configuration, bytes).isDead
  }

  /// The tokens that may follow. The token that ends the answer is not among them; `canEnd` is for that.
  package func mask() -> TokenMask {
    var builder = MaskBuilder(grammar, vocabulary)
    for head in configuration.heads { builder.insert(head) }
    return builder.mask
  }

  // MARK: - Completion

  /// The number of bytes of `shortestCompletion`.
  ///
  /// Cost: constant in the length of the answer.
  package var shortestCompletionLength: Int {
    configuration.canEnd ? 0 : configuration.heads.reduce(Int.max) { min($0, grammar.completion($1)) }
  }

  /// The fewest bytes that complete the answer; none if it can end.
  package func shortestCompletion() -> [UInt8] {
    if configuration.canEnd { return [] }
    let costs = configuration.heads.map { grammar.completion($0) }
    guard let best = costs.indices.min(by: { costs[$0] < costs[$1] }) else { return [] }
    return grammar.shortestCompletion(configuration.heads[best])
  }

  /// The fewest tokens with the bytes of `shortestCompletion`; nil if the vocabulary has none.
  ///
  /// Following them keeps the answer in the grammar and ends it.
  package func shortestCompletionTokens() -> [Int]? { vocabulary.tokens(of: shortestCompletion()) }
}
