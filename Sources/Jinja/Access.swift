// MARK: - Elements, attributes and items of values

extension Renderer {
  /// The elements that a loop over the value has. A generator has none afterwards.
  func elements(of value: JinjaValue) throws(JinjaError) -> [JinjaValue] {
    switch value {
    case .list(let items), .transient(.tuple(let items)): return items
    case .string(let text), .transient(.markup(let text)):
      try meter.charge(text.utf8.count)
      return text.codePoints
    case .dict(let dict), .transient(.view(.keys, let dict)):
      try meter.charge(dict.count)
      return dict.entries.map(\.key)
    case .transient(.view(.values, let dict)):
      try meter.charge(dict.count)
      return dict.entries.map(\.value)
    case .transient(.view(.items, let dict)):
      try meter.charge(dict.count)
      return dict.items
    case .transient(.range(let range)):
      try meter.charge(range.count)
      return (0..<range.count).map { .int(range[$0]) }
    case .transient(.iterator(let place)):
      let items = iterators[place]
      iterators[place] = []
      try meter.charge(items.count)
      return items.reversed()
    case .transient(.undefined): return []
    case .transient(.loop): throw meter.unsupported(.operation, "iteration over 'loop'")
    default: throw meter.evaluation("a value of type \(value.typeName) has no elements")
    }
  }

  func makeIterator(_ items: [JinjaValue]) throws(JinjaError) -> JinjaValue {
    try meter.charge(1 + items.count)
    // A list of the elements is one level deeper.
    for item in items { try item.checkNesting(meter, depth: 2) }
    iterators.append(items.reversed())
    return .transient(.iterator(iterators.count - 1))
  }

  func loop(_ place: Int, _ identity: Int) throws(JinjaError) -> LoopState {
    guard place < loops.count, loops[place].identity == identity else {
      throw meter.unsupported(.operation, "'loop' after its loop")
    }
    return loops[place]
  }

  func attribute(_ name: String, of object: JinjaValue) throws(JinjaError) -> JinjaValue {
    try refuseInternal(name)
    switch object {
    case .transient(.undefined(let reason)): throw .undefined(reason, line: meter.line)
    case .transient(.namespace(let place)):
      if let value = namespaces[place][name] { return value }
    case .transient(.loop(let place, let identity)):
      return try loopAttribute(name, place, try loop(place, identity))
    case .transient(.macro), .transient(.function), .transient(.method):
      throw meter.unsupported(.attribute, name)
    default:
      if let method = try method(name, of: object) { return method }
      if case .dict(let dict) = object {
        try meter.charge(text: name.utf8.count)
        if let value = dict[name] { return value }
      }
    }
    return .transient(
      .undefined("\(object.typeName) has no attribute \(JinjaError.quoted(name))"))
  }

  /// The method of this name, nil if the Python type has no attribute of this name.
  private func method(_ name: String, of object: JinjaValue) throws(JinjaError) -> JinjaValue? {
    if Methods.supported(by: object).contains(name) { return .transient(.method(object, name)) }
    if Methods.changing(object).contains(name) {
      return .transient(.undefined("'\(name)' would change the \(object.typeName), which a template cannot"))
    }
    if Methods.others(of: object).contains(name) { throw meter.unsupported(.attribute, name) }
    return nil
  }

  private func refuseInternal(_ name: String) throws(JinjaError) {
    if name.hasPrefix("__") { throw meter.unsupported(.attribute, name) }
  }

  func item(_ index: JinjaValue, of object: JinjaValue) throws(JinjaError) -> JinjaValue {
    switch object {
    case .transient(.undefined(let reason)): throw .undefined(reason, line: meter.line)
    case .dict(let dict):
      if let key = try JinjaKey.metered(index, meter), let value = dict[key] { return value }
    case .transient(.namespace), .transient(.loop):
      if let name = index.text { return try attribute(name, of: object) }
    default:
      if let position = index.integer, let value = try element(position, of: object) { return value }
    }
    if let name = index.text {
      try refuseInternal(name)
      if let method = try method(name, of: object) { return method }
      return .transient(.undefined("\(object.typeName) has no attribute \(JinjaError.quoted(name))"))
    }
    return .transient(.undefined("\(object.typeName) has no such element"))
  }

  /// The element at a position, from the end if it is negative.
  private func element(_ position: Int, of object: JinjaValue) throws(JinjaError) -> JinjaValue? {
    if let items = object.sequence {
      let index = position < 0 ? items.count + position : position
      return items.indices.contains(index) ? items[index] : nil
    }
    if let text = object.text {
      try meter.charge(text: text.utf8.count)
      let scalars = text.unicodeScalars
      let index =
        position < 0
        ? scalars.index(scalars.endIndex, offsetBy: position, limitedBy: scalars.startIndex)
        : scalars.index(scalars.startIndex, offsetBy: position, limitedBy: scalars.endIndex)
      return index.flatMap { $0 == scalars.endIndex ? nil : .string(String(Character(scalars[$0]))) }
    }
    if case .transient(.range(let range)) = object {
      let index = position < 0 ? range.count + position : position
      return (0..<range.count).contains(index) ? .int(range[index]) : nil
    }
    return nil
  }

  private func loopAttribute(_ name: String, _ place: Int, _ state: LoopState) throws(JinjaError) -> JinjaValue {
    switch name {
    case "index": return .int(state.index + 1)
    case "index0": return .int(state.index)
    case "first": return .bool(state.index == 0)
    case "depth": return .int(state.depth + 1)
    case "depth0": return .int(state.depth)
    case "previtem":
      return state.index == 0 ? .transient(.undefined("there is no previous item")) : state.previous ?? JinjaValue.none
    case "last": return .bool(try peek(place) == nil)
    case "nextitem": return try peek(place) ?? .transient(.undefined("there is no next item"))
    case "length": return .int(try loopLength(place))
    case "revindex": return .int(try loopLength(place) - state.index)
    case "revindex0": return .int(try loopLength(place) - state.index - 1)
    case "cycle", "changed": return .transient(.method(.transient(.loop(index: place, identity: state.identity)), name))
    default: return .transient(.undefined("'loop' has no attribute \(JinjaError.quoted(name))"))
    }
  }

  private func peek(_ place: Int) throws(JinjaError) -> JinjaValue? {
    if loops[place].pending == nil { loops[place].pending = try nextItem(place) }
    return loops[place].pending
  }

  /// The number of elements; the condition of the loop is evaluated for all that remain.
  private func loopLength(_ place: Int) throws(JinjaError) -> Int {
    if let length = loops[place].length { return length }
    var remaining: [JinjaValue] = []
    let pending = loops[place].pending
    loops[place].pending = nil
    while let item = try nextItem(place) { remaining.append(item) }
    let length = remaining.count + loops[place].index + 1 + (pending == nil ? 0 : 1)
    loops[place].replaceRemaining(remaining, pending: pending)
    loops[place].length = length
    return length
  }
}

extension LoopState {
  /// Sets the elements that remain, which passed the condition.
  mutating func replaceRemaining(_ items: [JinjaValue], pending: JinjaValue?) {
    self.items = items
    self.pending = pending
    position = 0
    hasTested = true
  }
}

extension JinjaValue {
  /// Refuses a value that nests too deep for the recursion of this interpreter.
  func checkNesting(_ meter: Meter, depth: Int = 1) throws(JinjaError) {
    guard depth <= JinjaLimits.valueNesting else {
      throw .limit("a value nests deeper than \(JinjaLimits.valueNesting) levels", line: meter.line)
    }
    switch self {
    case .list(let items), .transient(.tuple(let items)):
      try meter.charge(items.count)
      for item in items { try item.checkNesting(meter, depth: depth + 1) }
    case .dict(let dict), .transient(.view(_, let dict)):
      try meter.charge(dict.count)
      for entry in dict.entries {
        try entry.key.checkNesting(meter, depth: depth + 1)
        try entry.value.checkNesting(meter, depth: depth + 1)
      }
    case .transient(.method(let object, _)): try object.checkNesting(meter, depth: depth + 1)
    default: break
    }
  }
}
