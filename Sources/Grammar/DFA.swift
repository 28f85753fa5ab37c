import Synchronization

/// A deterministic automaton over bytes: every state can reach an accepting one.
final class DFA: Sendable {
  /// The absent target of a transition.
  static let dead: Int32 = -1
  static let start: Int32 = 0

  /// A number that no other DFA of the process has; masks are cached by it.
  let id: Int
  /// The class of each byte; the bytes of a class have equal transitions.
  let classes: [UInt8]
  let classCount: Int
  /// The byte of each class that completions are written with.
  let representatives: [UInt8]
  /// The target of each transition, by state and class.
  let table: [Int32]
  let isAccepting: [Bool]
  /// Whether each state has a transition.
  let hasNext: [Bool]
  /// The smallest number of bytes from each state to an accepting one.
  let distances: [Int32]
  /// For texts that are counted in characters; nil if they are not.
  let counting: Counting?

  /// The state between the characters of a JSON string, and the smallest number of bytes from each state to it.
  struct Counting {
    let boundary: Int32
    let distances: [Int32]
  }

  private static let ids = Atomic(0)

  var stateCount: Int { isAccepting.count }

  /// The approximate memory, in bytes.
  var byteCount: Int { 4 * table.count + 10 * stateCount + 1024 }

  @inline(__always)
  func next(_ state: Int32, _ byte: UInt8) -> Int32 { table[Int(state) * classCount + Int(classes[Int(byte)])] }

  /// The smallest number of bytes of an accepted text.
  var shortest: Int { Int(distances[0]) }

  /// Removes the states from which no accepting one can be reached; nil if the start is one of them.
  ///
  /// - Parameter countsCharacters: Whether the texts are JSON strings, with one state between all characters.
  init?(classes: [UInt8], classCount: Int, table: [Int32], isAccepting: [Bool], countsCharacters: Bool = false) {
    let distances = Self.distances(to: isAccepting.indices.filter { isAccepting[$0] }, table, classCount)
    guard distances[0] >= 0 else { return nil }
    self.id = Self.ids.add(1, ordering: .relaxed).newValue
    self.classes = classes
    self.classCount = classCount
    self.isAccepting = isAccepting
    self.distances = distances
    let pruned = table.map { $0 >= 0 && distances[Int($0)] >= 0 ? $0 : Self.dead }
    self.table = pruned
    hasNext = isAccepting.indices.map { state in
      pruned[state * classCount..<(state + 1) * classCount].contains { $0 >= 0 }
    }
    var representatives = [UInt8?](repeating: nil, count: classCount)
    let preferred = [UInt8(ascii: "a"), UInt8(ascii: "0"), UInt8(ascii: "A")]
    for byte in preferred + Array(UInt8(ascii: "!")...0xFF) + Array(0...UInt8(ascii: " "))
    where representatives[Int(classes[Int(byte)])] == nil {
      representatives[Int(classes[Int(byte)])] = byte
    }
    self.representatives = representatives.map { $0 ?? 0 }
    if countsCharacters {
      let boundary = pruned[Int(classes[Int(UInt8(ascii: "\""))])]
      counting = Counting(boundary: boundary, distances: Self.distances(to: [Int(boundary)], pruned, classCount))
    } else {
      counting = nil
    }
  }

  /// The smallest number of bytes from each state to one of `targets`; -1 if there is none.
  private static func distances(to targets: [Int], _ table: [Int32], _ classCount: Int) -> [Int32] {
    let stateCount = table.count / classCount
    // The sources of the transitions into each state, one after another.
    var starts = [Int32](repeating: 0, count: stateCount + 1)
    for target in table where target >= 0 { starts[Int(target) + 1] += 1 }
    for state in 0..<stateCount { starts[state + 1] += starts[state] }
    var sources = [Int32](repeating: 0, count: Int(starts[stateCount]))
    var ends = starts
    for (i, target) in table.enumerated() where target >= 0 {
      sources[Int(ends[Int(target)])] = Int32(i / classCount)
      ends[Int(target)] += 1
    }
    var distances = [Int32](repeating: -1, count: stateCount)
    for target in targets { distances[target] = 0 }
    var queue = targets
    var position = 0
    while position < queue.count {
      let state = queue[position]
      position += 1
      for i in starts[state]..<starts[state + 1] {
        let source = Int(sources[Int(i)])
        if distances[source] < 0 {
          distances[source] = distances[state] + 1
          queue.append(source)
        }
      }
    }
    return distances
  }

  /// Appends the shortest bytes from `state` to where `distances` is 0.
  func appendPath(from state: Int32, by distances: [Int32], to bytes: inout [UInt8]) {
    var state = state
    while distances[Int(state)] > 0 {
      let row = Int(state) * classCount
      for c in 0..<classCount {
        let target = table[row + c]
        if target >= 0, distances[Int(target)] == distances[Int(state)] - 1 {
          bytes.append(representatives[c])
          state = target
          break
        }
      }
    }
  }

  func accepts(_ bytes: some Sequence<UInt8>) -> Bool {
    var state = Self.start
    for byte in bytes {
      state = next(state, byte)
      if state < 0 { return false }
    }
    return isAccepting[Int(state)]
  }
}

extension DFA {
  /// The texts that both automata accept; nil if there are none.
  static func intersection(_ a: DFA, _ b: DFA, _ budget: inout GrammarBudget) throws(GrammarError) -> DFA? {
    try product(a, b, &budget) { _, _, _ in 0 }
  }

  /// The texts of `strings`, a DFA of JSON strings, that have at least `minimum` and at most `maximum` characters; nil if
  /// there are none.
  static func limiting(
    _ strings: DFA, minimum: Int, maximum: Int?, _ budget: inout GrammarBudget
  ) throws(GrammarError) -> DFA? {
    let plain = JSONString.any
    guard let boundary = plain.counting?.boundary else { return nil }
    return try product(strings, plain, &budget) { count, source, target in
      if target == boundary, source != DFA.start {
        if let maximum, count == maximum { return nil }
        return maximum == nil ? min(count + 1, minimum) : count + 1
      }
      return plain.isAccepting[Int(target)] && count < minimum ? nil : count
    }
  }

  /// The product of two automata and a number, which starts at 0 and which the transitions of `b` change or forbid.
  private static func product(
    _ a: DFA, _ b: DFA, _ budget: inout GrammarBudget, count next: (Int, Int32, Int32) -> Int?
  ) throws(GrammarError) -> DFA? {
    struct State: Hashable {
      var a: Int32
      var b: Int32
      var count: Int
    }
    // The classes of the product.
    var pairs: [Int: UInt8] = [:]
    var members: [(a: Int, b: Int)] = []
    var classes = [UInt8](repeating: 0, count: 256)
    for byte in 0..<256 {
      let pair = Int(a.classes[byte]) << 8 | Int(b.classes[byte])
      if let known = pairs[pair] {
        classes[byte] = known
      } else {
        classes[byte] = UInt8(members.count)
        pairs[pair] = classes[byte]
        members.append((Int(a.classes[byte]), Int(b.classes[byte])))
      }
    }
    var states = [State(a: start, b: start, count: 0)]
    var numbers = [states[0]: Int32(0)]
    var table: [Int32] = []
    var position = 0
    while position < states.count {
      let state = states[position]
      position += 1
      try budget.chargeDFAState(entries: members.count)
      try budget.charge(steps: members.count)
      for pair in members {
        let target = (
          a: a.table[Int(state.a) * a.classCount + pair.a], b: b.table[Int(state.b) * b.classCount + pair.b]
        )
        guard target.a >= 0, target.b >= 0, let count = next(state.count, state.b, target.b) else {
          table.append(dead)
          continue
        }
        let found = State(a: target.a, b: target.b, count: count)
        let number = numbers[found] ?? Int32(states.count)
        if number == states.count {
          numbers[found] = number
          states.append(found)
        }
        table.append(number)
      }
    }
    return DFA(
      classes: classes, classCount: members.count, table: table,
      isAccepting: states.map { a.isAccepting[Int($0.a)] && b.isAccepting[Int($0.b)] })
  }

  /// The texts with a space before them, and those that do not start with a space.
  ///
  /// A detokenizer that removes one leading space restores the texts from both.
  func allowingLeadingSpace() -> DFA? {
    var classes = classes
    let space = Int(UInt8(ascii: " "))
    // The space needs a class of its own.
    let isShared = classes.indices.contains { $0 != space && classes[$0] == classes[space] }
    let old = Int(classes[space])
    let count = classCount + (isShared ? 1 : 0)
    if isShared { classes[space] = UInt8(classCount) }
    func row(_ state: Int) -> [Int32] {
      let row = Array(table[state * classCount..<(state + 1) * classCount])
      return (isShared ? row + [row[old]] : row).map { $0 < 0 ? $0 : $0 + 1 }
    }
    var first = row(0)
    first[Int(classes[space])] = 1
    return DFA(
      classes: classes, classCount: count, table: first + (0..<stateCount).flatMap(row),
      isAccepting: [isAccepting[0]] + isAccepting)
  }
}
