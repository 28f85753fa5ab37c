/// The methods of Python's types that templates can call.
enum Methods {
  private static let strings: Set<String> = [
    "capitalize", "center", "count", "endswith", "find", "format", "index", "isalnum", "isalpha", "isascii", "isdigit",
    "islower", "isnumeric", "isspace", "isupper", "join", "ljust", "lower", "lstrip", "partition", "removeprefix",
    "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip", "split", "splitlines",
    "startswith", "strip", "swapcase", "title", "upper", "zfill",
  ]
  private static let otherStrings: Set<String> = [
    "casefold", "encode", "expandtabs", "format_map", "isdecimal", "isidentifier", "isprintable", "istitle",
    "maketrans", "translate",
  ]
  private static let dicts: Set<String> = ["copy", "get", "items", "keys", "values"]
  private static let dictChanges: Set<String> = ["clear", "pop", "popitem", "setdefault", "update"]
  private static let lists: Set<String> = ["copy", "count", "index"]
  private static let listChanges: Set<String> = [
    "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort",
  ]
  private static let tuples: Set<String> = ["count", "index"]
  private static let loops: Set<String> = ["changed", "cycle"]
  private static let integers: Set<String> = [
    "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "from_bytes", "imag", "numerator",
    "real", "to_bytes",
  ]
  private static let floats: Set<String> = [
    "as_integer_ratio", "conjugate", "fromhex", "hex", "imag", "is_integer", "real",
  ]
  private static let ranges: Set<String> = ["count", "index", "start", "step", "stop"]
  private static let generators: Set<String> = ["close", "send", "throw"]
  private static let views: Set<String> = ["isdisjoint", "mapping"]

  /// The names that a call may have.
  static let names: Set<String> = strings.union(dicts).union(dictChanges).union(lists).union(listChanges).union(loops)

  static func supported(by value: JinjaValue) -> Set<String> {
    switch value {
    case .string: strings
    case .dict: dicts
    case .list: lists
    case .transient(.tuple): tuples
    default: []
    }
  }

  /// The methods that change the value, which the sandbox of transformers refuses.
  static func changing(_ value: JinjaValue) -> Set<String> {
    switch value {
    case .dict: dictChanges
    case .list: listChanges
    default: []
    }
  }

  /// The other attributes of the Python type.
  static func others(of value: JinjaValue) -> Set<String> {
    switch value {
    case .string: otherStrings
    case .transient(.markup): strings.union(otherStrings)
    case .dict: ["fromkeys"]
    case .int, .bool: integers
    case .double: floats
    case .transient(.range): ranges
    case .transient(.iterator): generators
    case .transient(.view): views
    default: []
    }
  }
}

extension Renderer {
  func callMethod(_ name: String, of object: JinjaValue, _ arguments: Arguments) throws(JinjaError) -> JinjaValue {
    switch object {
    case .string(let text): try callMethod(name, of: text, arguments)
    case .dict(let dict): try callMethod(name, of: dict, arguments)
    case .list(let items), .transient(.tuple(let items)): try callMethod(name, of: object, items, arguments)
    case .transient(.loop(let place, let identity)): try callLoop(name, place, identity, arguments)
    default: throw meter.unsupported(.method, name)
    }
  }

  private func callMethod(_ name: String, of dict: JinjaDict, _ arguments: Arguments) throws(JinjaError) -> JinjaValue {
    if name == "get" {
      guard arguments.named.isEmpty else { throw meter.evaluation("'get' takes no named arguments") }
      let values = try arguments.bind(["key", "default"], required: 1, to: name, meter)
      return dict[try key(values[0] ?? JinjaValue.none)] ?? values[1] ?? JinjaValue.none
    }
    try arguments.requireNone(of: name, meter)
    switch name {
    case "items": return .transient(.view(.items, dict))
    case "keys": return .transient(.view(.keys, dict))
    case "values": return .transient(.view(.values, dict))
    default: return .dict(dict)
    }
  }

  private func callMethod(
    _ name: String, of object: JinjaValue, _ items: [JinjaValue], _ arguments: Arguments
  ) throws(JinjaError) -> JinjaValue {
    if name == "copy" {
      try arguments.requireNone(of: name, meter)
      return object
    }
    guard arguments.named.isEmpty, name == "index" || arguments.positional.count == 1 else {
      throw meter.unsupported(.operation, "\(name) with these arguments")
    }
    let value = try arguments.single(of: name, meter)
    var count = 0
    for (place, item) in items.enumerated() where try item.equals(value, meter) {
      if name == "index" { return .int(place) }
      count += 1
    }
    if name == "index" { throw meter.evaluation("'index' of an element that the \(object.typeName) does not have") }
    return .int(count)
  }

  private func callLoop(
    _ name: String, _ place: Int, _ identity: Int, _ arguments: Arguments
  ) throws(JinjaError) -> JinjaValue {
    let state = try loop(place, identity)
    guard arguments.named.isEmpty else { throw meter.evaluation("'\(name)' takes no named arguments") }
    if name == "cycle" {
      let values = arguments.positional
      if values.isEmpty { throw meter.evaluation("'cycle' needs an argument") }
      return values[state.index % values.count]
    }
    let values = arguments.positional
    if let last = state.changedValue, try JinjaValue.list(last).equals(.list(values), meter) { return false }
    loops[place].changedValue = values
    return true
  }
}
