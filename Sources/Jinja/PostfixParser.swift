// MARK: - Attributes, items, calls, filters and tests

extension Parser {
  mutating func postfix(_ base: Expression) throws(JinjaError) -> Expression {
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

  mutating func filtersAndTests(_ base: Expression) throws(JinjaError) -> Expression {
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
  mutating func filterChain(_ input: Expression?) throws(JinjaError) -> Expression {
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
