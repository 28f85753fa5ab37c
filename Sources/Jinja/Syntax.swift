/// An expression of a template.
///
/// Operators of one precedence are one node, so that a long chain does not nest.
indirect enum Expression: Sendable {
  case constant(JinjaValue)
  /// A variable, by its place in the table of names.
  case name(Int)
  case tuple([Expression])
  case list([Expression])
  case dict([(key: Expression, value: Expression)])
  case attribute(Expression, String, line: Int)
  case item(Expression, Expression, line: Int)
  case slice(Expression, start: Expression?, stop: Expression?, step: Expression?, line: Int)
  case call(Expression, CallArguments, line: Int)
  /// A filter; the input is nil in a filter block.
  case filter(Filter, Expression?, CallArguments, line: Int)
  case test(Test, Expression, CallArguments, line: Int)
  case not(Expression)
  case negative(Expression, line: Int)
  case positive(Expression, line: Int)
  case and([Expression])
  case or([Expression])
  case arithmetic(Expression, [(operation: Arithmetic, operand: Expression)], line: Int)
  case concatenation([Expression], line: Int)
  case comparison(Expression, [(operation: Comparison, operand: Expression)], line: Int)
  case conditional(Expression, test: Expression, otherwise: Expression?)
}

enum Arithmetic: Sendable { case add, subtract, multiply, divide, floorDivide, remainder, power }

enum Comparison: Sendable { case equal, notEqual, less, lessEqual, greater, greaterEqual, isIn, isNotIn }

struct CallArguments: Sendable {
  var positional: [Expression] = []
  var named: [(name: String, value: Expression)] = []
  /// The values after `*` and `**`.
  var unpackedPositional: Expression?
  var unpackedNamed: Expression?
}

/// The place where a statement stores values.
indirect enum Target: Sendable {
  case name(Int)
  /// An attribute of a namespace.
  case attribute(Int, String)
  case tuple([Target])
}

enum Statement: Sendable {
  case text(String)
  case output(Expression, line: Int)
  indirect case conditional([(test: Expression, body: [Statement])], otherwise: [Statement], line: Int)
  case loop(ForLoop)
  case set(Target, Expression, line: Int)
  /// A block whose output becomes a value, after the filters.
  case setBlock(Target, filters: Expression?, Block, line: Int)
  case filterBlock(Expression, Block, line: Int)
  case with([(target: Target, value: Expression)], Block, line: Int)
  case macro(Macro)
  case callBlock(Expression, Macro, line: Int)
  /// A block that is only a scope.
  case scope(Block)
  case breakLoop
  case continueLoop
}

/// Statements with variables of their own.
struct Block: Sendable {
  var scope: Int
  var body: [Statement]
}

struct ForLoop: Sendable {
  var target: Target
  var sequence: Expression
  /// The condition on elements, with its scope and the target in it.
  var test: (scope: Int, target: Target, condition: Expression)?
  var isRecursive: Bool
  /// The place of `loop` in the table of names.
  var loopName: Int
  var body: Block
  var otherwise: Block
  var line: Int
}

/// A macro, or the block of a `call`.
struct Macro: Sendable {
  /// The place of the macro's name in the table of names; nil for the block of a `call`.
  var name: Int?
  var parameters: [(name: String, place: Int)]
  /// The defaults of the last parameters.
  var defaults: [Expression]
  /// The places of the implicit parameters that the body uses.
  var caller: Int?
  var varargs: Int?
  var kwargs: Int?
  var block: Block
  var line: Int
}
