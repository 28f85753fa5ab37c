// MARK: - Expressions, in the order of precedence of jinja2

extension Parser {
  /// An expression, or a tuple of expressions that commas separate.
  mutating func tuple(
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

  mutating func expression() throws(JinjaError) -> Expression {
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

  mutating func or() throws(JinjaError) -> Expression {
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

  mutating func primary() throws(JinjaError) -> Expression {
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
}
