/// The tests after `is`.
enum Test: String, Sendable {
  case odd, even, divisibleby, defined, undefined, none, boolean, `false`, `true`, integer, float, lower, upper
  case string, mapping, number, sequence, iterable, callable, sameas, `in`
  case eq, equalto, ne, gt, greaterthan, ge, lt, lessthan, le
  case equal = "=="
  case notEqual = "!="
  case greater = ">"
  case greaterEqual = ">="
  case less = "<"
  case lessEqual = "<="

  var comparison: Comparison? {
    switch self {
    case .eq, .equalto, .equal: .equal
    case .ne, .notEqual: .notEqual
    case .gt, .greaterthan, .greater: .greater
    case .ge, .greaterEqual: .greaterEqual
    case .lt, .lessthan, .less: .less
    case .le, .lessEqual: .lessEqual
    default: nil
    }
  }
}

extension Renderer {
  func apply(_ test: Test, to value: JinjaValue, _ arguments: Arguments) throws(JinjaError) -> Bool {
    if let comparison = test.comparison {
      return try Operators.compare(comparison, value, try arguments.single(of: test.rawValue, meter), meter)
    }
    switch test {
    case .in:
      return try contains(value, in: try arguments.bind(["seq"], required: 1, to: "in", meter)[0] ?? JinjaValue.none)
    case .sameas:
      return try isSame(value, try arguments.bind(["other"], required: 1, to: "sameas", meter)[0] ?? JinjaValue.none)
    case .divisibleby:
      let divisor = try arguments.bind(["num"], required: 1, to: "divisibleby", meter)[0] ?? JinjaValue.none
      return try Operators.apply(.remainder, value, divisor, meter).equals(.int(0), meter)
    default: break
    }
    try arguments.requireNone(of: test.rawValue, meter)
    switch test {
    case .odd: return try Operators.apply(.remainder, value, .int(2), meter).equals(.int(1), meter)
    case .even: return try Operators.apply(.remainder, value, .int(2), meter).equals(.int(0), meter)
    case .defined: return !value.isUndefined
    case .undefined: return value.isUndefined
    case .lower, .upper:
      let text = try PythonText.string(of: value, meter)
      try meter.charge(text.utf8.count / 4)
      return text.isCased(upper: test == .upper)
    default: return hasType(value, test)
    }
  }

  private func hasType(_ value: JinjaValue, _ test: Test) -> Bool {
    switch (test, value) {
    case (.none, .none), (.boolean, .bool), (.true, .bool(true)), (.false, .bool(false)), (.integer, .int),
      (.float, .double), (.mapping, .dict), (.number, .int), (.number, .double), (.number, .bool):
      true
    case (.string, _): value.text != nil
    case (.sequence, .transient(let value)):
      switch value {
      case .undefined, .tuple, .markup, .range: true
      default: false
      }
    case (.sequence, _): value.text != nil || value.sequence != nil || value.isDict
    case (.iterable, .transient(let value)):
      switch value {
      case .undefined, .tuple, .markup, .range, .view, .iterator, .loop: true
      default: false
      }
    case (.iterable, _): value.text != nil || value.sequence != nil || value.isDict
    case (.callable, .transient(let value)):
      switch value {
      case .undefined, .macro, .loop, .function, .method: true
      default: false
      }
    default: false
    }
  }

  /// Python's `is`, for values of which it is known whether they are one object.
  private func isSame(_ a: JinjaValue, _ b: JinjaValue) throws(JinjaError) -> Bool {
    switch (a, b) {
    case (.none, .none): true
    case (.bool(let a), .bool(let b)): a == b
    case (.none, _), (_, .none), (.bool, _), (_, .bool): false
    case (.transient(.namespace(let a)), .transient(.namespace(let b))): a == b
    default:
      if a.typeName != b.typeName { false } else { throw meter.unsupported(.operation, "sameas of these values") }
    }
  }
}

extension JinjaValue {
  var isDict: Bool { if case .dict = self { true } else { false } }
}
