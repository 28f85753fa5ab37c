import Storage

/// Connects the terminals of a grammar.
///
/// Every way that a node offers can be completed: values without a finite text, and members that would nest too deeply, are
/// left out.
struct GrammarBuilder {
  private(set) var nodes: [Grammar.Node] = []
  private(set) var edges: [Grammar.Edge] = []
  private(set) var terminals: [Terminal]
  /// The objects and arrays; nil if they have no text.
  private(set) var infos: [Grammar.ContainerInfo?]
  private(set) var start = 0

  private typealias Cost = ContainerCosts.Cost

  /// The grammar of one terminal, with whitespace of its own.
  static func build(_ dfa: DFA, leadingSpace: Bool) throws(GrammarError) -> GrammarBuilder {
    var builder = GrammarBuilder(terminals: [Terminal(dfa: leadingSpace ? dfa.allowingLeadingSpace() ?? dfa : dfa)])
    try builder.appendRoot([.terminal(0)], space: nil)
    return builder
  }

  /// The grammar of a JSON value.
  static func build(
    _ reader: SchemaReader, _ values: [Value], leadingSpace: Bool
  ) throws(GrammarError) -> GrammarBuilder {
    var terminals = reader.terminals
    // Keys are terminals too.
    var keys: [[Int]] = []
    for container in reader.containers {
      var numbers: [Int] = []
      if case .object(let properties) = container {
        for property in properties { numbers.append(try terminals.number(ofKey: property.key)) }
      }
      keys.append(numbers)
    }
    var builder = GrammarBuilder(terminals: terminals.terminals)
    builder.infos = ContainerCosts.infos(of: reader.containers, builder.terminals)
    let punctuation = builder.appendPunctuation()
    for (i, container) in reader.containers.enumerated() where builder.infos[i] != nil {
      let start =
        switch container {
        case .object(let properties): try builder.appendObject(properties, keys: keys[i], punctuation)
        case .map(let values): try builder.appendMap(values, punctuation)
        case .array(let values, let minimum, let maximum):
          try builder.appendArray(values, minimum, maximum, punctuation)
        }
      builder.infos[i]?.start = start
    }
    try builder.appendRoot(values, space: leadingSpace ? punctuation.space : nil)
    return builder
  }

  private init(terminals: [Terminal]) {
    self.terminals = terminals
    infos = []
  }

  /// The numbers of the terminals between values.
  private struct Punctuation {
    var openObject, closeObject, endObject, openArray, closeArray, endArray, comma, colon, string, space: Int
  }

  private mutating func appendPunctuation() -> Punctuation {
    func append(_ dfa: DFA) -> Int {
      terminals.append(Terminal(dfa: dfa))
      return terminals.count - 1
    }
    return Punctuation(
      openObject: append(JSONString.openObject), closeObject: append(JSONString.closeObject),
      endObject: append(JSONString.endObject), openArray: append(JSONString.openArray),
      closeArray: append(JSONString.closeArray), endArray: append(JSONString.endArray),
      comma: append(JSONString.comma), colon: append(JSONString.colon), string: append(JSONString.any),
      space: append(JSONString.space))
  }

  // MARK: - Nodes

  /// Appends a node with the edges since `first`.
  private mutating func appendNode(
    since first: Int, _ cost: Cost, itemCount: Int = 0, itemCost: Int = 0
  ) throws(GrammarError) -> Int {
    guard edges.count <= GrammarLimits.edges else { throw .limit("the schema has too many alternatives") }
    nodes.append(
      .init(
        edges: first..<edges.count, isEnd: first == edges.count, cost: cost.bytes, itemCount: itemCount,
        itemCost: itemCost, nesting: cost.nesting))
    return nodes.count - 1
  }

  /// Appends an edge that reads a terminal and returns its cost with what follows; `cost` is the cost of `target`.
  private mutating func appendEdge(
    _ terminal: Int, to target: Int, _ cost: Cost, counts: ClosedRange<Int32> = 0...Int32.max
  ) -> Cost {
    edges.append(.init(label: .terminal(terminal), target: target, counts: counts, nesting: cost.nesting))
    return Cost(bytes: terminals[terminal].shortest + cost.bytes, nesting: cost.nesting)
  }

  /// Appends edges for all values and returns the smallest cost with what follows; nil if there are none.
  private mutating func appendEdges(
    _ values: [Value], to target: Int, _ cost: Cost, countLimit: Int32? = nil
  ) -> Cost? {
    var least: Cost?
    for value in values {
      guard let valueCost = ContainerCosts.cost(of: value, terminals, infos) else { continue }
      let total = Cost(bytes: valueCost.bytes + cost.bytes, nesting: max(valueCost.nesting, cost.nesting))
      let label: Grammar.Edge.Label =
        switch value {
        case .terminal(let number): .terminal(number)
        case .container(let number): .container(number)
        }
      edges.append(.init(label: label, target: target, nesting: total.nesting, countLimit: countLimit))
      least = min(least ?? total, total)
    }
    return least
  }

  private mutating func appendRoot(_ values: [Value], space: Int?) throws(GrammarError) {
    let end = try appendNode(since: edges.count, .zero)
    var first = edges.count
    guard let cost = appendEdges(values, to: end, .zero), cost.bytes <= GrammarLimits.shortestAnswer else {
      throw .limit(
        "every answer is infinite, has more than \(GrammarLimits.shortestAnswer) bytes, or nests deeper than "
          + "\(GrammarLimits.nesting) levels")
    }
    start = try appendNode(since: first, cost)
    guard let space else { return }
    first = edges.count
    edges.append(.init(label: .empty, target: start, nesting: cost.nesting))
    _ = appendEdge(space, to: start, cost)
    start = try appendNode(since: first, cost)
  }

  private mutating func appendObject(
    _ properties: [Container.Property], keys: [Int], _ punctuation: Punctuation
  ) throws(GrammarError) -> Int {
    let end = try appendNode(since: edges.count, .zero)
    var first = edges.count
    var cost = appendEdge(punctuation.endObject, to: end, .zero)
    // The nodes where the next property may be the first, and where it may follow a comma or another value.
    var opened = (node: try appendNode(since: first, cost), cost: cost)
    first = edges.count
    cost = appendEdge(punctuation.closeObject, to: end, .zero)
    var after = (node: try appendNode(since: first, cost), cost: cost)
    var comma: (node: Int, cost: Cost)?
    var isOptional = true
    for (property, key) in zip(properties, keys).reversed() {
      first = edges.count
      // An optional property without a finite value is left out.
      guard let valueCost = appendEdges(property.values, to: after.node, after.cost) else { continue }
      let value = try appendNode(since: first, valueCost)
      first = edges.count
      let colonCost = appendEdge(punctuation.colon, to: value, valueCost)
      let colon = try appendNode(since: first, colonCost)

      func appendStart(_ next: (node: Int, cost: Cost)?) throws(GrammarError) -> (node: Int, cost: Cost) {
        first = edges.count
        var cost = appendEdge(key, to: colon, colonCost)
        if let next, !property.isRequired {
          edges.append(.init(label: .empty, target: next.node, nesting: next.cost.nesting))
          cost = min(cost, next.cost)
        }
        return (try appendNode(since: first, cost), cost)
      }
      opened = try appendStart(opened)
      let following = try appendStart(comma)
      comma = following
      isOptional = isOptional && !property.isRequired
      first = edges.count
      cost = appendEdge(punctuation.comma, to: following.node, following.cost)
      if isOptional { cost = min(cost, appendEdge(punctuation.closeObject, to: end, .zero)) }
      after = (try appendNode(since: first, cost), cost)
    }
    first = edges.count
    cost = appendEdge(punctuation.openObject, to: opened.node, opened.cost)
    return try appendNode(since: first, cost)
  }

  private mutating func appendMap(_ values: [Value], _ punctuation: Punctuation) throws(GrammarError) -> Int {
    let end = try appendNode(since: edges.count, .zero)
    let closed = Cost(bytes: 1, nesting: 0)
    // The node after a value comes last, but values lead to it.
    let after = nodes.count
    nodes.append(.init(edges: 0..<0, isEnd: false, cost: 1, itemCount: 0, itemCost: 0, nesting: 0))
    var first = edges.count
    var members: (key: Int, colon: Int, cost: Cost)?
    if let valueCost = appendEdges(values, to: after, closed) {
      let value = try appendNode(since: first, valueCost)
      first = edges.count
      let colonCost = appendEdge(punctuation.colon, to: value, valueCost)
      let colon = try appendNode(since: first, colonCost)
      first = edges.count
      let keyCost = appendEdge(punctuation.string, to: colon, colonCost)
      let key = try appendNode(since: first, keyCost)
      members = (key, colon, colonCost)
      first = edges.count
      _ = appendEdge(punctuation.comma, to: key, keyCost)
      _ = appendEdge(punctuation.closeObject, to: end, .zero)
      nodes[after].edges = first..<edges.count
    }
    first = edges.count
    if let members { _ = appendEdge(punctuation.string, to: members.colon, members.cost) }
    _ = appendEdge(punctuation.endObject, to: end, .zero)
    let start = try appendNode(since: first, closed)
    first = edges.count
    let cost = appendEdge(punctuation.openObject, to: start, closed)
    return try appendNode(since: first, cost)
  }

  private mutating func appendArray(
    _ values: [Value], _ minimum: Int, _ maximum: Int?, _ punctuation: Punctuation
  ) throws(GrammarError) -> Int {
    let end = try appendNode(since: edges.count, .zero)
    let closed = Cost(bytes: 1, nesting: 0)
    let least = Int32(minimum)
    let most = Int32(clamping: maximum ?? .max)
    // Without a maximum, items beyond the minimum are not counted, so that states recur.
    let countLimit = maximum == nil ? least : most
    let after = nodes.count
    nodes.append(.init(edges: 0..<0, isEnd: false, cost: 1, itemCount: 0, itemCost: 0, nesting: 0))
    var first = edges.count
    let itemCost = most == 0 ? nil : appendEdges(values, to: after, closed, countLimit: countLimit)
    var cost = closed
    if let itemCost {
      // The bytes of an item with the bracket after it, which are as many as with a comma.
      let itemBytes = itemCost.bytes
      let item = try appendNode(since: first, itemCost, itemCount: minimum - 1, itemCost: itemBytes)
      let itemEdges = first..<edges.count
      first = edges.count
      _ = appendEdge(punctuation.comma, to: item, itemCost, counts: 0...(maximum == nil ? Int32.max : most - 1))
      _ = appendEdge(punctuation.closeArray, to: end, .zero, counts: least...Int32.max)
      nodes[after] = .init(
        edges: first..<edges.count, isEnd: false, cost: 1, itemCount: minimum, itemCost: itemBytes, nesting: 0)
      first = edges.count
      edges += edges[itemEdges]
      if minimum > 0 { cost = Cost(bytes: minimum * itemBytes, nesting: itemCost.nesting) }
    }
    if minimum == 0 { _ = appendEdge(punctuation.endArray, to: end, .zero) }
    let start = try appendNode(since: first, cost)
    first = edges.count
    cost = appendEdge(punctuation.openArray, to: start, cost)
    return try appendNode(since: first, cost)
  }
}

/// The smallest costs of objects and arrays that may contain each other.
struct ContainerCosts {
  struct Cost: Comparable {
    var bytes: Int
    var nesting: Int

    static let zero = Cost(bytes: 0, nesting: 0)

    static func < (a: Self, b: Self) -> Bool { (a.bytes, a.nesting) < (b.bytes, b.nesting) }
  }

  /// A required value of an object or array.
  private struct Slot {
    var container: Int
    var count: Int
    var least: Cost?
  }

  static func cost(of value: Value, _ terminals: [Terminal], _ infos: [Grammar.ContainerInfo?]) -> Cost? {
    switch value {
    case .terminal(let number): Cost(bytes: terminals[number].shortest, nesting: 0)
    case .container(let number): infos[number].map { Cost(bytes: $0.shortest, nesting: $0.nesting) }
    }
  }

  /// The costs of all objects and arrays; nil for those without a finite text, or with a shortest text above the limits.
  ///
  /// Source: Knuth 1977, A Generalization of Dijkstra's Algorithm.
  static func infos(of containers: [Container], _ terminals: [Terminal]) -> [Grammar.ContainerInfo?] {
    var infos = [Grammar.ContainerInfo?](repeating: nil, count: containers.count)
    var slots: [Slot] = []
    var fixed = [Int](repeating: 2, count: containers.count)
    var own = [[Int]](repeating: [], count: containers.count)
    // The slots that each container may fill.
    var uses = [[Int]](repeating: [], count: containers.count)
    for (i, container) in containers.enumerated() {
      var required: [(values: [Value], count: Int)] = []
      switch container {
      case .object(let properties):
        for property in properties where property.isRequired {
          required.append((property.values, 1))
          // The key, the colon, and the comma.
          fixed[i] += JSONValue.quoted(property.key).utf8.count + 2
        }
        if !required.isEmpty { fixed[i] -= 1 }
      case .map: break
      case .array(let values, let minimum, _):
        if minimum > 0 {
          required.append((values, minimum))
          fixed[i] += minimum - 1
        }
      }
      for (values, count) in required {
        var slot = Slot(container: i, count: count)
        for value in values {
          switch value {
          case .terminal:
            if let cost = cost(of: value, terminals, infos) { slot.least = min(slot.least ?? cost, cost) }
          case .container(let number): uses[number].append(slots.count)
          }
        }
        own[i].append(slots.count)
        slots.append(slot)
      }
    }
    var queue = CostQueue()
    func push(_ container: Int) {
      var total = Cost(bytes: fixed[container], nesting: 0)
      for number in own[container] {
        guard let least = slots[number].least else { return }
        total.bytes += least.bytes * slots[number].count
        total.nesting = max(total.nesting, least.nesting)
      }
      total.nesting += 1
      if total.bytes > GrammarLimits.shortestAnswer || total.nesting > GrammarLimits.nesting { return }
      queue.push(total, container)
    }
    for i in containers.indices { push(i) }
    while let (cost, container) = queue.pop() {
      if infos[container] != nil { continue }
      infos[container] = .init(start: 0, shortest: cost.bytes, nesting: cost.nesting)
      for number in uses[container] where cost < slots[number].least ?? Cost(bytes: .max, nesting: 0) {
        slots[number].least = cost
        push(slots[number].container)
      }
    }
    return infos
  }

  /// A binary heap.
  private struct CostQueue {
    private var entries: [(cost: Cost, container: Int)] = []

    mutating func push(_ cost: Cost, _ container: Int) {
      entries.append((cost, container))
      var i = entries.count - 1
      while i > 0, entries[i].cost < entries[(i - 1) / 2].cost {
        entries.swapAt(i, (i - 1) / 2)
        i = (i - 1) / 2
      }
    }

    mutating func pop() -> (Cost, Int)? {
      guard let first = entries.first, let last = entries.popLast() else { return nil }
      if entries.isEmpty { return first }
      entries[0] = last
      var i = 0
      while true {
        var least = i
        for child in [2 * i + 1, 2 * i + 2] where child < entries.count && entries[child].cost < entries[least].cost {
          least = child
        }
        if least == i { return first }
        entries.swapAt(i, least)
        i = least
      }
    }
  }
}
