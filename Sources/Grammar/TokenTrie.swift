/// The tokens that a state of a DFA admits, whatever follows the terminal.
struct TerminalTokens: Sendable {
  /// The tokens that stay within the terminal; of a JSON string, without those that complete it.
  var inside: TokenSet
  /// The nodes of the trie at which the terminal is complete and longer tokens go on, with the number of characters before.
  var crossings: [(node: Int32, characters: Int32)]
  /// Of a JSON string, the tokens that complete it with their last byte, with the number of characters before.
  var closing: [(token: Int32, characters: Int32)]
  /// Of a JSON string, the tokens inside by the number of characters that they complete or begin.
  var open: [[Int32]]

  /// Bytes of memory.
  var byteCount: Int {
    open.reduce(200 + inside.byteCount + 8 * crossings.count + 8 * closing.count) { $0 + 32 + 4 * $1.count }
  }
}

/// A trie over the bytes of tokens, its nodes in the order of a depth-first walk.
struct TokenTrie: Sendable {
  /// The byte that leads to each node; the root comes first.
  private(set) var bytes: [UInt8] = [0]
  /// The number of bytes of each node.
  private(set) var depths: [Int32] = [0]
  /// The node after the last descendant of each node.
  private(set) var ends: [Int32] = []
  /// The position in `order` of the first token of each node, and the number of tokens.
  private var firstTokens: [Int32] = [0]
  /// The tokens in the order of their nodes.
  private var order: [Int32]
  private let longest: Int

  init(_ tokens: [[UInt8]?]) {
    // The first eight bytes decide most comparisons.
    let keyed = tokens.indices.compactMap { token -> (key: UInt64, token: Int32, bytes: [UInt8])? in
      guard let bytes = tokens[token], !bytes.isEmpty else { return nil }
      var key: UInt64 = 0
      for i in 0..<8 { key = key << 8 | (i < bytes.count ? UInt64(bytes[i]) : 0) }
      return (key, Int32(token), bytes)
    }
    let sorted = keyed.sorted { a, b in
      if a.key != b.key { return a.key < b.key }
      if a.bytes == b.bytes { return a.token < b.token }
      return a.bytes.lexicographicallyPrecedes(b.bytes)
    }
    order = sorted.map(\.token)
    // The nodes on the path to the latest token.
    var path: [Int] = [0]
    var previous: [UInt8] = []
    for (position, entry) in sorted.enumerated() {
      var common = 0
      while common < min(previous.count, entry.bytes.count), previous[common] == entry.bytes[common] { common += 1 }
      path.removeSubrange((common + 1)...)
      for depth in common..<entry.bytes.count {
        path.append(bytes.count)
        bytes.append(entry.bytes[depth])
        depths.append(Int32(depth + 1))
        firstTokens.append(Int32(position))
      }
      previous = entry.bytes
    }
    firstTokens.append(Int32(sorted.count))
    longest = Int(depths.max() ?? 0)
    // A node ends where the next one that is not deeper starts.
    ends = [Int32](repeating: Int32(bytes.count), count: bytes.count)
    var open: [Int] = []
    for node in bytes.indices {
      while let last = open.last, depths[last] >= depths[node] {
        ends[last] = Int32(node)
        open.removeLast()
      }
      open.append(node)
    }
  }

  /// The tokens that end at a node.
  @inline(__always)
  func tokens(at node: Int) -> ArraySlice<Int32> { order[Int(firstTokens[node])..<Int(firstTokens[node + 1])] }

  /// Calls `body` with every token that `text` starts with, and its end.
  func forEachPrefix(of text: ArraySlice<UInt8>, _ body: (_ token: Int32, _ end: Int) -> Void) {
    var node = 0
    for (i, byte) in zip(text.indices, text) {
      var child = node + 1
      let end = Int(ends[node])
      while child < end, bytes[child] != byte { child = Int(ends[child]) }
      guard child < end else { return }
      node = child
      if let token = tokens(at: node).first { body(token, i + 1) }
    }
  }

  /// The tokens that a state of a DFA admits.
  ///
  /// Cost: one step for each node that the state reaches.
  func tokens(after state: Int32, of dfa: DFA, tokenCount: Int) -> TerminalTokens {
    let (classes, table, classCount, isAccepting) = (dfa.classes, dfa.table, dfa.classCount, dfa.isAccepting)
    let boundary = dfa.counting?.boundary
    // By depth: the state, and the number of characters that are complete.
    var states = [Int32](repeating: DFA.dead, count: longest + 1)
    var characters = [Int32](repeating: 0, count: longest + 1)
    states[0] = state
    var inside: [Int32] = []
    var crossings: [(node: Int32, characters: Int32)] = []
    var closing: [(token: Int32, characters: Int32)] = []
    var open = [[Int32]](repeating: [], count: boundary == nil ? 0 : longest + 2)
    var node = 1
    while node < bytes.count {
      let depth = Int(depths[node])
      let previous = states[depth - 1]
      let next = table[Int(previous) * classCount + Int(classes[Int(bytes[node])])]
      guard next >= 0 else {
        node = Int(ends[node])
        continue
      }
      states[depth] = next
      let (first, end) = (Int(firstTokens[node]), Int(firstTokens[node + 1]))
      let isComplete = isAccepting[Int(next)]
      if let boundary {
        let completed = characters[depth - 1] + (next == boundary && previous != DFA.start ? 1 : 0)
        characters[depth] = completed
        let begun = Int(completed) + (next == boundary ? 0 : 1)
        for i in first..<end {
          if isComplete { closing.append((order[i], completed)) } else { open[begun].append(order[i]) }
        }
      } else {
        for i in first..<end { inside.append(order[i]) }
      }
      if isComplete, Int(ends[node]) > node + 1 { crossings.append((Int32(node), characters[depth])) }
      node += 1
    }
    guard boundary != nil else {
      return TerminalTokens(
        inside: TokenSet(inside, tokenCount: tokenCount), crossings: crossings, closing: [], open: [])
    }
    while open.last?.isEmpty == true { open.removeLast() }
    return TerminalTokens(
      inside: TokenSet(open.flatMap(\.self), tokenCount: tokenCount), crossings: crossings, closing: closing, open: open
    )
  }
}
