import Storage

/// The variables of a call of a macro, of a recursive loop or of the template.
final class Frame {
  var slots: [JinjaValue?]
  let parent: Frame?

  init(slotCount: Int, parent: Frame?) {
    slots = Array(repeating: nil, count: slotCount)
    self.parent = parent
  }
}

/// One rendering of a template: its statements, its output, and the objects that have identity.
final class Renderer {
  let template: JinjaTemplate
  let variables: [String: JinjaValue]
  let meter: Meter
  let time: JinjaTime?
  var frame: Frame
  /// The output of the template, macro or block that is rendered.
  private var output = ""
  var macros: [(macro: Macro, frame: Frame)] = []
  var namespaces: [JinjaDict] = []
  /// The elements of generators that are not read yet, last first.
  var iterators: [[JinjaValue]] = []
  var loops: [LoopState] = []
  private var loopIdentity = 0

  enum Flow { case next, breakLoop, continueLoop }

  init(_ template: JinjaTemplate, _ variables: [String: JinjaValue], _ limits: JinjaLimits, _ time: JinjaTime?) {
    self.template = template
    self.variables = variables
    self.time = time
    meter = Meter(limits)
    frame = Frame(slotCount: template.names.slotCounts[0], parent: nil)
  }

  func render() throws(JinjaError) -> String {
    for value in variables.values { try value.checkNesting(meter) }
    try enter(scope: 0)
    _ = try execute(template.parsed.body)
    return output
  }

  // MARK: - Output and variables

  private func write(_ text: String) throws(JinjaError) {
    try meter.charge(text: output.utf8.count + text.utf8.count, adding: text.utf8.count)
    output += text
  }

  /// The output of `body`.
  func capture(_ body: () throws(JinjaError) -> Void) throws(JinjaError) -> String {
    let outer = output
    output = ""
    try body()
    let captured = output
    output = outer
    return captured
  }

  private func frame(_ hops: Int) -> Frame {
    var frame = frame
    for _ in 0..<hops { if let parent = frame.parent { frame = parent } }
    return frame
  }

  func value(of mention: Int) -> JinjaValue {
    let place = template.names.places[mention]
    return frame(place.hops).slots[place.slot]
      ?? .transient(.undefined("\(JinjaError.quoted(template.parsed.names[mention].name)) is undefined"))
  }

  func store(_ value: JinjaValue, _ mention: Int) {
    let place = template.names.places[mention]
    frame(place.hops).slots[place.slot] = value
  }

  private func enter(scope: Int) throws(JinjaError) {
    try meter.charge(template.names.loads[scope].count)
    for (slot, load) in template.names.loads[scope] {
      switch load {
      case .undefined: frame.slots[slot] = nil
      case .resolve(let name):
        frame.slots[slot] =
          variables[name] ?? GlobalFunction(rawValue: name).map { .transient(.function($0)) }
      case .copy(let place): frame.slots[slot] = frame(place.hops).slots[place.slot]
      }
    }
  }

  func assign(_ value: JinjaValue, to target: Target) throws(JinjaError) {
    switch target {
    case .name(let mention): store(value, mention)
    case .attribute(let mention, let name):
      let object = self.value(of: mention)
      guard case .transient(.namespace(let place)) = object else {
        throw meter.evaluation("an attribute of a value of type \(object.typeName) is set; expected a namespace")
      }
      try setAttribute(name, value, namespace: place)
    case .tuple(let targets):
      let values = try elements(of: value)
      guard values.count == targets.count else {
        throw meter.evaluation("\(values.count) values for \(targets.count) variables")
      }
      for (target, value) in zip(targets, values) { try assign(value, to: target) }
    }
  }

  func setAttribute(_ name: String, _ value: JinjaValue, namespace: Int) throws(JinjaError) {
    if name.utf8.first == UInt8(ascii: "_") { throw meter.unsupported(.attribute, name) }
    namespaces[namespace].set(.string(name), .string(name), value)
  }

  // MARK: - Statements

  func execute(_ statements: [Statement]) throws(JinjaError) -> Flow {
    try meter.enter()
    for statement in statements {
      try meter.charge(1)
      let flow = try execute(statement)
      if flow != .next {
        meter.leave()
        return flow
      }
    }
    meter.leave()
    return .next
  }

  private func execute(_ statement: Statement) throws(JinjaError) -> Flow {
    switch statement {
    case .text(let text): try write(text)
    case .output(let expression, let line):
      meter.line = line
      try write(expression)
    case .conditional(let branches, let otherwise, let line):
      meter.line = line
      return try execute(branches, otherwise)
    case .loop(let loop): return try execute(loop)
    case .set(let target, let expression, let line):
      meter.line = line
      try assign(try evaluate(expression), to: target)
    case .setBlock(let target, let filters, let block, let line):
      return try execute(block, filters, line, target)
    case .filterBlock(let filters, let block, let line): return try execute(block, filters, line, nil)
    case .with(let bindings, let block, let line):
      meter.line = line
      try enter(scope: block.scope)
      for binding in bindings { try assign(try evaluate(binding.value), to: binding.target) }
      return try execute(block.body)
    case .macro(let macro): try define(macro)
    case .callBlock(let call, let macro, let line): try execute(call, caller: macro, line)
    case .scope(let block):
      try enter(scope: block.scope)
      return try execute(block.body)
    case .breakLoop: return .breakLoop
    case .continueLoop: return .continueLoop
    }
    return .next
  }

  private func write(_ expression: Expression) throws(JinjaError) {
    try write(try PythonText.string(of: try evaluate(expression), meter))
  }

  private func execute(
    _ branches: [(test: Expression, body: [Statement])], _ otherwise: [Statement]
  ) throws(JinjaError) -> Flow {
    for branch in branches where try evaluate(branch.test).isTrue { return try execute(branch.body) }
    return try execute(otherwise)
  }

  /// Renders a block whose output goes through filters, to a variable or to the output.
  private func execute(
    _ block: Block, _ filters: Expression?, _ line: Int, _ target: Target?
  ) throws(JinjaError) -> Flow {
    try enter(scope: block.scope)
    var flow = Flow.next
    let text = try capture { () throws(JinjaError) in flow = try execute(block.body) }
    // As in jinja2, a loop that is left inside of the block drops the block.
    if flow != .next { return flow }
    meter.line = line
    var value = JinjaValue.string(text)
    if let filters { value = try evaluate(filters, input: value) }
    if let target {
      try assign(value, to: target)
    } else {
      try write(try PythonText.string(of: value, meter))
    }
    return .next
  }

  // MARK: - Macros

  private func define(_ macro: Macro) throws(JinjaError) {
    try meter.charge(4)
    macros.append((macro, frame))
    if let name = macro.name { store(.transient(.macro(macros.count - 1)), name) }
  }

  private func execute(_ call: Expression, caller: Macro, _ line: Int) throws(JinjaError) {
    meter.line = line
    try define(caller)
    guard case .call(let callee, let arguments, _) = call else { return }
    var values = try evaluate(arguments)
    values.named.append(("caller", .transient(.macro(macros.count - 1))))
    let result = try self.call(try evaluate(callee), values)
    try write(try PythonText.string(of: result, meter))
  }

  func call(macro place: Int, _ arguments: Arguments) throws(JinjaError) -> JinjaValue {
    let (macro, definition) = macros[place]
    let line = meter.line
    let inner = Frame(slotCount: template.names.slotCounts[macro.block.scope], parent: definition)
    let outer = frame
    try meter.charge(8 + inner.slots.count)
    try meter.enter()
    var named = arguments.named
    func take(_ name: String) -> JinjaValue? {
      named.firstIndex { $0.name == name }.map { named.remove(at: $0).value }
    }
    var values: [JinjaValue?] = Array(arguments.positional.prefix(macro.parameters.count))
    for parameter in macro.parameters.dropFirst(values.count) { values.append(take(parameter.name)) }
    let caller: JinjaValue? =
      macro.caller == nil ? nil : take("caller") ?? JinjaValue.transient(.undefined("no caller is defined"))
    if macro.kwargs == nil, let extra = named.first {
      throw meter.evaluation("the macro takes no argument \(JinjaError.quoted(extra.name))")
    }
    if macro.varargs == nil, arguments.positional.count > macro.parameters.count {
      throw meter.evaluation(
        "the macro takes at most \(macro.parameters.count) arguments, found \(arguments.positional.count)")
    }
    frame = inner
    try enter(scope: macro.block.scope)
    if let place = macro.caller, let caller { store(caller, place) }
    if let place = macro.kwargs {
      store(try checked(.dict(JinjaDict(named.map { ($0.name, $0.value) }))), place)
    }
    if let place = macro.varargs {
      store(try checked(.tuple(Array(arguments.positional.dropFirst(macro.parameters.count)))), place)
    }
    for (parameter, value) in zip(macro.parameters, values) { if let value { store(value, parameter.place) } }
    let firstDefault = macro.parameters.count - macro.defaults.count
    for (i, value) in values.enumerated() where value == nil {
      let parameter = macro.parameters[i]
      let missing = "the parameter \(JinjaError.quoted(parameter.name)) is undefined"
      store(
        i >= firstDefault ? try evaluate(macro.defaults[i - firstDefault]) : .transient(.undefined(missing)),
        parameter.place)
    }
    let text = try capture { () throws(JinjaError) in _ = try execute(macro.block.body) }
    frame = outer
    meter.leave()
    meter.line = line
    return .string(text)
  }

  // MARK: - Loops

  private func execute(_ loop: ForLoop) throws(JinjaError) -> Flow {
    meter.line = loop.line
    let sequence = try evaluate(loop.sequence)
    if loop.isRecursive {
      try write(try renderRecursive(loop, sequence, definition: frame, depth: 0))
      return .next
    }
    return try run(loop, sequence, definition: frame, depth: 0)
  }

  func renderRecursive(
    _ loop: ForLoop, _ sequence: JinjaValue, definition: Frame, depth: Int
  ) throws(JinjaError) -> String {
    let outer = frame
    let inner = Frame(slotCount: template.names.slotCounts[loop.body.scope], parent: definition)
    try meter.charge(8 + inner.slots.count)
    try meter.enter()
    frame = inner
    let text = try capture { () throws(JinjaError) in
      _ = try run(loop, sequence, definition: definition, depth: depth)
    }
    frame = outer
    meter.leave()
    return text
  }

  private func run(
    _ loop: ForLoop, _ sequence: JinjaValue, definition: Frame, depth: Int
  ) throws(JinjaError) -> Flow {
    let items = try elements(of: sequence)
    loopIdentity += 1
    let place = loops.count
    loops.append(LoopState(loop: loop, items: items, depth: depth, identity: loopIdentity, definition: definition))
    if let test = loop.test { try enter(scope: test.scope) }
    var hasFinishedBody = false
    while let item = try nextItem(place) {
      loops[place].advance(to: item)
      try enter(scope: loop.body.scope)
      store(.transient(.loop(index: place, identity: loops[place].identity)), loop.loopName)
      try assign(item, to: loop.target)
      let flow = try execute(loop.body.body)
      if flow == .next { hasFinishedBody = true }
      if flow == .breakLoop { break }
    }
    let state = loops.removeLast()
    if case .transient(.iterator(let iterator)) = sequence {
      iterators[iterator] = state.items[min(state.position, state.items.count)...].reversed()
    }
    // As in jinja2, `else` runs unless an iteration reached the end of the body.
    if hasFinishedBody { return .next }
    try enter(scope: loop.otherwise.scope)
    return try execute(loop.otherwise.body)
  }

  /// The next element that passes the loop's condition.
  func nextItem(_ place: Int) throws(JinjaError) -> JinjaValue? {
    if let pending = loops[place].pending {
      loops[place].pending = nil
      return pending
    }
    while loops[place].position < loops[place].items.count {
      let item = loops[place].items[loops[place].position]
      loops[place].position += 1
      try meter.charge(1)
      guard !loops[place].hasTested, let test = loops[place].loop.test else { return item }
      try assign(item, to: test.target)
      if try evaluate(test.condition).isTrue { return item }
    }
    return nil
  }
}

/// The state of a running loop, which `loop` shows.
struct LoopState {
  let loop: ForLoop
  var items: [JinjaValue]
  let depth: Int
  let identity: Int
  let definition: Frame
  /// The element after the ones that were read.
  var position = 0
  /// Whether all elements that remain have passed the condition.
  var hasTested = false
  /// An element that was read early, for `loop.last` or `loop.nextitem`.
  var pending: JinjaValue?
  var index = -1
  var current: JinjaValue?
  var previous: JinjaValue?
  var changedValue: [JinjaValue]?
  /// The length, once it is known.
  var length: Int?

  init(loop: ForLoop, items: [JinjaValue], depth: Int, identity: Int, definition: Frame) {
    self.loop = loop
    self.items = items
    self.depth = depth
    self.identity = identity
    self.definition = definition
    length = loop.test == nil ? items.count : nil
  }

  mutating func advance(to item: JinjaValue) {
    index += 1
    previous = current
    current = item
  }
}
