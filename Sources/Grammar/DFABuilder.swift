/// Builds the DFA of an expression: Thompson's automaton, then sets of its states.
struct DFABuilder {
  private struct State {
    /// The set of bytes that lead to `next`; -1 if the transitions need no byte.
    var set: Int32 = -1
    var next: Int32 = -1
    var alternative: Int32 = -1
  }

  private var states: [State] = []
  private var sets: [ByteSet] = []
  private var setNumbers: [ByteSet: Int32] = [:]

  /// The DFA of the texts of `expression`; nil if there are none.
  static func build(
    _ expression: ByteExpression, countsCharacters: Bool = false, _ budget: inout GrammarBudget
  ) throws(GrammarError) -> DFA? {
    var builder = DFABuilder()
    let end = try builder.append(State(), &budget)
    let start = try builder.append(expression, before: end, &budget)
    return try builder.determinized(from: start, to: end, countsCharacters: countsCharacters, &budget)
  }

  private mutating func append(_ state: State, _ budget: inout GrammarBudget) throws(GrammarError) -> Int32 {
    try budget.chargeNFAState()
    states.append(state)
    return Int32(states.count - 1)
  }

  /// Appends states that read `expression` and end in `next`; returns the first of them.
  private mutating func append(
    _ expression: ByteExpression, before next: Int32, _ budget: inout GrammarBudget
  ) throws(GrammarError) -> Int32 {
    // Expressions of the empty text alone have no states, but repeating them takes time.
    try budget.charge(steps: 1)
    switch expression {
    case .bytes(let set):
      let number = setNumbers[set] ?? Int32(sets.count)
      if number == sets.count {
        sets.append(set)
        setNumbers[set] = number
      }
      return try append(State(set: number, next: next), &budget)
    case .sequence(let parts):
      var next = next
      for part in parts.reversed() { next = try append(part, before: next, &budget) }
      return next
    case .choice(let alternatives):
      var first: Int32 = -1
      for alternative in alternatives.reversed() {
        let start = try append(alternative, before: next, &budget)
        first = first < 0 ? start : try append(State(next: start, alternative: first), &budget)
      }
      // A state without transitions.
      return try first < 0 ? append(State(), &budget) : first
    case .repeated(let part, let minimum, let maximum):
      var next = next
      if let maximum {
        let end = next
        for _ in minimum..<max(minimum, maximum) {
          let start = try append(part, before: next, &budget)
          next = try append(State(next: start, alternative: end), &budget)
        }
      } else {
        let loop = try append(State(next: next), &budget)
        states[Int(loop)].alternative = try append(part, before: loop, &budget)
        next = loop
      }
      for _ in 0..<minimum { next = try append(part, before: next, &budget) }
      return next
    }
  }

  private mutating func determinized(
    from start: Int32, to end: Int32, countsCharacters: Bool, _ budget: inout GrammarBudget
  ) throws(GrammarError) -> DFA? {
    try budget.charge(steps: 256 * sets.count)
    let (classes, classCount) = byteClasses()
    let setClasses = sets.map { set in
      var isMember = [Bool](repeating: false, count: classCount)
      for byte in 0..<256 where set.contains(UInt8(byte)) { isMember[Int(classes[byte])] = true }
      return isMember.indices.filter { isMember[$0] }
    }
    var closure = Closure(stateCount: states.count)
    var members: [[Int32]] = []
    var numbers: [[Int32]: Int32] = [:]
    // Sets of targets before their closure, which classes of bytes share.
    var targetNumbers: [[Int32]: Int32] = [:]
    func number(of targets: [Int32], _ budget: inout GrammarBudget) throws(GrammarError) -> Int32 {
      if let known = targetNumbers[targets] { return known }
      let set = try closure.set(from: targets, states, end, &budget)
      let number = numbers[set] ?? Int32(members.count)
      if number == members.count {
        try budget.chargeDFAState(entries: classCount)
        numbers[set] = number
        members.append(set)
      }
      targetNumbers[targets] = number
      return number
    }
    _ = try number(of: [start], &budget)
    var table: [Int32] = []
    var targets = [[Int32]](repeating: [], count: classCount)
    var position = 0
    while position < members.count {
      for state in members[position] where states[Int(state)].set >= 0 {
        let classes = setClasses[Int(states[Int(state)].set)]
        try budget.charge(steps: classes.count)
        for c in classes { targets[c].append(states[Int(state)].next) }
      }
      position += 1
      try budget.charge(steps: classCount)
      for c in 0..<classCount {
        table.append(targets[c].isEmpty ? DFA.dead : try number(of: targets[c], &budget))
        targets[c].removeAll(keepingCapacity: true)
      }
    }
    var isAccepting = members.map { $0.contains(end) }
    // One state between all characters is needed; elsewhere a small automaton is not worth the time.
    if countsCharacters { Self.minimize(&table, &isAccepting, classCount) }
    return DFA(
      classes: classes, classCount: classCount, table: table, isAccepting: isAccepting,
      countsCharacters: countsCharacters)
  }

  /// The states that are reached without a byte.
  private struct Closure {
    private var marks: [Int32]
    private var mark: Int32 = 0

    init(stateCount: Int) { marks = [Int32](repeating: 0, count: stateCount) }

    /// The states that read a byte, and the end, in order.
    mutating func set(
      from targets: [Int32], _ states: [State], _ end: Int32, _ budget: inout GrammarBudget
    ) throws(GrammarError) -> [Int32] {
      mark += 1
      var result: [Int32] = []
      var stack = targets
      while let number = stack.popLast() {
        if marks[Int(number)] == mark { continue }
        marks[Int(number)] = mark
        try budget.charge(steps: 1)
        let state = states[Int(number)]
        if state.set >= 0 || number == end {
          result.append(number)
        } else {
          if state.next >= 0 { stack.append(state.next) }
          if state.alternative >= 0 { stack.append(state.alternative) }
        }
      }
      result.sort()
      return result
    }
  }

  /// The class of each byte: bytes that are in the same sets share one.
  private func byteClasses() -> (classes: [UInt8], count: Int) {
    var classes = [Int](repeating: 0, count: 256)
    var count = 1
    for set in sets {
      // Whether the first byte of each class is a member, and the class of the bytes that differ from it.
      var first = [Bool?](repeating: nil, count: 256)
      var split = [Int?](repeating: nil, count: 256)
      for byte in 0..<256 {
        let isMember = set.contains(UInt8(byte))
        let old = classes[byte]
        guard let expected = first[old] else {
          first[old] = isMember
          continue
        }
        if isMember == expected { continue }
        let new = split[old] ?? count
        if new == count {
          split[old] = new
          first[new] = isMember
          count += 1
        }
        classes[byte] = new
      }
    }
    return (classes.map { UInt8($0) }, count)
  }

  /// Merges equivalent states by Moore's refinement.
  private static func minimize(_ table: inout [Int32], _ isAccepting: inout [Bool], _ classCount: Int) {
    let stateCount = isAccepting.count
    var groups = isAccepting.map { $0 ? Int32(1) : 0 }
    var groupCount = 0
    while true {
      var numbers: [[Int32]: Int32] = [:]
      var refined: [Int32] = []
      for state in 0..<stateCount {
        let row = table[state * classCount..<(state + 1) * classCount]
        let key = [groups[state]] + row.map { $0 < 0 ? -1 : groups[Int($0)] }
        let number = numbers[key] ?? Int32(numbers.count)
        numbers[key] = number
        refined.append(number)
      }
      groups = refined
      if numbers.count == groupCount { break }
      groupCount = numbers.count
    }
    if groupCount == stateCount { return }
    // The first state of each group stands for it; the start is in the first group.
    var merged: [Int32] = []
    var accepting: [Bool] = []
    for state in 0..<stateCount where groups[state] == accepting.count {
      merged += table[state * classCount..<(state + 1) * classCount].map { $0 < 0 ? $0 : groups[Int($0)] }
      accepting.append(isAccepting[state])
    }
    (table, isAccepting) = (merged, accepting)
  }
}
