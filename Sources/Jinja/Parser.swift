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

/// A parser of Jinja's grammar, in the order of precedence of jinja2.
struct Parser {
  private let tokens: [Token]
  private var next = 0
  private(set) var template = ParsedTemplate()
  /// The nesting of the parser itself.
  private var depth = 0
  /// The height of the expression that was parsed last.
  private var height = 0
  private var loopDepth = 0

  static func parse(_ source: String) throws(JinjaError) -> ParsedTemplate {
    var parser = Parser(tokens: try Lexer.tokens(of: source))
    let body = try parser.statements(until: [])
    parser.template.body = body
    return parser.template
  }

  private init(tokens: [Token]) { self.tokens = tokens }

  // MARK: - Tokens

  private var current: Token { tokens[next] }
  private var line: Int { current.line }

  private mutating func advance() { if next + 1 < tokens.count { next += 1 } }

  private func isAt(_ symbol: Token.Symbol) -> Bool { current.kind == .symbol(symbol) }
  private func isAt(_ name: String) -> Bool { current.kind == .name(name) }

  private func follows(_ kind: Token.Kind) -> Bool { next + 1 < tokens.count && tokens[next + 1].kind == kind }

  private mutating func take(_ symbol: Token.Symbol) -> Bool {
    guard isAt(symbol) else { return false }
    advance()
    return true
  }

  private mutating func take(_ name: String) -> Bool {
    guard isAt(name) else { return false }
    advance()
    return true
  }

  private func unexpected(_ expected: String) -> JinjaError {
    .syntax("expected \(expected), found \(current.description)", line: line)
  }

  private mutating func expect(_ kind: Token.Kind) throws(JinjaError) {
    guard current.kind == kind else { throw unexpected(Token(kind: kind, line: 0).description) }
    advance()
  }

  private mutating func expectName() throws(JinjaError) -> String {
    guard case .name(let name) = current.kind else { throw unexpected("a name") }
    advance()
    return name
  }

  private mutating func descend() throws(JinjaError) {
    depth += 1
    if depth > JinjaLimits.nesting { throw tooDeep }
  }

  private var tooDeep: JinjaError {
    .limit("the template nests deeper than \(JinjaLimits.nesting) levels", line: line)
  }

  /// Notes that an expression contains others of the given height.
  private mutating func raise(over height: Int) throws(JinjaError) {
    self.height = height + 1
    if self.height > JinjaLimits.nesting { throw tooDeep }
  }

  private mutating func mention(_ name: String, line: Int) -> Int {
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

  private var isAtTupleEnd: Bool {
    current.kind == .variableEnd || current.kind == .blockEnd || isAt(.rightParenthesis)
  }

  // MARK: - Expressions

  /// An expression, or a tuple of expressions that commas separate.
  private mutating func tuple(
    hasConditional: Bool = true, end: String? = nil, isParenthesized: Bool = false
  ) throws(JinjaError) -> Expression {
    var items: [Expression] = []
    var isTuple = false
    var highest = 0
    while true {
      if isAtTupleEnd || end.map({ isAt($0) }) ?? false { break }
      items.append(hasConditional ? try expression() : try or())
      highest = max(highest, height)
      guard take(.comma) else { break }
      isTuple = true
    }
    if !isTuple, let item = items.first { return item }
    guard isTuple || isParenthesized else { throw unexpected("an expression") }
    try raise(over: highest)
    return .tuple(items)
  }

  private mutating func expression() throws(JinjaError) -> Expression {
    try descend()
    defer { depth -= 1 }
    var result = try or()
    while take("if") {
      var highest = height
      let test = try or()
      highest = max(highest, height)
      var otherwise: Expression?
      if take("else") {
        otherwise = try expression()
        highest = max(highest, height)
      }
      result = .conditional(result, test: test, otherwise: otherwise)
      try raise(over: highest)
    }
    return result
  }

  private mutating func or() throws(JinjaError) -> Expression {
    let first = try and()
    guard isAt("or") else { return first }
    var operands = [first]
    var highest = height
    while take("or") {
      operands.append(try and())
      highest = max(highest, height)
    }
    try raise(over: highest)
    return .or(operands)
  }

  private mutating func and() throws(JinjaError) -> Expression {
    let first = try negation()
    guard isAt("and") else { return first }
    var operands = [first]
    var highest = height
    while take("and") {
      operands.append(try negation())
      highest = max(highest, height)
    }
    try raise(over: highest)
    return .and(operands)
  }

  private mutating func negation() throws(JinjaError) -> Expression {
    var count = 0
    while take("not") { count += 1 }
    let operand = try comparison()
    if count == 0 { return operand }
    try raise(over: height + 1)
    return count.isMultiple(of: 2) ? .not(.not(operand)) : .not(operand)
  }

  private mutating func comparison() throws(JinjaError) -> Expression {
    let line = line
    let first = try sum()
    var highest = height
    var operations: [(operation: Comparison, operand: Expression)] = []
    while let operation = takeComparison() {
      operations.append((operation, try sum()))
      highest = max(highest, height)
    }
    if operations.isEmpty { return first }
    try raise(over: highest)
    return .comparison(first, operations, line: line)
  }

  private mutating func takeComparison() -> Comparison? {
    let operation: Comparison
    switch current.kind {
    case .symbol(.equal): operation = .equal
    case .symbol(.notEqual): operation = .notEqual
    case .symbol(.less): operation = .less
    case .symbol(.lessEqual): operation = .lessEqual
    case .symbol(.greater): operation = .greater
    case .symbol(.greaterEqual): operation = .greaterEqual
    case .name("in"): operation = .isIn
    case .name("not"):
      guard follows(.name("in")) else { return nil }
      advance()
      operation = .isNotIn
    default: return nil
    }
    advance()
    return operation
  }

  /// A chain of operators of one precedence, which group from the left.
  private mutating func chain(
    _ symbols: [(Token.Symbol, Arithmetic)], of operand: (inout Parser) throws(JinjaError) -> Expression
  ) throws(JinjaError) -> Expression {
    let line = line
    let first = try operand(&self)
    var highest = height
    var operations: [(operation: Arithmetic, operand: Expression)] = []
    while let match = symbols.first(where: { isAt($0.0) }) {
      advance()
      operations.append((match.1, try operand(&self)))
      highest = max(highest, height)
    }
    if operations.isEmpty { return first }
    try raise(over: highest)
    return .arithmetic(first, operations, line: line)
  }

  private mutating func sum() throws(JinjaError) -> Expression {
    try chain([(.add, .add), (.sub, .subtract)]) { (parser) throws(JinjaError) in try parser.concatenation() }
  }

  private mutating func concatenation() throws(JinjaError) -> Expression {
    let line = line
    let first = try product()
    guard isAt(.tilde) else { return first }
    var operands = [first]
    var highest = height
    while take(.tilde) {
      operands.append(try product())
      highest = max(highest, height)
    }
    try raise(over: highest)
    return .concatenation(operands, line: line)
  }

  private mutating func product() throws(JinjaError) -> Expression {
    try chain([(.mul, .multiply), (.div, .divide), (.floorDiv, .floorDivide), (.mod, .remainder)]) {
      (parser) throws(JinjaError) in
      try parser.chain([(.pow, .power)]) { (parser) throws(JinjaError) in try parser.unary() }
    }
  }

  private mutating func unary(hasFilters: Bool = true) throws(JinjaError) -> Expression {
    try descend()
    defer { depth -= 1 }
    let line = line
    var result: Expression
    if take(.sub) {
      result = .negative(try unary(hasFilters: false), line: line)
      try raise(over: height)
    } else if take(.add) {
      result = .positive(try unary(hasFilters: false), line: line)
      try raise(over: height)
    } else {
      result = try primary()
    }
    result = try postfix(result)
    return hasFilters ? try filtersAndTests(result) : result
  }

  private mutating func primary() throws(JinjaError) -> Expression {
    let token = current
    switch token.kind {
    case .name(let name):
      advance()
      height = 1
      switch name {
      case "true", "True": return .constant(.bool(true))
      case "false", "False": return .constant(.bool(false))
      case "none", "None": return .constant(.none)
      default: return .name(mention(name, line: token.line))
      }
    case .string(let text):
      advance()
      height = 1
      var parts = [text]
      while case .string(let more) = current.kind {
        parts.append(more)
        advance()
      }
      return .constant(.string(parts.joined()))
    case .integer(let value):
      advance()
      height = 1
      return .constant(.int(value))
    case .float(let value):
      advance()
      height = 1
      return .constant(.double(value))
    case .symbol(.leftParenthesis):
      advance()
      height = 1
      let inner = try tuple(isParenthesized: true)
      try expect(.symbol(.rightParenthesis))
      return inner
    case .symbol(.leftBracket):
      advance()
      var items: [Expression] = []
      var highest = 0
      while !isAt(.rightBracket) {
        if !items.isEmpty { try expect(.symbol(.comma)) }
        if isAt(.rightBracket) { break }
        items.append(try expression())
        highest = max(highest, height)
      }
      try expect(.symbol(.rightBracket))
      try raise(over: highest)
      return .list(items)
    case .symbol(.leftBrace): return try dict()
    default: throw unexpected("an expression")
    }
  }

  private mutating func dict() throws(JinjaError) -> Expression {
    advance()
    var entries: [(key: Expression, value: Expression)] = []
    var highest = 0
    while !isAt(.rightBrace) {
      if !entries.isEmpty { try expect(.symbol(.comma)) }
      if isAt(.rightBrace) { break }
      let key = try expression()
      highest = max(highest, height)
      try expect(.symbol(.colon))
      entries.append((key, try expression()))
      highest = max(highest, height)
    }
    try expect(.symbol(.rightBrace))
    try raise(over: highest)
    return .dict(entries)
  }

  // MARK: - Attributes, calls, filters and tests

  private mutating func postfix(_ base: Expression) throws(JinjaError) -> Expression {
    var result = base
    while true {
      if isAt(.dot) {
        result = try attribute(of: result)
      } else if isAt(.leftBracket) {
        result = try item(of: result)
      } else if isAt(.leftParenthesis) {
        result = try call(result)
      } else {
        return result
      }
    }
  }

  private mutating func attribute(of base: Expression) throws(JinjaError) -> Expression {
    let line = line
    advance()
    try raise(over: height)
    switch current.kind {
    case .name(let name):
      advance()
      return .attribute(base, name, line: line)
    case .integer(let value):
      advance()
      return .item(base, .constant(.int(value)), line: line)
    default: throw unexpected("a name or number")
    }
  }

  private mutating func item(of base: Expression) throws(JinjaError) -> Expression {
    let line = line
    var highest = height
    advance()
    var indices: [Expression] = []
    var slice: Expression?
    while !isAt(.rightBracket) {
      if !indices.isEmpty || slice != nil { try expect(.symbol(.comma)) }
      guard slice == nil else { throw .unsupported(.operation, name: "a slice with ','", line: line) }
      var start: Expression?
      if !isAt(.colon) {
        start = try expression()
        highest = max(highest, height)
      }
      guard take(.colon) else {
        if let start { indices.append(start) }
        continue
      }
      guard indices.isEmpty else { throw .unsupported(.operation, name: "a slice with ','", line: line) }
      let stop = try sliceBound(&highest)
      let step = take(.colon) ? try sliceBound(&highest) : nil
      slice = .slice(base, start: start, stop: stop, step: step, line: line)
    }
    advance()
    try raise(over: highest)
    if let slice { return slice }
    return .item(base, indices.count == 1 ? indices[0] : .tuple(indices), line: line)
  }

  private mutating func sliceBound(_ highest: inout Int) throws(JinjaError) -> Expression? {
    if isAt(.colon) || isAt(.rightBracket) || isAt(.comma) { return nil }
    let bound = try expression()
    highest = max(highest, height)
    return bound
  }

  private mutating func call(_ callee: Expression) throws(JinjaError) -> Expression {
    let line = line
    let calleeHeight = height
    let arguments = try callArguments()
    try raise(over: max(calleeHeight, height))
    switch callee {
    case .name(let place): template.calledNames.append(place)
    case .attribute(_, let name, let line):
      guard Methods.names.contains(name) else { throw .unsupported(.method, name: name, line: line) }
    default: break
    }
    return .call(callee, arguments, line: line)
  }

  /// The arguments in parentheses; `height` is that of the highest.
  private mutating func callArguments() throws(JinjaError) -> CallArguments {
    let line = line
    var arguments = CallArguments()
    var highest = 0
    try expect(.symbol(.leftParenthesis))
    var isFirst = true
    while !isAt(.rightParenthesis) {
      if !isFirst {
        try expect(.symbol(.comma))
        if isAt(.rightParenthesis) { break }
      }
      isFirst = false
      if isAt(.mul) || isAt(.pow) {
        try unpackedArgument(&arguments, line: line)
        highest = max(highest, height)
        continue
      }
      guard arguments.unpackedNamed == nil else { throw .syntax("an argument after '**'", line: line) }
      if case .name(let name) = current.kind, follows(.symbol(.assign)) {
        advance()
        advance()
        guard !arguments.named.contains(where: { $0.name == name }) else {
          throw .syntax("two arguments \(JinjaError.quoted(name))", line: line)
        }
        arguments.named.append((name, try expression()))
      } else {
        guard arguments.named.isEmpty, arguments.unpackedPositional == nil else {
          throw .syntax("an argument without name after one with name", line: line)
        }
        arguments.positional.append(try expression())
      }
      guard arguments.positional.count + arguments.named.count <= 255 else {
        throw .limit("more than 255 arguments", line: line)
      }
      highest = max(highest, height)
    }
    advance()
    height = highest
    return arguments
  }

  private mutating func unpackedArgument(_ arguments: inout CallArguments, line: Int) throws(JinjaError) {
    let isNamed = isAt(.pow)
    guard arguments.unpackedNamed == nil, isNamed || arguments.unpackedPositional == nil else {
      throw .syntax("an argument after '**'", line: line)
    }
    advance()
    let value = try expression()
    if isNamed { arguments.unpackedNamed = value } else { arguments.unpackedPositional = value }
  }

  private mutating func filtersAndTests(_ base: Expression) throws(JinjaError) -> Expression {
    var result = base
    while true {
      if isAt(.pipe) {
        advance()
        result = try filter(result)
      } else if isAt("is") {
        result = try test(result)
      } else if isAt(.leftParenthesis) {
        result = try call(result)
      } else {
        return result
      }
    }
  }

  /// The filters of a filter block or block set.
  private mutating func filterChain(_ input: Expression?) throws(JinjaError) -> Expression {
    height = 0
    _ = take(.pipe)
    var result = try filter(input)
    while take(.pipe) { result = try filter(result) }
    return result
  }

  private mutating func filter(_ input: Expression?) throws(JinjaError) -> Expression {
    let line = line
    let inputHeight = height
    var name = try expectName()
    while take(.dot) { name += "." + (try expectName()) }
    guard let filter = Filter(rawValue: name) else { throw .unsupported(.filter, name: name, line: line) }
    var arguments = CallArguments()
    height = 0
    if isAt(.leftParenthesis) { arguments = try callArguments() }
    try checkInner(filter, arguments, line: line)
    try raise(over: max(inputHeight, height))
    return .filter(filter, input, arguments, line: line)
  }

  /// Refuses unknown filters and tests that a filter applies to elements.
  private func checkInner(_ filter: Filter, _ arguments: CallArguments, line: Int) throws(JinjaError) {
    let place: Int
    switch filter {
    case .map, .select, .reject: place = 0
    case .selectattr, .rejectattr: place = 1
    default: return
    }
    guard arguments.positional.count > place, case .constant(.string(let name)) = arguments.positional[place] else {
      return
    }
    if filter == .map {
      guard Filter(rawValue: name) != nil else { throw .unsupported(.filter, name: name, line: line) }
    } else {
      guard Test(rawValue: name) != nil else { throw .unsupported(.test, name: name, line: line) }
    }
  }

  private mutating func test(_ operand: Expression) throws(JinjaError) -> Expression {
    let line = line
    let operandHeight = height
    advance()
    let isNegated = take("not")
    var name = try expectName()
    while take(.dot) { name += "." + (try expectName()) }
    guard let test = Test(rawValue: name) else { throw .unsupported(.test, name: name, line: line) }
    if case .name(let place) = operand { template.guardedNames.insert(template.names[place].name) }
    var arguments = CallArguments()
    height = 0
    if isAt(.leftParenthesis) {
      arguments = try callArguments()
    } else if startsTestArgument {
      if isAt("is") { throw .syntax("two tests in a row", line: line) }
      try descend()
      arguments.positional = [try postfix(try primary())]
      depth -= 1
    }
    try raise(over: max(operandHeight, height) + 1)
    let result = Expression.test(test, operand, arguments, line: line)
    return isNegated ? .not(result) : result
  }

  private var startsTestArgument: Bool {
    switch current.kind {
    case .name(let name): !["else", "or", "and"].contains(name)
    case .string, .integer, .float, .symbol(.leftBracket), .symbol(.leftBrace): true
    default: false
    }
  }
}
