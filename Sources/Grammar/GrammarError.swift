package import Storage

/// A constraint that cannot be compiled.
package enum GrammarError: UserFacingError, Equatable {
  /// A JSON schema is outside the subset; `pointer` is the JSON pointer of the keyword or schema, such as `#/items/not`.
  case schema(pointer: String, problem: String)
  /// A regular expression is outside the subset; `position` counts characters from 0.
  case regex(position: Int, problem: String)
  /// A list of choices is empty or has an unusable element.
  case choices(String)
  /// The grammar is too large.
  case limit(String)

  package var category: ErrorCategory { .input }

  package var problem: String {
    switch self {
    case .schema(let pointer, let problem): "schema: \(pointer.pathExcerpt): \(problem)"
    case .regex(let position, let problem): "regular expression: position \(position): \(problem)"
    case .choices(let problem): "choices: \(problem)"
    case .limit(let problem): "constraint: \(problem)"
    }
  }
}

/// Limits that keep the cost of an untrusted constraint small.
enum GrammarLimits {
  /// The maximum size of a schema, regular expression or list of choices, in bytes.
  static let sourceBytes = 256 << 10
  /// The maximum nesting of objects and arrays in an answer; `JSONParser` reads 100 levels.
  static let nesting = 64
  /// The maximum size of the JSON pointers of all subschemas together, in bytes.
  static let pointerBytes = 16 << 20
  /// The maximum number of references and alternatives on the way to a type.
  static let referenceDepth = 64
  /// The maximum nesting of groups in a regular expression.
  static let groupDepth = 64
  /// The maximum length of the shortest answer, in bytes.
  static let shortestAnswer = 64 << 10
  /// The maximum number of states of all nondeterministic automata.
  static let nfaStates = 400_000
  /// The maximum number of states of all DFAs.
  static let dfaStates = 200_000
  /// The maximum number of entries of all transition tables.
  static let dfaEntries = 16 << 20
  /// The maximum number of steps in the construction of all DFAs.
  static let steps = 20_000_000
  /// The maximum number of edges between the terminals of a grammar.
  static let edges = 500_000
  /// The maximum number of heads of a state; of more, those with the longest completions are dropped.
  static let heads = 512
}

/// The part of the limits that one grammar has used.
struct GrammarBudget {
  private var nfaStates = 0
  private var dfaStates = 0
  private var dfaEntries = 0
  private var steps = 0

  mutating func chargeNFAState() throws(GrammarError) {
    nfaStates += 1
    if nfaStates > GrammarLimits.nfaStates { throw Self.tooLarge }
  }

  mutating func chargeDFAState(entries: Int) throws(GrammarError) {
    dfaStates += 1
    dfaEntries += entries
    if dfaStates > GrammarLimits.dfaStates || dfaEntries > GrammarLimits.dfaEntries { throw Self.tooLarge }
  }

  mutating func charge(steps count: Int) throws(GrammarError) {
    steps += count
    if steps > GrammarLimits.steps { throw Self.tooLarge }
  }

  static let tooLarge = GrammarError.limit(
    "the grammar is too large; lengths, repetitions or alternatives of patterns and bounds must be smaller")
}
