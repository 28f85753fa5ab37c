import Storage

/// A compiled constraint: automata of terminals, connected by nodes, with a stack for objects and arrays.
///
/// A grammar is independent of a vocabulary. What it admits is never more than its constraint; `SchemaReader` and
/// `RegexParser` say where it is less.
package final class Grammar: Sendable {
  /// A place between terminals.
  struct Node {
    var edges: Range<Int>
    /// Whether the object or array, or the whole answer, is complete.
    var isEnd: Bool
    /// The smallest number of bytes to the end.
    var cost: Int
    /// The number of items below which each missing one costs `itemCost` more.
    var itemCount: Int
    var itemCost: Int
    /// The number of levels that the shortest way to the end opens.
    var nesting: Int

    func cost(count: Int32) -> Int { cost + max(0, itemCount - Int(count)) * itemCost }
  }

  struct Edge {
    enum Label {
      case terminal(Int)
      case container(Int)
      /// A step without bytes.
      case empty
    }

    var label: Label
    var target: Int
    /// The numbers of items of the array with which the edge may be taken.
    var counts: ClosedRange<Int32> = 0...Int32.max
    /// The number of levels that must be free.
    var nesting: Int
    /// The largest number of items that is counted, where the edge starts an item.
    var countLimit: Int32?
  }

  struct ContainerInfo {
    var start: Int
    /// The smallest number of bytes, and the number of levels that the value of so many bytes has.
    var shortest: Int
    var nesting: Int
  }

  let terminals: [Terminal]
  let nodes: [Node]
  let edges: [Edge]
  let containers: [ContainerInfo?]
  let start: Int

  /// Compiles a constraint.
  ///
  /// - Parameter leadingSpace: Whether the answer may start with one space, which the detokenizer removes.
  package init(_ constraint: Constraint, leadingSpace: Bool = false) throws(GrammarError) {
    let parts: GrammarBuilder
    switch constraint {
    case .jsonSchema(let schema):
      let (reader, values) = try SchemaReader.read(schema)
      parts = try GrammarBuilder.build(reader, values, leadingSpace: leadingSpace)
    case .jsonObject:
      let (reader, values) = try SchemaReader.anyObject()
      parts = try GrammarBuilder.build(reader, values, leadingSpace: leadingSpace)
    case .choices(let choices):
      parts = try GrammarBuilder.build(try Self.dfa(ofChoices: choices), leadingSpace: leadingSpace)
    case .regex(let pattern):
      var budget = GrammarBudget()
      let expression = try RegexParser.parse(pattern, searches: false) { $0.utf8 }
      guard let dfa = try DFABuilder.build(expression, &budget) else {
        throw .regex(position: 0, problem: "no text matches")
      }
      parts = try GrammarBuilder.build(dfa, leadingSpace: leadingSpace)
    }
    terminals = parts.terminals
    nodes = parts.nodes
    edges = parts.edges
    containers = parts.infos
    start = parts.start
  }

  /// The number of bytes of the shortest answer.
  package var shortestAnswer: Int { nodes[start].cost }

  /// The approximate memory, in bytes; what grammars share is counted in each.
  package var byteCount: Int {
    terminals.reduce(0) { $0 + $1.dfa.byteCount } + nodes.count * MemoryLayout<Node>.stride
      + edges.count * MemoryLayout<Edge>.stride
  }

  private static func dfa(ofChoices choices: [String]) throws(GrammarError) -> DFA {
    guard !choices.isEmpty else { throw .choices("expected at least one") }
    if choices.contains("") { throw .choices("an empty choice") }
    let size = choices.reduce(0) { $0 + $1.utf8.count + 1 }
    guard size <= GrammarLimits.sourceBytes else {
      throw .limit("choices of \(size) bytes; expected at most \(GrammarLimits.sourceBytes)")
    }
    var budget = GrammarBudget()
    guard let dfa = try DFABuilder.build(.choice(choices.map { .literal($0) }), &budget) else {
      throw .choices("expected at least one")
    }
    return dfa
  }
}
