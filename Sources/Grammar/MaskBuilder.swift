/// Collects the tokens that may follow a configuration.
///
/// Tokens that stay within a terminal depend on the state of its automaton alone, and are cached in the vocabulary. Tokens
/// that go on after its end are few, and are read from here by the whole grammar.
/// Source: Dong et al. 2024, XGrammar: Flexible and Efficient Structured Generation Engine for Large Language Models.
struct MaskBuilder {
  private let grammar: Grammar
  private let vocabulary: TokenVocabulary
  private(set) var mask: TokenMask
  /// The configurations that the walks have reached, and their transitions by byte.
  private var configurations: [Configuration] = []
  private var transitions: [[Int32]] = []
  private var numbers: [Configuration: Int32] = [:]

  private static let unknown: Int32 = -2
  private static let dead: Int32 = -1

  init(_ grammar: Grammar, _ vocabulary: TokenVocabulary) {
    self.grammar = grammar
    self.vocabulary = vocabulary
    mask = TokenMask(tokenCount: vocabulary.count)
  }

  /// Adds the tokens that may follow a head.
  mutating func insert(_ head: Head) {
    let terminal = grammar.terminal(of: head)
    let tokens = vocabulary.tokens(after: head.state, of: terminal.dfa)
    if terminal.isCounted {
      mask.formUnion(
        vocabulary.openTokens(of: tokens, after: head.state, of: terminal.dfa, remaining: head.remaining))
    } else {
      mask.formUnion(tokens.inside)
    }
    // A terminal that is not counted needs 0 and may have any number of characters.
    for (token, characters) in tokens.closing where characters >= head.needed && characters <= head.remaining {
      mask.insert(token)
    }
    if tokens.crossings.isEmpty { return }
    let after = grammar.after(head)
    if after.heads.isEmpty { return }
    let start = number(of: after)
    for (node, characters) in tokens.crossings {
      if characters < head.needed || characters > head.remaining { continue }
      insertDescendants(of: Int(node), start)
    }
  }

  /// Adds the tokens below a node of the trie that a configuration reads.
  private mutating func insertDescendants(of root: Int, _ start: Int32) {
    let trie = vocabulary.trie
    let base = Int(trie.depths[root])
    var path = [start]
    var node = root + 1
    let end = Int(trie.ends[root])
    while node < end {
      let depth = Int(trie.depths[node]) - base
      let next = step(path[depth - 1], trie.bytes[node])
      guard next >= 0 else {
        node = Int(trie.ends[node])
        continue
      }
      path.removeSubrange(depth...)
      path.append(next)
      for token in trie.tokens(at: node) { mask.insert(token) }
      node += 1
    }
  }

  private mutating func step(_ number: Int32, _ byte: UInt8) -> Int32 {
    let known = transitions[Int(number)][Int(byte)]
    if known != Self.unknown { return known }
    let next = grammar.step(configurations[Int(number)], byte)
    let result = next.isDead ? Self.dead : self.number(of: next)
    transitions[Int(number)][Int(byte)] = result
    return result
  }

  private mutating func number(of configuration: Configuration) -> Int32 {
    if let known = numbers[configuration] { return known }
    let number = Int32(configurations.count)
    configurations.append(configuration)
    transitions.append([Int32](repeating: Self.unknown, count: 256))
    numbers[configuration] = number
    return number
  }
}
