package import Storage

/// A value of a template, with the semantics of the Python value that Jinja would have.
package enum JinjaValue: Sendable {
  case none
  case bool(Bool)
  case int(Int)
  case double(Double)
  case string(String)
  case list([JinjaValue])
  case dict(JinjaDict)
  /// A value that only a rendering makes.
  indirect case transient(TransientValue)

  /// The JSON value as Python's `json` module would load it.
  package init(_ json: JSONValue) {
    switch json {
    case .null: self = .none
    case .bool(let value): self = .bool(value)
    case .integer(let value): self = .int(value)
    case .number(let value): self = .double(value)
    case .string(let value): self = .string(value)
    case .array(let values): self = .list(values.map(JinjaValue.init))
    case .object(let members):
      var dict = JinjaDict()
      for member in members { dict[member.key] = JinjaValue(member.value) }
      self = .dict(dict)
    }
  }

  static func tuple(_ items: [JinjaValue]) -> JinjaValue { .transient(.tuple(items)) }

  var isNone: Bool { if case .none = self { true } else { false } }
  var isUndefined: Bool { if case .transient(.undefined) = self { true } else { false } }

  /// The text of a `str`, also of one that passed through `safe`.
  var text: String? {
    switch self {
    case .string(let text), .transient(.markup(let text)): text
    default: nil
    }
  }

  /// The value of an `int`, of which `bool` is a kind.
  var integer: Int? {
    switch self {
    case .int(let value): value
    case .bool(let value): value ? 1 : 0
    default: nil
    }
  }

  var number: Double? {
    if case .double(let value) = self { value } else { integer.map(Double.init) }
  }

  /// The elements of a list or tuple.
  var sequence: [JinjaValue]? {
    switch self {
    case .list(let items), .transient(.tuple(let items)): items
    default: nil
    }
  }

  var isTrue: Bool {
    switch self {
    case .none: false
    case .bool(let value): value
    case .int(let value): value != 0
    case .double(let value): value != 0
    case .string(let text): !text.isEmpty
    case .list(let items): !items.isEmpty
    case .dict(let dict): !dict.isEmpty
    case .transient(let value): value.isTrue
    }
  }

  /// The name of the Python type, for messages.
  var typeName: String {
    switch self {
    case .none: "None"
    case .bool: "bool"
    case .int: "int"
    case .double: "float"
    case .string, .transient(.markup): "str"
    case .list: "list"
    case .dict: "dict"
    case .transient(.undefined): "undefined value"
    case .transient(.tuple): "tuple"
    case .transient(.range): "range"
    case .transient(.view(let kind, _)): "dict_\(kind.rawValue)"
    case .transient(.iterator): "generator"
    case .transient(.namespace): "namespace"
    case .transient(.macro): "macro"
    case .transient(.loop): "loop"
    case .transient(.function), .transient(.method): "function"
    }
  }
}

/// A value that lives no longer than a rendering. Objects with identity are handles into the renderer's tables.
package enum TransientValue: Sendable {
  /// Jinja's `Undefined`, with the reason.
  case undefined(String)
  case tuple([JinjaValue])
  /// Text that passed through `safe`. Python would escape what is added to it.
  case markup(String)
  case range(IntegerRange)
  case view(DictView, JinjaDict)
  /// A generator, which can be read once.
  case iterator(Int)
  case namespace(Int)
  case macro(Int)
  case loop(index: Int, identity: Int)
  case function(GlobalFunction)
  case method(JinjaValue, String)

  package enum DictView: String, Sendable { case keys, values, items }

  var isTrue: Bool {
    switch self {
    case .undefined: false
    case .tuple(let items): !items.isEmpty
    case .markup(let text): !text.isEmpty
    case .range(let range): range.count > 0
    case .view(_, let dict): !dict.isEmpty
    case .iterator, .namespace, .macro, .loop, .function, .method: true
    }
  }
}

/// Python's `range`; `step` is not zero.
package struct IntegerRange: Sendable, Equatable {
  var start: Int
  var stop: Int
  var step: Int
  /// At most `JinjaLimits.rangeCount`, which `Functions.range` checks.
  var count: Int

  subscript(index: Int) -> Int { start + index * step }

  func index(of value: Int) -> Int? {
    let (distance, overflow) = value.subtractingReportingOverflow(start)
    // The quotient of the smallest number and -1 has no room.
    guard !overflow, distance != .min || step != -1, distance % step == 0, (0..<count).contains(distance / step) else {
      return nil
    }
    return distance / step
  }
}

// MARK: - Equality and literals

extension JinjaValue: Equatable {
  /// Python's equality: `1`, `1.0` and `True` are equal, and texts are compared by code point.
  package static func == (a: JinjaValue, b: JinjaValue) -> Bool {
    (try? a.equals(b, Meter(JinjaLimits(steps: .max)))) ?? false
  }

  func equals(_ other: JinjaValue, _ meter: Meter) throws(JinjaError) -> Bool {
    try meter.charge(1)
    switch (self, other) {
    case (.none, .none): return true
    case (.dict(let a), .dict(let b)): return try a.equals(b, meter)
    case (.list(let a), .list(let b)), (.transient(.tuple(let a)), .transient(.tuple(let b))):
      return try Self.equal(a, b, meter)
    case (.transient(let a), .transient(let b)):
      switch (a, b) {
      case (.undefined, .undefined): return true
      case (.range(let a), .range(let b)):
        return a.count == b.count && (a.count == 0 || a.start == b.start && (a.count == 1 || a.step == b.step))
      case (.iterator(let a), .iterator(let b)), (.namespace(let a), .namespace(let b)), (.macro(let a), .macro(let b)):
        return a == b
      case (.loop(_, let a), .loop(_, let b)): return a == b
      case (.function(let a), .function(let b)): return a == b
      case (.view(let a, _), .view(let b, _)):
        guard a != .values, b != .values else { return false }
        throw meter.unsupported(.operation, "== of dict views")
      case (.method, .method): throw meter.unsupported(.operation, "== of methods")
      default: break
      }
    default: break
    }
    if let a = text, let b = other.text {
      try meter.charge(min(a.utf8.count, b.utf8.count) / 16)
      return a.hasSameCodePoints(as: b)
    }
    if let a = integer, let b = other.integer { return a == b }
    if let a = number, let b = other.number {
      if let a = integer { return Int(exactly: b) == a }
      if let b = other.integer { return Int(exactly: a) == b }
      return a == b
    }
    return false
  }

  private static func equal(_ a: [JinjaValue], _ b: [JinjaValue], _ meter: Meter) throws(JinjaError) -> Bool {
    guard a.count == b.count else { return false }
    for i in a.indices where try !a[i].equals(b[i], meter) { return false }
    return true
  }
}

extension JinjaValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByFloatLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  package init(stringLiteral value: String) { self = .string(value) }
  package init(integerLiteral value: Int) { self = .int(value) }
  package init(booleanLiteral value: Bool) { self = .bool(value) }
  package init(floatLiteral value: Double) { self = .double(value) }
  package init(arrayLiteral elements: JinjaValue...) { self = .list(elements) }
  package init(dictionaryLiteral elements: (String, JinjaValue)...) { self = .dict(JinjaDict(elements)) }
}
