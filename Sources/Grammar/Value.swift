import Storage

/// A value of an answer: a terminal, or an object or array.
enum Value: Hashable {
  case terminal(Int)
  case container(Int)
}

/// An object or array with the values that its members or items may have.
enum Container {
  struct Property {
    var key: String
    var isRequired: Bool
    var values: [Value]
  }

  /// Members in this order.
  case object([Property])
  /// Members with any keys.
  case map([Value])
  /// - Parameter maximum: nil for no limit.
  case array([Value], minimum: Int, maximum: Int?)
}

/// A text of a value without structure: a DFA, and limits on the number of characters if it is a JSON string.
struct Terminal: Sendable {
  var dfa: DFA
  var minimum: Int32 = 0
  /// `Int32.max` for no limit.
  var maximum: Int32 = .max

  var isCounted: Bool { minimum > 0 || maximum < .max }

  var shortest: Int { dfa.shortest + Int(minimum) }
}

/// The terminals of a grammar, by number. Values with equal keywords share one.
struct TerminalTable {
  private(set) var terminals: [Terminal] = []
  /// The part of the limits that the automata of the terminals have used.
  var budget = GrammarBudget()
  private var numbers: [ByteString: Int] = [:]

  /// The number of the terminal with a name; nil if there is none yet.
  subscript(name: String) -> Int? { numbers[ByteString(name)] }

  /// The number of the terminal of a key in an object.
  mutating func number(ofKey key: String) throws(GrammarError) -> Int {
    let name = "key " + key
    if let number = self[name] { return number }
    guard let dfa = try DFABuilder.build(.literal(JSONValue.quoted(key)), &budget) else {
      preconditionFailure("a key has a text")
    }
    return add(name, Terminal(dfa: dfa))
  }

  /// Adds a terminal with a new name.
  ///
  /// - Returns: Its number.
  mutating func add(_ name: String, _ terminal: Terminal) -> Int {
    terminals.append(terminal)
    numbers[ByteString(name)] = terminals.count - 1
    return terminals.count - 1
  }
}
