/// The place of a variable: frames up from the current one, and the slot in that frame.
struct SlotPlace: Sendable {
  var hops: Int
  var slot: Int
}

/// A value that a slot gets when its scope is entered.
enum SlotLoad: Sendable {
  case undefined
  /// The variable of the conversation, or the global function, of this name.
  case resolve(String)
  /// A copy of a variable of an outer scope.
  case copy(SlotPlace)
}

/// The variables of a template, as jinja2 finds them before it renders.
///
/// A scope is the template, a loop body, a macro or another block. A name that a scope stores is a variable of its
/// own, which starts as a copy of the outer one. Macros and recursive loops have frames of slots.
struct ResolvedNames: Sendable {
  /// For each mention of a name, its place.
  var places: [SlotPlace]
  /// For each scope, the slots to load when it is entered.
  var loads: [[(slot: Int, load: SlotLoad)]]
  /// For each scope that has a frame, the number of its slots.
  var slotCounts: [Int]
}

/// The frame of a macro, of a recursive loop or of the template.
private final class FrameLayout {
  let level: Int
  var slotCount = 0
  init(level: Int) { self.level = level }
}

/// The names of one scope; a branch of an `if` has a part of its own, which is merged into its scope.
private final class Symbols {
  let parent: Symbols?
  /// The scope or branch that a branch belongs to.
  let base: Symbols?
  let frame: FrameLayout
  var slots: [String: Int] = [:]
  var loads: [Int: SlotLoad] = [:]
  var stores: Set<String> = []
  /// The slots that all branches of the scope share.
  let pool: Pool

  final class Pool { var slots: [String: Int] = [:] }

  init(parent: Symbols?, frame: FrameLayout) {
    self.parent = parent
    base = nil
    self.frame = frame
    pool = Pool()
  }

  init(branchOf base: Symbols) {
    parent = base.parent
    self.base = base
    frame = base.frame
    pool = base.pool
  }

  func ownSlot(_ name: String) -> Int? { slots[name] ?? base?.ownSlot(name) }

  func place(of name: String, from frame: FrameLayout) -> SlotPlace? {
    if let slot = ownSlot(name) { return SlotPlace(hops: frame.level - self.frame.level, slot: slot) }
    return parent?.place(of: name, from: frame)
  }

  private func isStored(_ name: String) -> Bool { stores.contains(name) || base?.isStored(name) ?? false }

  private func define(_ name: String, _ load: SlotLoad?) {
    let slot =
      pool.slots[name]
      ?? {
        let slot = frame.slotCount
        frame.slotCount += 1
        pool.slots[name] = slot
        return slot
      }()
    slots[name] = slot
    if let load { loads[slot] = load }
  }

  func store(_ name: String) {
    stores.insert(name)
    guard ownSlot(name) == nil else { return }
    define(name, parent?.place(of: name, from: frame).map(SlotLoad.copy) ?? .undefined)
  }

  func declare(_ name: String) {
    stores.insert(name)
    define(name, nil)
    if let slot = slots[name] { loads[slot] = nil }
  }

  func load(_ name: String) {
    if place(of: name, from: frame) == nil { define(name, .resolve(name)) }
  }

  /// Whether the name is a variable of the conversation or a global function, and never stored.
  func isOnlyResolved(_ name: String) -> Bool {
    guard let slot = ownSlot(name) else { return parent?.isOnlyResolved(name) ?? false }
    if case .resolve = loads[slot] { return !isStored(name) }
    return false
  }

  /// Merges the branches of an `if`. What only they store is loaded as if it was mentioned before.
  func merge(_ branches: [Symbols]) {
    var stored: Set<String> = []
    for branch in branches { stored.formUnion(branch.stores.lazy.filter { !self.isStored($0) }) }
    for branch in branches {
      slots.merge(branch.slots) { $1 }
      loads.merge(branch.loads) { $1 }
      stores.formUnion(branch.stores)
    }
    for name in stored {
      guard let slot = ownSlot(name) else { continue }
      loads[slot] = parent?.place(of: name, from: frame).map(SlotLoad.copy) ?? .resolve(name)
    }
  }
}

/// Finds the variables of a template.
///
/// Each scope is read twice: first for the names that it stores, then for the places of its mentions.
struct NameResolver {
  private let template: ParsedTemplate
  private let called: Set<Int>
  private var resolved: ResolvedNames

  static func resolve(_ template: ParsedTemplate) throws(JinjaError) -> ResolvedNames {
    let empty = ResolvedNames(
      places: Array(repeating: SlotPlace(hops: 0, slot: 0), count: template.names.count),
      loads: Array(repeating: [], count: template.scopeCount),
      slotCounts: Array(repeating: 0, count: template.scopeCount))
    var resolver = NameResolver(template: template, called: Set(template.calledNames), resolved: empty)
    let root = Symbols(parent: nil, frame: FrameLayout(level: 0))
    resolver.collect(template.body, root)
    try resolver.place(template.body, root, inLoop: false)
    resolver.finish(0, root)
    return resolver.resolved
  }

  private func name(_ mention: Int) -> String { template.names[mention].name }

  private mutating func finish(_ scope: Int, _ symbols: Symbols) {
    resolved.loads[scope] = symbols.loads.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    resolved.slotCounts[scope] = symbols.frame.slotCount
  }

  // MARK: - Names of a scope

  private func collect(_ statements: [Statement], _ symbols: Symbols) {
    for statement in statements {
      switch statement {
      case .text, .scope, .breakLoop, .continueLoop: break
      case .output(let value, _): collect(value, symbols)
      case .conditional(let branches, let otherwise, _): collect(branches, otherwise: otherwise, symbols)
      case .loop(let loop): collect(loop.sequence, symbols)
      case .set(let target, let value, _):
        collect(value, symbols)
        store(target, symbols)
      case .setBlock(let target, _, _, _): store(target, symbols)
      case .filterBlock(let filters, _, _): collect(filters, symbols)
      case .with(let bindings, _, _): for binding in bindings { collect(binding.value, symbols) }
      case .macro(let macro): if let mention = macro.name { symbols.store(name(mention)) }
      case .callBlock(let call, _, _): collect(call, symbols)
      }
    }
  }

  private func collect(
    _ branches: [(test: Expression, body: [Statement])], otherwise: [Statement], _ symbols: Symbols
  ) {
    collect(branches[0].test, symbols)
    let first = Symbols(branchOf: symbols)
    collect(branches[0].body, first)
    // As in jinja2, each `elif` is an `if` in a branch that all of them share.
    let others = Symbols(branchOf: symbols)
    for branch in branches.dropFirst() {
      collect(branch.test, others)
      let body = Symbols(branchOf: others)
      collect(branch.body, body)
      others.merge([body])
    }
    let last = Symbols(branchOf: symbols)
    collect(otherwise, last)
    symbols.merge([first, others, last])
  }

  private func collect(_ expression: Expression, _ symbols: Symbols) {
    expression.forEachMention { symbols.load(name($0)) }
  }

  private func store(_ target: Target, _ symbols: Symbols) {
    switch target {
    case .name(let mention): symbols.store(name(mention))
    case .attribute(let mention, _): symbols.load(name(mention))
    case .tuple(let targets): for target in targets { store(target, symbols) }
    }
  }

  private func declare(_ target: Target, _ symbols: Symbols) {
    switch target {
    case .name(let mention), .attribute(let mention, _): symbols.declare(name(mention))
    case .tuple(let targets): for target in targets { declare(target, symbols) }
    }
  }

  // MARK: - Places of mentions

  private mutating func place(_ mention: Int, _ symbols: Symbols) throws(JinjaError) {
    let (name, line) = template.names[mention]
    guard let place = symbols.place(of: name, from: symbols.frame) else {
      preconditionFailure("a mention that no scope collected")
    }
    resolved.places[mention] = place
    // A call of a function that neither the template nor the interpreter defines, and that no test protects.
    if called.contains(mention), symbols.isOnlyResolved(name), GlobalFunction(rawValue: name) == nil,
      !template.guardedNames.contains(name)
    {
      throw .unsupported(.function, name: name, line: line)
    }
  }

  private mutating func place(_ expression: Expression, _ symbols: Symbols) throws(JinjaError) {
    var mentions: [Int] = []
    expression.forEachMention { mentions.append($0) }
    for mention in mentions { try place(mention, symbols) }
  }

  private mutating func place(_ target: Target, _ symbols: Symbols, inLoop: Bool) throws(JinjaError) {
    switch target {
    case .name(let mention):
      guard !inLoop || name(mention) != "loop" else {
        throw .syntax("an assignment to 'loop' in a loop", line: template.names[mention].line)
      }
      try place(mention, symbols)
    case .attribute(let mention, _): try place(mention, symbols)
    case .tuple(let targets): for target in targets { try place(target, symbols, inLoop: inLoop) }
    }
  }

  private mutating func place(_ statements: [Statement], _ symbols: Symbols, inLoop: Bool) throws(JinjaError) {
    for statement in statements {
      switch statement {
      case .text, .breakLoop, .continueLoop: break
      case .output(let value, _): try place(value, symbols)
      case .conditional(let branches, let otherwise, _):
        for branch in branches {
          try place(branch.test, symbols)
          try place(branch.body, symbols, inLoop: inLoop)
        }
        try place(otherwise, symbols, inLoop: inLoop)
      case .loop(let loop): try place(loop, symbols)
      case .set(let target, let value, _):
        try place(value, symbols)
        try place(target, symbols, inLoop: inLoop)
      case .setBlock(let target, let filters, let block, _):
        try place(target, symbols, inLoop: inLoop)
        try place(block, filters, Symbols(parent: symbols, frame: symbols.frame), inLoop: inLoop)
      case .filterBlock(let filters, let block, _):
        try place(block, filters, Symbols(parent: symbols, frame: symbols.frame), inLoop: inLoop)
      case .with(let bindings, let block, _):
        let inner = Symbols(parent: symbols, frame: symbols.frame)
        for binding in bindings { declare(binding.target, inner) }
        for binding in bindings {
          try place(binding.value, symbols)
          try place(binding.target, inner, inLoop: inLoop)
        }
        try place(block, nil, inner, inLoop: inLoop)
      case .macro(let macro):
        if let mention = macro.name { try place(mention, symbols) }
        try place(macro, symbols, inLoop: inLoop)
      case .callBlock(let call, let macro, _):
        try place(call, symbols)
        try place(macro, symbols, inLoop: inLoop)
      case .scope(let block):
        try place(block, nil, Symbols(parent: symbols, frame: symbols.frame), inLoop: inLoop)
      }
    }
  }

  private mutating func place(
    _ block: Block, _ filters: Expression?, _ symbols: Symbols, inLoop: Bool
  ) throws(JinjaError) {
    collect(block.body, symbols)
    if let filters {
      collect(filters, symbols)
      try place(filters, symbols)
    }
    try place(block.body, symbols, inLoop: inLoop)
    finish(block.scope, symbols)
  }

  private mutating func place(_ loop: ForLoop, _ symbols: Symbols) throws(JinjaError) {
    try place(loop.sequence, symbols)
    let frame = loop.isRecursive ? FrameLayout(level: symbols.frame.level + 1) : symbols.frame
    if let test = loop.test {
      let inner = Symbols(parent: symbols, frame: frame)
      declare(test.target, inner)
      collect(test.condition, inner)
      try place(test.target, inner, inLoop: true)
      try place(test.condition, inner)
      finish(test.scope, inner)
    }
    let otherwise = Symbols(parent: symbols, frame: frame)
    try place(loop.otherwise, nil, otherwise, inLoop: true)
    let inner = Symbols(parent: symbols, frame: frame)
    inner.declare("loop")
    declare(loop.target, inner)
    collect(loop.body.body, inner)
    try place(loop.loopName, inner)
    try place(loop.target, inner, inLoop: true)
    try place(loop.body.body, inner, inLoop: true)
    finish(loop.body.scope, inner)
  }

  private mutating func place(_ macro: Macro, _ symbols: Symbols, inLoop: Bool) throws(JinjaError) {
    let inner = Symbols(parent: symbols, frame: FrameLayout(level: symbols.frame.level + 1))
    let implicit = [macro.caller, macro.varargs, macro.kwargs].compactMap { $0 }
    for parameter in macro.parameters { inner.declare(parameter.name) }
    for mention in implicit { inner.declare(name(mention)) }
    for value in macro.defaults { collect(value, inner) }
    collect(macro.block.body, inner)
    for parameter in macro.parameters { try place(parameter.place, inner) }
    for mention in implicit { try place(mention, inner) }
    for value in macro.defaults { try place(value, inner) }
    try place(macro.block.body, inner, inLoop: inLoop)
    finish(macro.block.scope, inner)
  }
}

extension Expression {
  /// Visits the variables in the order of the source.
  func forEachMention(_ visit: (Int) -> Void) {
    switch self {
    case .constant: break
    case .name(let mention): visit(mention)
    case .tuple(let items), .list(let items), .and(let items), .or(let items), .concatenation(let items, _):
      for item in items { item.forEachMention(visit) }
    case .dict(let entries):
      for entry in entries {
        entry.key.forEachMention(visit)
        entry.value.forEachMention(visit)
      }
    case .attribute(let base, _, _), .not(let base), .negative(let base, _), .positive(let base, _):
      base.forEachMention(visit)
    case .item(let base, let index, _):
      base.forEachMention(visit)
      index.forEachMention(visit)
    case .slice(let base, let start, let stop, let step, _):
      base.forEachMention(visit)
      for bound in [start, stop, step] { bound?.forEachMention(visit) }
    case .call(let callee, let arguments, _):
      callee.forEachMention(visit)
      arguments.forEachMention(visit)
    case .filter(_, let input, let arguments, _):
      input?.forEachMention(visit)
      arguments.forEachMention(visit)
    case .test(_, let operand, let arguments, _):
      operand.forEachMention(visit)
      arguments.forEachMention(visit)
    case .arithmetic(let first, let operations, _):
      first.forEachMention(visit)
      for operation in operations { operation.operand.forEachMention(visit) }
    case .comparison(let first, let operations, _):
      first.forEachMention(visit)
      for operation in operations { operation.operand.forEachMention(visit) }
    case .conditional(let value, let test, let otherwise):
      test.forEachMention(visit)
      value.forEachMention(visit)
      otherwise?.forEachMention(visit)
    }
  }
}

extension CallArguments {
  fileprivate func forEachMention(_ visit: (Int) -> Void) {
    for value in positional { value.forEachMention(visit) }
    for argument in named { argument.value.forEachMention(visit) }
    unpackedPositional?.forEachMention(visit)
    unpackedNamed?.forEachMention(visit)
  }
}
