import Storage

// MARK: - Filters of sequences and mappings

extension Renderer {
  func applyToElements(
    _ filter: Filter, _ value: JinjaValue, _ arguments: Arguments
  ) throws(JinjaError) -> JinjaValue {
    switch filter {
    case .map: return try map(value, arguments)
    case .select, .reject, .selectattr, .rejectattr: return try select(filter, value, arguments)
    case .sort: return try sort(value, arguments)
    case .unique: return try unique(value, arguments)
    case .min, .max: return try extreme(filter, value, arguments)
    case .sum: return try sum(value, arguments)
    case .dictsort: return try sortedItems(value, arguments)
    case .join:
      let values = try bind(arguments, ["d", "attribute"], filter)
      var items = try elements(of: value)
      if let path = values[1], !path.isNone { items = try attributes(path, of: items) }
      return .string(try joined(items, try PythonText.string(of: values[0] ?? "", meter)))
    default: break
    }
    try arguments.requireNone(of: filter.rawValue, meter)
    switch filter {
    case .list: return .list(try elements(of: value))
    case .length, .count: return .int(try length(of: value))
    case .first: return try first(of: value)
    case .last:
      if case .transient(.iterator) = value { throw meter.evaluation("'last' of a generator") }
      return try elements(of: value).last ?? .transient(.undefined("an empty sequence has no last item"))
    case .reverse: return try reversed(value)
    default:
      if value.isUndefined { return try makeIterator([]) }
      guard case .dict(let dict) = value else { throw meter.evaluation("'items' of a value of type \(value.typeName)") }
      return try makeIterator(dict.items)
    }
  }

  private func length(of value: JinjaValue) throws(JinjaError) -> Int {
    switch value {
    case .list(let items), .transient(.tuple(let items)): return items.count
    case .dict(let dict), .transient(.view(_, let dict)): return dict.count
    case .transient(.range(let range)): return range.count
    case .transient(.undefined): return 0
    case .transient(.loop): return try attribute("length", of: value).integer ?? 0
    default:
      guard let text = value.text else { throw meter.evaluation("the length of a value of type \(value.typeName)") }
      try meter.charge(text: text.utf8.count)
      return text.unicodeScalars.count
    }
  }

  private func first(of value: JinjaValue) throws(JinjaError) -> JinjaValue {
    let missing = JinjaValue.transient(.undefined("an empty sequence has no first item"))
    switch value {
    case .transient(.iterator(let place)): return iterators[place].popLast() ?? missing
    case .string(let text), .transient(.markup(let text)):
      return text.unicodeScalars.first.map { .string(String(Character($0))) } ?? missing
    case .list(let items), .transient(.tuple(let items)): return items.first ?? missing
    default: return try elements(of: value).first ?? missing
    }
  }

  private func reversed(_ value: JinjaValue) throws(JinjaError) -> JinjaValue {
    if let text = value.text {
      try meter.charge(text: 2 * text.utf8.count)
      return .string(String(String.UnicodeScalarView(text.unicodeScalars.reversed())))
    }
    let items = try elements(of: value)
    try meter.charge(items.count)
    if case .transient(.iterator) = value { return .list(items.reversed()) }
    return try makeIterator(items.reversed())
  }

  // MARK: - Attributes of elements

  private enum PathPart { case name(String), index(Int) }

  private func parts(of path: JinjaValue) throws(JinjaError) -> [PathPart] {
    if let index = path.integer { return [.index(index)] }
    let text = try path.requireText(of: "attribute", meter)
    try meter.charge(text.utf8.count)
    return text.split(separator: ".", omittingEmptySubsequences: false).map { part in
      let isNumber = !part.isEmpty && part.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 }
      return isNumber ? Int(part).map(PathPart.index) ?? .name(String(part)) : .name(String(part))
    }
  }

  private func attribute(
    _ parts: [PathPart], of value: JinjaValue, missing: JinjaValue? = nil
  ) throws(JinjaError) -> JinjaValue {
    var value = value
    for part in parts {
      try meter.charge(1)
      switch part {
      case .name(let name): value = try item(.string(name), of: value)
      case .index(let index): value = try item(.int(index), of: value)
      }
      if value.isUndefined, let missing { value = missing }
    }
    return value
  }

  private func attributes(_ path: JinjaValue, of items: [JinjaValue]) throws(JinjaError) -> [JinjaValue] {
    let parts = try parts(of: path)
    var result: [JinjaValue] = []
    for item in items { result.append(try attribute(parts, of: item)) }
    return result
  }

  /// The text in lower case if it is text and case does not count.
  private func folded(_ value: JinjaValue, _ isCaseSensitive: Bool) throws(JinjaError) -> JinjaValue {
    guard !isCaseSensitive, let text = value.text else { return value }
    try meter.charge(text: text.utf8.count)
    return .string(text.pythonLower)
  }

  // MARK: - map and select

  private func map(_ value: JinjaValue, _ arguments: Arguments) throws(JinjaError) -> JinjaValue {
    guard value.isTrue else { return try makeIterator([]) }
    var result: [JinjaValue] = []
    if arguments.positional.isEmpty, let path = arguments.named.first(where: { $0.name == "attribute" }) {
      let missing = arguments.named.first { $0.name == "default" }?.value
      for argument in arguments.named where argument.name != "attribute" && argument.name != "default" {
        throw meter.evaluation("'map' takes no argument \(JinjaError.quoted(argument.name))")
      }
      let parts = path.value.isNone ? [] : try parts(of: path.value)
      for item in try elements(of: value) {
        result.append(try attribute(parts, of: item, missing: missing?.isNone ?? true ? nil : missing))
      }
      return try makeIterator(result)
    }
    guard let name = arguments.positional.first else { throw meter.evaluation("'map' needs a filter") }
    let text = try name.requireText(of: "map", meter)
    guard let filter = Filter(rawValue: text) else { throw meter.unsupported(.filter, text) }
    var inner = arguments
    inner.positional.removeFirst()
    for item in try elements(of: value) {
      try meter.charge(1)
      result.append(try apply(filter, to: item, inner))
    }
    return try makeIterator(result)
  }

  private func select(_ filter: Filter, _ value: JinjaValue, _ arguments: Arguments) throws(JinjaError) -> JinjaValue {
    guard value.isTrue else { return try makeIterator([]) }
    var inner = arguments
    var path: [PathPart] = []
    if filter == .selectattr || filter == .rejectattr {
      guard let attribute = inner.positional.first else {
        throw meter.evaluation("'\(filter.rawValue)' needs an attribute")
      }
      path = attribute.isNone ? [] : try parts(of: attribute)
      inner.positional.removeFirst()
    }
    var test: Test?
    if let name = inner.positional.first {
      let text = try name.requireText(of: filter.rawValue, meter)
      guard let found = Test(rawValue: text) else { throw meter.unsupported(.test, text) }
      test = found
      inner.positional.removeFirst()
    }
    let selects = filter == .select || filter == .selectattr
    var result: [JinjaValue] = []
    for item in try elements(of: value) {
      try meter.charge(1)
      let operand = try attribute(path, of: item)
      let isTrue = if let test { try apply(test, to: operand, inner) } else { operand.isTrue }
      if isTrue == selects { result.append(item) }
    }
    return try makeIterator(result)
  }

  // MARK: - Order

  private func sort(_ value: JinjaValue, _ arguments: Arguments) throws(JinjaError) -> JinjaValue {
    let values = try bind(arguments, ["reverse", "case_sensitive", "attribute"], .sort)
    let isCaseSensitive = values[1]?.isTrue ?? false
    let items = try elements(of: value)
    var paths: [[PathPart]] = [[]]
    if let path = values[2], !path.isNone {
      if let text = path.text {
        paths = []
        try meter.charge(text.utf8.count)
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
          paths.append(try parts(of: .string(String(part))))
        }
      } else {
        paths = [try parts(of: path)]
      }
    }
    var keys: [JinjaValue] = []
    for item in items {
      var key: [JinjaValue] = []
      for path in paths { key.append(try folded(try attribute(path, of: item), isCaseSensitive)) }
      keys.append(.list(key))
    }
    let order = try Sorting.order(of: keys, isReversed: try isReversed(values[0]), meter)
    return .list(order.map { items[$0] })
  }

  private func isReversed(_ value: JinjaValue?) throws(JinjaError) -> Bool {
    try value?.requireInteger(of: "reverse", meter) ?? 0 != 0
  }

  private func sortedItems(_ value: JinjaValue, _ arguments: Arguments) throws(JinjaError) -> JinjaValue {
    let values = try bind(arguments, ["case_sensitive", "by", "reverse"], .dictsort)
    let by = values[1] ?? "key"
    guard by == "key" || by == "value" else { throw meter.evaluation("'dictsort' sorts by key or value") }
    if case .transient(.undefined(let reason)) = value { throw .undefined(reason, line: meter.line) }
    guard case .dict(let dict) = value else {
      throw meter.evaluation("'dictsort' of a value of type \(value.typeName)")
    }
    var keys: [JinjaValue] = []
    for entry in dict.entries {
      keys.append(try folded(by == "key" ? entry.key : entry.value, values[0]?.isTrue ?? false))
    }
    let order = try Sorting.order(of: keys, isReversed: try isReversed(values[2]), meter)
    let items = dict.items
    return .list(order.map { items[$0] })
  }

  private func unique(_ value: JinjaValue, _ arguments: Arguments) throws(JinjaError) -> JinjaValue {
    let values = try bind(arguments, ["case_sensitive", "attribute"], .unique)
    let path = try values[1].map { (path) throws(JinjaError) in path.isNone ? [] : try parts(of: path) } ?? []
    var seen: Set<JinjaKey> = []
    var result: [JinjaValue] = []
    for item in try elements(of: value) {
      let folded = try folded(try attribute(path, of: item), values[0]?.isTrue ?? false)
      if seen.insert(try key(folded)).inserted { result.append(item) }
    }
    return try makeIterator(result)
  }

  private func extreme(_ filter: Filter, _ value: JinjaValue, _ arguments: Arguments) throws(JinjaError) -> JinjaValue {
    let values = try bind(arguments, ["case_sensitive", "attribute"], filter)
    let path = try values[1].map { (path) throws(JinjaError) in path.isNone ? [] : try parts(of: path) } ?? []
    var best: (item: JinjaValue, key: JinjaValue)?
    for item in try elements(of: value) {
      let key = try folded(try attribute(path, of: item), values[0]?.isTrue ?? false)
      if let current = best {
        guard try Operators.compare(filter == .min ? .less : .greater, key, current.key, meter) else { continue }
      }
      best = (item, key)
    }
    return best?.item ?? .transient(.undefined("an empty sequence has no \(filter.rawValue)"))
  }

  private func sum(_ value: JinjaValue, _ arguments: Arguments) throws(JinjaError) -> JinjaValue {
    let values = try bind(arguments, ["attribute", "start"], .sum)
    var items = try elements(of: value)
    if let path = values[0], !path.isNone { items = try attributes(path, of: items) }
    var total = values[1] ?? .int(0)
    if total.text != nil { throw meter.evaluation("'sum' of strings") }
    try meter.charge(items.count)
    for item in items { total = try Operators.apply(.add, total, item, meter) }
    return total
  }
}
