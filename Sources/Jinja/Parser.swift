import Storage

/// A parsed template: statements, the names of its variables, and the number of its scopes.
struct ParsedTemplate: Sendable {
  var body: [Statement] = []
  /// The name of every mention of a variable.
  var names: [(name: String, line: Int)] = []
  /// Scope 0 is that of the template.
  var scopeCount = 1
  /// The mentions that are called, and the names that `is defined` tests.
  var calledNames: [Int] = []
  var guardedNames: Set<String> = []
}

/// A parser of Jinja's grammar.
struct Parser {
  private let tokens: [Token]
  private var next = 0
  var template = ParsedTemplate()
  /// The nesting of the parser itself.
  var depth = 0
  /// The height of the expression that was parsed last.
  var height = 0
  private var loopDepth = 0

  static func parse(_ source: String) throws(JinjaError) -> ParsedTemplate {
    var parser = Parser(tokens: try Lexer.tokens(of: source))
    let body = try parser.statements(until: [])
    parser.template.body = body
    return parser.template
  }

  private init(tokens: [Token]) { self.tokens = tokens }

  // MARK: - Tokens

  var current: Token { tokens[next] }
  var line: Int { current.line }

  mutating func advance() { if next + 1 < tokens.count { next += 1 } }

  func isAt(_ symbol: Token.Symbol) -> Bool { current.kind == .symbol(symbol) }
  func isAt(_ name: String) -> Bool { current.kind == .name(name) }

  func follows(_ kind: Token.Kind) -> Bool { next + 1 < tokens.count && tokens[next + 1].kind == kind }

  mutating func take(_ symbol: Token.Symbol) -> Bool {
    guard isAt(symbol) else { return false }
    advance()
    return true
  }

  mutating func take(_ name: String) -> Bool {
    guard isAt(name) else { return false }
    advance()
    return true
  }

  func unexpected(_ expected: String) -> JinjaError {
    .syntax("expected \(expected), found \(current.description)", line: line)
  }

  mutating func expect(_ kind: Token.Kind) throws(JinjaError) {
    guard current.kind == kind else { throw unexpected(Token(kind: kind, line: 0).description) }
    advance()
  }

  mutating func expectName() throws(JinjaError) -> String {
    guard case .name(let name) = current.kind else { throw unexpected("a name") }
    advance()
    return name
  }

  mutating func descend() throws(JinjaError) {
    depth += 1
    if depth > JinjaLimits.nesting { throw tooDeep }
  }

  var tooDeep: JinjaError {
    .limit("the template nests deeper than \(JinjaLimits.nesting) levels", line: line)
  }

  /// Notes that an expression contains others of the given height.
  mutating func raise(over height: Int) throws(JinjaError) {
    self.height = height + 1
    if self.height > JinjaLimits.nesting { throw tooDeep }
  }

  mutating func mention(_ name: String, line: Int) -> Int {
    template.names.append((name, line))
    return template.names.count - 1
  }

  private mutating func newScope() -> Int {
    template.scopeCount += 1
    return template.scopeCount - 1
  }

  // MARK: - Statements

  /// Statements up to a tag with one of these names, which is the current token then; with no names, all.
  private mutating func statements(until ends: [String]) throws(JinjaError) -> [Statement] {
    try descend()
    defer { depth -= 1 }
    var result: [Statement] = []
    while true {
      switch current.kind {
      case .text(let text):
        result.append(.text(text))
        advance()
      case .variableBegin:
        advance()
        let outputLine = line
        result.append(.output(try tuple(), line: outputLine))
        try expect(.variableEnd)
      case .blockBegin:
        advance()
        if case .name(let name) = current.kind, ends.contains(name) { return result }
        try statement(&result)
        try expect(.blockEnd)
      default:
        if ends.isEmpty { return result }
        throw .syntax("expected '\(ends[ends.count - 1])', found the end of the template", line: line)
      }
    }
  }

  /// The body of a statement, from the end of its tag to a tag with one of these names.
  private mutating func body(until ends: String...) throws(JinjaError) -> [Statement] {
    _ = take(.colon)
    try expect(.blockEnd)
    return try statements(until: ends)
  }

  private mutating func statement(_ result: inout [Statement]) throws(JinjaError) {
    let line = line
    guard case .name(let keyword) = current.kind else { throw unexpected("the name of a statement") }
    advance()
    switch keyword {
    case "for": result.append(.loop(try forLoop(line: line)))
    case "if": result.append(try conditional(line: line))
    case "set": result.append(try set(line: line))
    case "with": result.append(try with(line: line))
    case "macro": result.append(.macro(try macro(line: line)))
    case "call": result.append(try callBlock(line: line))
    case "filter":
      let filters = try filterChain(nil)
      let scope = newScope()
      let content = try body(until: "endfilter")
      advance()
      result.append(.filterBlock(filters, Block(scope: scope, body: content), line: line))
    case "print":
      var isFirst = true
      while current.kind != .blockEnd {
        if !isFirst { try expect(.symbol(.comma)) }
        isFirst = false
        result.append(.output(try expression(), line: line))
      }
    case "generation":
      let scope = newScope()
      let loops = loopDepth
      loopDepth = 0
      let content = try body(until: "endgeneration")
      loopDepth = loops
      advance()
      result.append(.scope(Block(scope: scope, body: content)))
    case "break", "continue":
      guard loopDepth > 0 else { throw .syntax("'\(keyword)' outside of a loop", line: line) }
      result.append(keyword == "break" ? .breakLoop : .continueLoop)
    case "elif", "else", "endif", "endfor", "endset", "endwith", "endmacro", "endcall", "endfilter", "endgeneration",
      "endraw":
      throw .syntax("an unexpected '\(keyword)'", line: line)
    default: throw .unsupported(.statement, name: keyword, line: line)
    }
  }

  private mutating func forLoop(line: Int) throws(JinjaError) -> ForLoop {
    let target = try target(endsAtIn: true)
    try expect(.name("in"))
    let sequence = try tuple(hasConditional: false, end: "recursive")
    var test: (scope: Int, target: Target, condition: Expression)?
    if take("if") {
      let scope = newScope()
      test = (scope, copy(of: target), try expression())
    }
    let isRecursive = take("recursive")
    let loopName = mention("loop", line: line)
    let scope = newScope()
    loopDepth += 1
    let content = try body(until: "endfor", "else")
    loopDepth -= 1
    var otherwise: [Statement] = []
    let otherwiseScope = newScope()
    if take("else") { otherwise = try body(until: "endfor") }
    advance()
    return ForLoop(
      target: target, sequence: sequence, test: test, isRecursive: isRecursive, loopName: loopName,
      body: Block(scope: scope, body: content), otherwise: Block(scope: otherwiseScope, body: otherwise), line: line)
  }

  /// The target with mentions of its own.
  private mutating func copy(of target: Target) -> Target {
    switch target {
    case .name(let place): return .name(mention(template.names[place].name, line: template.names[place].line))
    case .attribute(let place, let name):
      return .attribute(mention(template.names[place].name, line: template.names[place].line), name)
    case .tuple(let targets):
      var copies: [Target] = []
      for target in targets { copies.append(copy(of: target)) }
      return .tuple(copies)
    }
  }

  private mutating func conditional(line: Int) throws(JinjaError) -> Statement {
    var branches: [(test: Expression, body: [Statement])] = []
    repeat {
      let test = try tuple(hasConditional: false)
      branches.append((test, try body(until: "elif", "else", "endif")))
    } while take("elif")
    var otherwise: [Statement] = []
    if take("else") { otherwise = try body(until: "endif") }
    advance()
    return .conditional(branches, otherwise: otherwise, line: line)
  }

  private mutating func set(line: Int) throws(JinjaError) -> Statement {
    let target = try target(allowsAttribute: true)
    if take(.assign) { return .set(target, try tuple(), line: line) }
    let filters = isAt(.pipe) ? try filterChain(nil) : nil
    let scope = newScope()
    let content = try body(until: "endset")
    advance()
    return .setBlock(target, filters: filters, Block(scope: scope, body: content), line: line)
  }

  private mutating func with(line: Int) throws(JinjaError) -> Statement {
    var bindings: [(target: Target, value: Expression)] = []
    while current.kind != .blockEnd {
      if !bindings.isEmpty { try expect(.symbol(.comma)) }
      let target = try target()
      try expect(.symbol(.assign))
      bindings.append((target, try expression()))
    }
    let scope = newScope()
    let content = try body(until: "endwith")
    advance()
    return .with(bindings, Block(scope: scope, body: content), line: line)
  }

  private mutating func macro(line: Int) throws(JinjaError) -> Macro {
    let name = mention(try expectName(), line: line)
    let signature = try signature()
    return try macroBody(name: name, signature, end: "endmacro", line: line)
  }

  private mutating func callBlock(line: Int) throws(JinjaError) -> Statement {
    let signature = isAt(.leftParenthesis) ? try signature() : ([], [])
    let call = try expression()
    guard case .call = call else { throw .syntax("'call' without a call", line: line) }
    return .callBlock(call, try macroBody(name: nil, signature, end: "endcall", line: line), line: line)
  }

  private typealias Signature = (parameters: [(name: String, place: Int)], defaults: [Expression])

  private mutating func signature() throws(JinjaError) -> Signature {
    var parameters: [(name: String, place: Int)] = []
    var defaults: [Expression] = []
    try expect(.symbol(.leftParenthesis))
    while !isAt(.rightParenthesis) {
      if !parameters.isEmpty { try expect(.symbol(.comma)) }
      let line = line
      let name = try expectName()
      guard !parameters.contains(where: { $0.name == name }) else {
        throw .syntax("two parameters \(JinjaError.quoted(name))", line: line)
      }
      guard parameters.count < 100 else { throw .limit("more than 100 parameters", line: line) }
      if take(.assign) {
        defaults.append(try expression())
      } else if !defaults.isEmpty {
        throw .syntax("a parameter without default after one with default", line: line)
      }
      parameters.append((name, mention(name, line: line)))
    }
    advance()
    return (parameters, defaults)
  }

  private mutating func macroBody(
    name: Int?, _ signature: Signature, end: String, line: Int
  ) throws(JinjaError) -> Macro {
    let scope = newScope()
    let loops = loopDepth
    loopDepth = 0
    let firstName = template.names.count
    let content = try body(until: end)
    loopDepth = loops
    advance()
    let mentioned = Set(template.names[firstName...].lazy.map(\.name))
    var implicit: [Int?] = []
    for special in ["caller", "varargs", "kwargs"] {
      let isParameter = signature.parameters.contains { $0.name == special }
      implicit.append(mentioned.contains(special) && !isParameter ? mention(special, line: line) : nil)
    }
    return Macro(
      name: name, parameters: signature.parameters, defaults: signature.defaults, caller: implicit[0],
      varargs: implicit[1], kwargs: implicit[2], block: Block(scope: scope, body: content), line: line)
  }

  // MARK: - Targets

  private mutating func target(endsAtIn: Bool = false, allowsAttribute: Bool = false) throws(JinjaError) -> Target {
    var targets: [Target] = []
    var isTuple = false
    while true {
      if isAtTupleEnd || isTuple && endsAtIn && isAt("in") { break }
      targets.append(try singleTarget(allowsAttribute: allowsAttribute))
      guard take(.comma) else { break }
      isTuple = true
    }
    if isTuple { return .tuple(targets) }
    guard let target = targets.first else { throw unexpected("a variable") }
    return target
  }

  private mutating func singleTarget(allowsAttribute: Bool) throws(JinjaError) -> Target {
    try descend()
    defer { depth -= 1 }
    let line = line
    if take(.leftParenthesis) {
      let inner = try target()
      try expect(.symbol(.rightParenthesis))
      return inner
    }
    let name = try expectName()
    guard !["true", "false", "none", "True", "False", "None"].contains(name) else {
      throw .syntax("an assignment to '\(name)'", line: line)
    }
    let place = mention(name, line: line)
    if allowsAttribute, take(.dot) { return .attribute(place, try expectName()) }
    return .name(place)
  }

  var isAtTupleEnd: Bool {
    current.kind == .variableEnd || current.kind == .blockEnd || isAt(.rightParenthesis)
  }
}
