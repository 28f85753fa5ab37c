// MARK: - Expressions

extension Renderer {
  /// The value of an expression; `input` is the text of a filter block.
  func evaluate(_ expression: Expression, input: JinjaValue? = nil) throws(JinjaError) -> JinjaValue {
    switch expression {
    case .constant(let value): return value
    case .name(let mention): return value(of: mention)
    default: break
    }
    try meter.charge(1)
    try meter.enter()
    let value = try evaluateNode(expression, input)
    meter.leave()
    return value
  }

  private func evaluateNode(_ expression: Expression, _ input: JinjaValue?) throws(JinjaError) -> JinjaValue {
    switch expression {
    case .constant(let value): return value
    case .name(let mention): return value(of: mention)
    case .tuple(let items): return try checked(.tuple(try evaluate(items)))
    case .list(let items): return try checked(.list(try evaluate(items)))
    case .dict(let entries): return try dict(entries)
    case .attribute(let base, let name, let line):
      let object = try evaluate(base)
      meter.line = line
      return try attribute(name, of: object)
    case .item(let base, let index, let line): return try item(base, index, line)
    case .slice(let base, let start, let stop, let step, let line):
      return try slice(base, start, stop, step, line)
    case .call(let callee, let arguments, let line): return try call(callee, arguments, line)
    case .filter(let filter, let base, let arguments, let line):
      return try self.filter(filter, base, input, arguments, line)
    case .test(let test, let operand, let arguments, let line): return try self.test(test, operand, arguments, line)
    case .not(let operand): return .bool(!(try evaluate(operand).isTrue))
    case .negative(let operand, let line): return try sign(operand, isNegative: true, line)
    case .positive(let operand, let line): return try sign(operand, isNegative: false, line)
    case .and(let operands): return try logical(operands, stopsAt: false)
    case .or(let operands): return try logical(operands, stopsAt: true)
    case .arithmetic(let first, let operations, let line): return try arithmetic(first, operations, line)
    case .concatenation(let operands, let line): return try concatenation(operands, line)
    case .comparison(let first, let operations, let line): return try comparison(first, operations, line)
    case .conditional(let value, let test, let otherwise):
      if try evaluate(test).isTrue { return try evaluate(value) }
      if let otherwise { return try evaluate(otherwise) }
      return .transient(.undefined("the inline 'if' is false and has no 'else'"))
    }
  }

  private func evaluate(_ expressions: [Expression]) throws(JinjaError) -> [JinjaValue] {
    var values: [JinjaValue] = []
    for expression in expressions { values.append(try evaluate(expression)) }
    try meter.charge(values.count)
    return values
  }

  func evaluate(_ arguments: CallArguments) throws(JinjaError) -> Arguments {
    var values = Arguments()
    if !arguments.positional.isEmpty { values.positional = try evaluate(arguments.positional) }
    for argument in arguments.named { values.named.append((argument.name, try evaluate(argument.value))) }
    if let unpacked = arguments.unpackedPositional {
      values.positional += try elements(of: try evaluate(unpacked))
    }
    if let unpacked = arguments.unpackedNamed {
      guard case .dict(let dict) = try evaluate(unpacked) else { throw meter.evaluation("'**' expects a dictionary") }
      guard values.named.count + dict.entries.count <= 1000 else { throw tooManyArguments }
      var names = Set(values.named.map { JinjaKey.string($0.name) })
      for entry in dict.entries {
        try meter.charge(text: entry.key.text?.utf8.count ?? 0)
        guard let name = entry.key.text, names.insert(.string(name)).inserted else {
          throw meter.evaluation("an argument of '**' that is no name, or a second one of its name")
        }
        values.named.append((name, entry.value))
      }
    }
    guard values.positional.count <= 1000, values.named.count <= 1000 else {
      throw tooManyArguments
    }
    return values
  }

  private var tooManyArguments: JinjaError { .limit("more than 1000 arguments", line: meter.line) }

  /// The value, if it does not nest too deep. Its elements count as steps, so that shared ones cannot multiply.
  func checked(_ value: JinjaValue) throws(JinjaError) -> JinjaValue {
    try value.checkNesting(meter)
    return value
  }

  func key(_ value: JinjaValue) throws(JinjaError) -> JinjaKey {
    guard let key = try JinjaKey.metered(value, meter) else {
      throw meter.evaluation("a key of type \(value.typeName)")
    }
    return key
  }

  private func dict(_ entries: [(key: Expression, value: Expression)]) throws(JinjaError) -> JinjaValue {
    var dict = JinjaDict()
    for entry in entries {
      let keyValue = try evaluate(entry.key)
      dict.set(try key(keyValue), keyValue, try evaluate(entry.value))
    }
    return try checked(.dict(dict))
  }

  private func item(_ base: Expression, _ index: Expression, _ line: Int) throws(JinjaError) -> JinjaValue {
    let object = try evaluate(base)
    let index = try evaluate(index)
    meter.line = line
    return try item(index, of: object)
  }

  private func slice(
    _ base: Expression, _ start: Expression?, _ stop: Expression?, _ step: Expression?, _ line: Int
  ) throws(JinjaError) -> JinjaValue {
    let object = try evaluate(base)
    var bounds: [Int?] = []
    for bound in [start, stop, step] {
      let value = if let bound { try evaluate(bound) } else { JinjaValue.none }
      meter.line = line
      if case .none = value {
        bounds.append(nil)
      } else {
        bounds.append(try value.requireInteger(of: "a slice", meter))
      }
    }
    meter.line = line
    return try Slice(start: bounds[0], stop: bounds[1], step: bounds[2] ?? 1).elements(of: object, meter)
  }

  private func call(_ callee: Expression, _ arguments: CallArguments, _ line: Int) throws(JinjaError) -> JinjaValue {
    let function = try evaluate(callee)
    let values = try evaluate(arguments)
    meter.line = line
    return try call(function, values)
  }

  func call(_ function: JinjaValue, _ arguments: Arguments) throws(JinjaError) -> JinjaValue {
    switch function {
    case .transient(.macro(let place)): return try call(macro: place, arguments)
    case .transient(.function(let function)): return try call(function, arguments)
    case .transient(.method(let object, let name)): return try callMethod(name, of: object, arguments)
    case .transient(.loop(let place, let identity)):
      let state = try loop(place, identity)
      guard state.loop.isRecursive else { throw meter.evaluation("'loop' is called, but the loop is not recursive") }
      let sequence = try arguments.single(of: "loop", meter)
      return .string(
        try renderRecursive(state.loop, sequence, definition: state.definition, depth: state.depth + 1))
    case .transient(.undefined(let reason)): throw .undefined(reason, line: meter.line)
    default: throw meter.evaluation("a value of type \(function.typeName) is called")
    }
  }

  private func filter(
    _ filter: Filter, _ base: Expression?, _ input: JinjaValue?, _ arguments: CallArguments, _ line: Int
  ) throws(JinjaError) -> JinjaValue {
    let value = if let base { try evaluate(base, input: input) } else { input ?? JinjaValue.none }
    let values = try evaluate(arguments)
    meter.line = line
    return try apply(filter, to: value, values)
  }

  private func test(
    _ test: Test, _ operand: Expression, _ arguments: CallArguments, _ line: Int
  ) throws(JinjaError) -> JinjaValue {
    let value = try evaluate(operand)
    let values = try evaluate(arguments)
    meter.line = line
    return .bool(try apply(test, to: value, values))
  }

  // MARK: - Operators

  private func sign(_ operand: Expression, isNegative: Bool, _ line: Int) throws(JinjaError) -> JinjaValue {
    let value = try evaluate(operand)
    meter.line = line
    return try Operators.sign(value, isNegative: isNegative, meter)
  }

  /// The first operand whose truth is `stop`, or the last.
  private func logical(_ operands: [Expression], stopsAt stop: Bool) throws(JinjaError) -> JinjaValue {
    var value = JinjaValue.none
    for operand in operands {
      try meter.charge(1)
      value = try evaluate(operand)
      if value.isTrue == stop { break }
    }
    return value
  }

  private func arithmetic(
    _ first: Expression, _ operations: [(operation: Arithmetic, operand: Expression)], _ line: Int
  ) throws(JinjaError) -> JinjaValue {
    var value = try evaluate(first)
    for (operation, operand) in operations {
      try meter.charge(1)
      let right = try evaluate(operand)
      meter.line = line
      value = try Operators.apply(operation, value, right, meter)
    }
    return value
  }

  private func concatenation(_ operands: [Expression], _ line: Int) throws(JinjaError) -> JinjaValue {
    var text = ""
    for operand in operands {
      let value = try evaluate(operand)
      meter.line = line
      let part = try PythonText.string(of: value, meter)
      try meter.charge(text: text.utf8.count + part.utf8.count, adding: part.utf8.count)
      text += part
    }
    return .string(text)
  }

  private func comparison(
    _ first: Expression, _ operations: [(operation: Comparison, operand: Expression)], _ line: Int
  ) throws(JinjaError) -> JinjaValue {
    var left = try evaluate(first)
    for (operation, operand) in operations {
      let right = try evaluate(operand)
      meter.line = line
      if try !compare(operation, left, right) { return false }
      left = right
    }
    return true
  }

  private func compare(_ operation: Comparison, _ a: JinjaValue, _ b: JinjaValue) throws(JinjaError) -> Bool {
    switch operation {
    case .isIn: try contains(a, in: b)
    case .isNotIn: try !contains(a, in: b)
    default: try Operators.compare(operation, a, b, meter)
    }
  }

  func contains(_ value: JinjaValue, in container: JinjaValue) throws(JinjaError) -> Bool {
    if let text = container.text {
      let part = try value.requireText(of: "in", meter)
      try meter.charge(text: text.utf8.count + part.utf8.count, adding: text.utf8.count + part.utf8.count)
      return TextSearch(part).isContained(in: text)
    }
    switch container {
    case .dict(let dict), .transient(.view(.keys, let dict)): return dict[try key(value)] != nil
    case .transient(.range(let range)):
      if let integer = value.integer { return range.index(of: integer) != nil }
    default: break
    }
    for element in try elements(of: container) where try element.equals(value, meter) { return true }
    return false
  }
}
