/// An object, an array or the whole answer that has been opened: a stack that states share.
final class Frame: Sendable, Hashable {
  /// The node after the object or array; -1 at the root.
  let returnNode: Int
  /// The number of items that the array has begun.
  let count: Int32
  let depth: Int
  let parent: Frame?
  /// The smallest number of bytes after the object or array.
  let completion: Int
  private let hash: Int

  static func root() -> Frame { Frame(returnNode: -1, count: 0, parent: nil, completion: 0) }

  private init(returnNode: Int, count: Int32, parent: Frame?, completion: Int) {
    self.returnNode = returnNode
    self.count = count
    self.parent = parent
    self.completion = completion
    depth = parent.map { $0.depth + 1 } ?? 0
    var hasher = Hasher()
    hasher.combine(returnNode)
    hasher.combine(count)
    hasher.combine(parent?.hash)
    hash = hasher.finalize()
  }

  /// The frame within an object or array in this one.
  func child(returningTo node: Int, in grammar: Grammar) -> Frame {
    Frame(
      returnNode: node, count: 0, parent: self,
      completion: grammar.nodes[node].cost(count: count) + completion)
  }

  /// The frame with another item, of which at most `limit` are counted.
  func counting(upTo limit: Int32?) -> Frame {
    guard let limit, count < limit else { return self }
    return Frame(returnNode: returnNode, count: count + 1, parent: parent, completion: completion)
  }

  static func == (a: Frame, b: Frame) -> Bool {
    var pair: (Frame?, Frame?) = (a, b)
    while let a = pair.0, let b = pair.1 {
      if a === b { return true }
      guard a.hash == b.hash, a.returnNode == b.returnNode, a.count == b.count else { return false }
      pair = (a.parent, b.parent)
    }
    return pair.0 == nil && pair.1 == nil
  }

  func hash(into hasher: inout Hasher) { hasher.combine(hash) }
}

/// A position within a terminal, and what surrounds it.
struct Head: Hashable {
  var edge: Int
  /// The state of the terminal's DFA.
  var state: Int32
  /// Of a counted terminal: the numbers of characters that must and may follow.
  var needed: Int32
  var remaining: Int32
  var frame: Frame
}

/// The heads of all readings of a text, and whether it is complete.
struct Configuration: Hashable {
  private(set) var heads: [Head] = []
  var canEnd = false
  /// The first `indexedCount` heads, if there are many.
  private var index: Set<Head> = []
  private var indexedCount = 0

  init(heads: [Head] = [], canEnd: Bool = false) {
    self.heads = heads
    self.canEnd = canEnd
  }

  var isDead: Bool { heads.isEmpty && !canEnd }

  /// Adds a head that is not in the configuration.
  mutating func append(new head: Head) { heads.append(head) }

  /// Adds a head unless it is in the configuration.
  mutating func append(_ head: Head) {
    // A search of few heads is faster than hashing.
    if heads.count <= 16 {
      if !heads.contains(head) { heads.append(head) }
      return
    }
    index.formUnion(heads[indexedCount...])
    indexedCount = heads.count
    guard index.insert(head).inserted else { return }
    heads.append(head)
    indexedCount += 1
  }

  mutating func formUnion(_ other: Configuration) {
    if heads.isEmpty {
      self = Configuration(heads: other.heads, canEnd: canEnd || other.canEnd)
    } else {
      canEnd = canEnd || other.canEnd
      for head in other.heads { append(head) }
    }
  }

  static func == (a: Self, b: Self) -> Bool { a.canEnd == b.canEnd && a.heads == b.heads }

  func hash(into hasher: inout Hasher) {
    hasher.combine(heads)
    hasher.combine(canEnd)
  }
}

extension Grammar {
  func terminal(of head: Head) -> Terminal {
    guard case .terminal(let number) = edges[head.edge].label else { preconditionFailure("a head without a terminal") }
    return terminals[number]
  }

  /// The configuration at the start.
  func initial() -> Configuration {
    var configuration = Configuration()
    expand(start, .root(), into: &configuration)
    return configuration
  }

  /// The configuration after the terminal of a head.
  func after(_ head: Head) -> Configuration {
    var configuration = Configuration()
    expand(edges[head.edge].target, head.frame, into: &configuration)
    return configuration
  }

  /// Adds the heads of a node.
  private func expand(_ node: Int, _ frame: Frame, into configuration: inout Configuration) {
    // Not recursive, because a schema may have thousands of optional properties.
    var open = [(node: node, frame: frame)]
    while var (node, frame) = open.popLast() {
      if nodes[node].isEnd {
        guard let parent = frame.parent else {
          configuration.canEnd = true
          continue
        }
        (node, frame) = (frame.returnNode, parent)
        if nodes[node].isEnd {
          open.append((node, frame))
          continue
        }
      }
      for number in nodes[node].edges {
        let edge = edges[number]
        guard edge.counts.contains(frame.count), frame.depth + edge.nesting <= GrammarLimits.nesting else { continue }
        switch edge.label {
        case .terminal(let terminal):
          let terminal = terminals[terminal]
          let inner = frame.counting(upTo: edge.countLimit)
          // The edges of a node differ, so the head is new.
          configuration.append(
            new: Head(
              edge: number, state: DFA.start, needed: terminal.minimum, remaining: terminal.maximum, frame: inner))
          if terminal.dfa.isAccepting[0] { open.append((edge.target, inner)) }
        case .container(let container):
          guard let info = containers[container] else { continue }
          let inner = frame.counting(upTo: edge.countLimit).child(returningTo: edge.target, in: self)
          open.append((info.start, inner))
        case .empty: open.append((edge.target, frame))
        }
      }
    }
  }

  /// The head after a byte of its terminal; nil if the byte is not in it.
  func step(_ head: Head, _ byte: UInt8) -> Head? {
    let terminal = terminal(of: head)
    let state = terminal.dfa.next(head.state, byte)
    guard state >= 0 else { return nil }
    var next = head
    next.state = state
    if terminal.isCounted, let boundary = terminal.dfa.counting?.boundary {
      if head.state == boundary {
        guard terminal.dfa.isAccepting[Int(state)] ? head.needed == 0 : head.remaining > 0 else { return nil }
      }
      if state == boundary, head.state != DFA.start {
        next.needed = max(0, head.needed - 1)
        if head.remaining < .max { next.remaining -= 1 }
      }
    }
    return next
  }

  /// Adds a head that has been stepped, unless its terminal ends, and what follows if it is complete.
  private func settle(_ head: Head, into configuration: inout Configuration) {
    let dfa = terminal(of: head).dfa
    if dfa.hasNext[Int(head.state)] { configuration.append(head) }
    if dfa.isAccepting[Int(head.state)] { configuration.formUnion(after(head)) }
  }

  /// The configuration after a byte.
  func step(_ configuration: Configuration, _ byte: UInt8) -> Configuration {
    var result = Configuration()
    for head in configuration.heads { if let next = step(head, byte) { settle(next, into: &result) } }
    return limited(result)
  }

  /// The configuration after the bytes of a token.
  ///
  /// The token is read from each head on its own, and separately after each place where its terminal is complete, as the
  /// masks are made: limiting the heads then has the same effect on both.
  func advance(_ configuration: Configuration, _ bytes: [UInt8]) -> Configuration {
    var result = Configuration()
    for start in configuration.heads {
      var head = start
      var isInside = true
      for (i, byte) in bytes.enumerated() {
        guard let next = step(head, byte) else {
          isInside = false
          break
        }
        head = next
        guard i + 1 < bytes.count, terminal(of: head).dfa.isAccepting[Int(head.state)] else { continue }
        var crossed = after(head)
        for byte in bytes[(i + 1)...] {
          if crossed.heads.isEmpty {
            crossed = Configuration()
            break
          }
          crossed = step(crossed, byte)
        }
        result.formUnion(crossed)
      }
      if isInside { settle(head, into: &result) }
    }
    return limited(result)
  }

  private func limited(_ configuration: Configuration) -> Configuration {
    guard configuration.heads.count > GrammarLimits.heads else { return configuration }
    // The sort is stable. The shortest completion of the answer is kept.
    let costs = configuration.heads.map(completion)
    let order = costs.indices.sorted { (costs[$0], $0) < (costs[$1], $1) }
    return Configuration(
      heads: order.prefix(GrammarLimits.heads).map { configuration.heads[$0] }, canEnd: configuration.canEnd)
  }

  // MARK: - Completion

  /// The smallest number of bytes after a head to the end of the answer.
  func completion(_ head: Head) -> Int {
    within(head) + nodes[edges[head.edge].target].cost(count: head.frame.count) + head.frame.completion
  }

  /// The smallest number of bytes to the end of the terminal.
  private func within(_ head: Head) -> Int {
    let terminal = terminal(of: head)
    let state = Int(head.state)
    guard terminal.isCounted, let counting = terminal.dfa.counting, counting.distances[state] >= 0 else {
      return Int(terminal.dfa.distances[state])
    }
    // A character that is begun counts.
    let isBegun = head.state != counting.boundary && head.state != DFA.start
    return Int(counting.distances[state]) + max(0, Int(head.needed) - (isBegun ? 1 : 0)) + 1
  }

  /// The shortest completion after a head.
  func shortestCompletion(_ head: Head) -> [UInt8] {
    var bytes: [UInt8] = []
    appendTerminal(head, to: &bytes)
    var (node, frame) = (edges[head.edge].target, head.frame)
    while true {
      if nodes[node].isEnd {
        guard let parent = frame.parent else { return bytes }
        (node, frame) = (frame.returnNode, parent)
        continue
      }
      guard let number = cheapestEdge(node, frame) else { preconditionFailure("a node without a way to the end") }
      let edge = edges[number]
      switch edge.label {
      case .empty: node = edge.target
      case .terminal(let terminal):
        frame = frame.counting(upTo: edge.countLimit)
        let terminal = terminals[terminal]
        appendTerminal(
          Head(edge: number, state: DFA.start, needed: terminal.minimum, remaining: terminal.maximum, frame: frame),
          to: &bytes)
        node = edge.target
      case .container(let container):
        frame = frame.counting(upTo: edge.countLimit).child(returningTo: edge.target, in: self)
        node = containers[container]?.start ?? node
      }
    }
  }

  private func cheapestEdge(_ node: Int, _ frame: Frame) -> Int? {
    var best: (edge: Int, cost: Int)?
    for number in nodes[node].edges {
      let edge = edges[number]
      guard edge.counts.contains(frame.count), frame.depth + edge.nesting <= GrammarLimits.nesting else { continue }
      let count = edge.countLimit.map { frame.count < $0 ? frame.count + 1 : frame.count } ?? frame.count
      var cost = nodes[edge.target].cost(count: count)
      switch edge.label {
      case .empty: break
      case .terminal(let terminal): cost += terminals[terminal].shortest
      case .container(let container): cost += containers[container]?.shortest ?? 0
      }
      if cost < best?.cost ?? .max { best = (number, cost) }
    }
    return best?.edge
  }

  private func appendTerminal(_ head: Head, to bytes: inout [UInt8]) {
    let terminal = terminal(of: head)
    let dfa = terminal.dfa
    guard terminal.isCounted, let counting = dfa.counting, counting.distances[Int(head.state)] >= 0 else {
      return dfa.appendPath(from: head.state, by: dfa.distances, to: &bytes)
    }
    dfa.appendPath(from: head.state, by: counting.distances, to: &bytes)
    let isBegun = head.state != counting.boundary && head.state != DFA.start
    bytes += [UInt8](repeating: UInt8(ascii: "a"), count: max(0, Int(head.needed) - (isBegun ? 1 : 0)))
    dfa.appendPath(from: counting.boundary, by: dfa.distances, to: &bytes)
  }
}
