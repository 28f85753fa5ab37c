import Storage

/// Reads a JSON schema of a subset of 2020-12 and draft 7.
///
/// - `type`, one or a list; without it, the types that the other keywords apply to
/// - objects: `properties`, `required`, `additionalProperties`. Answers have the declared keys only, in this order; without
///   `properties`, any keys. Keys in `required` must be declared.
/// - arrays: `items`, `minItems`, `maxItems`
/// - strings: `minLength`, `maxLength`, `pattern`, `format`
/// - numbers: `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`
/// - `enum` and `const`, beside `type` only; `anyOf`, `$ref` to a JSON pointer of this schema, and `allOf` of one schema,
///   beside annotations only
/// - `true` and `{}` for any value
///
/// Every value that an answer can have is valid, but not every valid value can be an answer. Other keywords are refused,
/// except those that only annotate.
struct SchemaReader {
  /// An object or array whose keywords are still to be read.
  private struct Task {
    var schema: Schema
    var container: Int
    var isObject: Bool
  }

  private(set) var terminals = TerminalTable()
  private(set) var containers: [Container] = []
  private var document: JSONDocument
  private var edgeCount = 0
  private var pointerBytes = 0
  private var tasks: [Task] = []
  /// The values of the schemas at their places; nil while one is read.
  private var known: [JSONPointer: [Value]?] = [:]
  private var anyValues: [Value] = []

  /// Reads a schema.
  ///
  /// - Returns: The values of the whole answer.
  static func read(_ schema: JSONValue) throws(GrammarError) -> (reader: SchemaReader, values: [Value]) {
    var reader = SchemaReader(document: JSONDocument(schema))
    let size = reader.size(of: schema, limit: GrammarLimits.sourceBytes, depth: 0)
    guard size <= GrammarLimits.sourceBytes else {
      throw .limit("a schema above \(GrammarLimits.sourceBytes) bytes or \(JSONParser.depthLimit) levels")
    }
    let values = try reader.values(of: schema, at: .root, depth: 0)
    // Objects and arrays are read when their parents are complete, so that references may lead back to them.
    while let task = reader.tasks.popLast() {
      reader.containers[task.container] = try task.isObject ? reader.object(task.schema) : reader.array(task.schema)
    }
    return (reader, values)
  }

  /// Any JSON object.
  static func anyObject() throws(GrammarError) -> (reader: SchemaReader, values: [Value]) {
    var reader = SchemaReader(document: JSONDocument(.bool(true)))
    let values = reader.any()
    return (
      reader, values.filter { if case .container(let i) = $0, case .map = reader.containers[i] { true } else { false } }
    )
  }

  private init(document: JSONDocument) { self.document = document }

  /// The approximate size of a value's text, or more than `limit`.
  private func size(of value: JSONValue, limit: Int, depth: Int) -> Int {
    guard depth <= JSONParser.depthLimit else { return limit + 1 }
    var size = 1
    switch value {
    case .string(let text): size += text.utf8.count
    case .array(let items):
      for item in items where size <= limit { size += self.size(of: item, limit: limit - size, depth: depth + 1) }
    case .object(let members):
      for member in members where size <= limit {
        size += member.key.utf8.count + self.size(of: member.value, limit: limit - size, depth: depth + 1)
      }
    default: break
    }
    return size
  }

  // MARK: - Schemas

  private mutating func values(
    of schema: JSONValue, at pointer: JSONPointer, depth: Int
  ) throws(GrammarError) -> [Value] {
    pointerBytes += pointer.byteCount
    guard pointerBytes <= GrammarLimits.pointerBytes else {
      throw .limit("the keys of a schema with many parts are too long")
    }
    if let values = known[pointer] {
      guard let values else {
        throw .schema(pointer: "\(pointer)", problem: "the schema refers to itself without a value")
      }
      return values
    }
    guard depth <= GrammarLimits.referenceDepth else {
      throw .schema(
        pointer: "\(pointer)", problem: "references nest deeper than \(GrammarLimits.referenceDepth) levels")
    }
    known[pointer] = .some(nil)
    let values = try read(schema, pointer, depth)
    known[pointer] = values
    edgeCount += values.count
    guard edgeCount <= GrammarLimits.edges else { throw .limit("the schema has too many alternatives") }
    return values
  }

  private mutating func read(
    _ value: JSONValue, _ pointer: JSONPointer, _ depth: Int
  ) throws(GrammarError) -> [Value] {
    if let admitsAny = value.bool {
      guard admitsAny else { throw .schema(pointer: "\(pointer)", problem: "the schema false admits no value") }
      return any()
    }
    let schema = try Schema(value, at: pointer)
    if schema.keywords.isEmpty { return any() }
    for keyword in ["$ref", "anyOf", "allOf"] where schema.contains(keyword) {
      if let other = schema.keywords.first(where: { $0 != keyword }) {
        throw schema.error("the keyword \(keyword) beside \(other) is not supported")
      }
      return try composition(keyword, schema, depth)
    }
    return try schema.contains("enum") || schema.contains("const") ? literals(schema) : typed(schema)
  }

  private mutating func composition(
    _ keyword: String, _ schema: Schema, _ depth: Int
  ) throws(GrammarError) -> [Value] {
    if keyword == "$ref" {
      guard let reference = schema[keyword].string else { throw schema.unexpected(keyword, expected: "a text") }
      guard let (target, place) = document.resolve(reference) else {
        throw schema.error(
          keyword, "\(reference.excerpt) is not a JSON pointer into this schema, such as #/$defs/name")
      }
      return try values(of: target, at: place, depth: depth + 1)
    }
    guard let schemas = schema[keyword].array, !schemas.isEmpty else {
      throw schema.unexpected(keyword, expected: "a list of schemas")
    }
    if keyword == "allOf", schemas.count > 1 {
      throw schema.error(keyword, "allOf of more than one schema is not supported")
    }
    var result: [Value] = []
    var found: Set<Value> = []
    for (i, part) in schemas.enumerated() {
      let place = schema.pointer / keyword / "\(i)"
      for value in try values(of: part, at: place, depth: depth + 1) where found.insert(value).inserted {
        result.append(value)
      }
    }
    return result
  }

  private mutating func any() -> [Value] {
    if anyValues.isEmpty {
      containers += [.map([]), .array([], minimum: 0, maximum: nil)]
      let (map, array) = (containers.count - 2, containers.count - 1)
      let dfas = [
        (Self.stringName(), JSONString.any), ("number", JSONString.number), ("boolean", JSONString.boolean),
        ("null", JSONString.null),
      ]
      for (name, dfa) in dfas { anyValues.append(shared(name, dfa)) }
      anyValues += [.container(map), .container(array)]
      containers[map] = .map(anyValues)
      containers[array] = .array(anyValues, minimum: 0, maximum: nil)
    }
    return anyValues
  }

  // MARK: - Types

  private mutating func typed(_ schema: Schema) throws(GrammarError) -> [Value] {
    var types: [String] = []
    if let declared = try schema.types() {
      // Integers are numbers.
      types = declared.contains("number") ? declared.filter { $0 != "integer" } : declared
    } else {
      for (type, keywords) in [
        ("object", Schema.objectKeywords), ("array", Schema.arrayKeywords), ("string", Schema.stringKeywords),
        ("number", Schema.numberKeywords),
      ] where schema.keywords.contains(where: keywords.contains) { types.append(type) }
    }
    var result: [Value] = []
    for type in types {
      switch type {
      case "string": result.append(try string(schema))
      case "number", "integer": result.append(try number(schema, isInteger: type == "integer"))
      case "boolean": result.append(shared("boolean", JSONString.boolean))
      case "null": result.append(shared("null", JSONString.null))
      default:
        containers.append(.map([]))
        tasks.append(Task(schema: schema, container: containers.count - 1, isObject: type == "object"))
        result.append(.container(containers.count - 1))
      }
    }
    return result
  }

  private mutating func literals(_ schema: Schema) throws(GrammarError) -> [Value] {
    let keyword = schema.contains("enum") ? "enum" : "const"
    if let other = schema.keywords.first(where: { $0 != keyword && $0 != "type" }) {
      throw schema.error("the keyword \(keyword) beside \(other) is not supported")
    }
    var values = [schema[keyword]]
    if keyword == "enum" {
      guard let list = schema[keyword].array, !list.isEmpty else {
        throw schema.unexpected(keyword, expected: "a list of values")
      }
      values = list
    }
    if let types = try schema.types() {
      values = values.filter { value in types.contains { Self.has(value, type: $0) } }
      if values.isEmpty { throw schema.error(keyword, "no value has the type") }
    }
    var texts: [ByteExpression] = []
    for value in values {
      guard let text = JSONString.text(of: value) else {
        throw schema.error(keyword, "a number beyond 64 bits is not supported")
      }
      texts.append(.literal(text))
    }
    let dfa = try dfa(.choice(texts), schema, keyword)
    return [.terminal(terminals.add("literals \(schema.pointer)", Terminal(dfa: dfa)))]
  }

  private static func has(_ value: JSONValue, type: String) -> Bool {
    switch value {
    case .null: type == "null"
    case .bool: type == "boolean"
    case .integer: type == "integer" || type == "number"
    case .number(let value): type == "number" || type == "integer" && value == value.rounded()
    case .string: type == "string"
    case .array: type == "array"
    case .object: type == "object"
    }
  }

  // MARK: - Strings and numbers

  private mutating func string(_ schema: Schema) throws(GrammarError) -> Value {
    let minimum = try schema.count("minLength") ?? 0
    let maximum = try schema.count("maxLength")
    if let maximum, maximum < minimum { throw schema.error("maxLength is less than minLength") }
    let pattern = try schema.text("pattern")
    let format = try schema.text("format")
    // Equal keywords share an automaton.
    let name = Self.stringName(minimum, maximum, format: format, pattern: pattern)
    if let number = terminals[name] { return .terminal(number) }
    var dfa: DFA?
    if let pattern {
      dfa = try self.dfa(try Self.quoted(pattern, schema, "pattern", searches: true), schema, "pattern")
    }
    if let format {
      guard let known = Format(rawValue: format) else {
        let names = Format.allCases.map(\.rawValue).joined(separator: ", ")
        throw schema.error("format", "the format \(format.excerpt) is not supported; supported are \(names)")
      }
      let formatted = try self.dfa(try Self.quoted(known.pattern, schema, "format", searches: false), schema, "format")
      if let matching = dfa {
        dfa = try nonEmpty(try DFA.intersection(matching, formatted, &terminals.budget), schema)
      } else {
        dfa = formatted
      }
    }
    guard let unlimited = dfa else {
      guard minimum <= GrammarLimits.shortestAnswer else {
        throw schema.error("minLength", "expected at most \(GrammarLimits.shortestAnswer)")
      }
      let terminal = Terminal(dfa: JSONString.any, minimum: Int32(minimum), maximum: Int32(clamping: maximum ?? .max))
      return .terminal(terminals.add(name, terminal))
    }
    if minimum > 0 || maximum != nil {
      dfa = try nonEmpty(
        try DFA.limiting(unlimited, minimum: minimum, maximum: maximum, &terminals.budget), schema)
    }
    return .terminal(terminals.add(name, Terminal(dfa: dfa ?? unlimited)))
  }

  private static func stringName(
    _ minimum: Int = 0, _ maximum: Int? = nil, format: String? = nil, pattern: String? = nil
  ) -> String {
    "string \(minimum) \(maximum ?? -1) \(format.debugDescription) \(pattern.debugDescription)"
  }

  /// A JSON string whose content matches a regular expression, the value of a keyword.
  private static func quoted(
    _ pattern: String, _ schema: Schema, _ keyword: String, searches: Bool
  ) throws(GrammarError) -> ByteExpression {
    do throws(GrammarError) {
      let content = try RegexParser.parse(pattern, searches: searches) { $0.json }
      return .sequence([.byte("\""), content, .byte("\"")])
    } catch {
      guard case .regex(let position, let problem) = error else { throw error }
      throw schema.error(keyword, "position \(position): \(problem)")
    }
  }

  private mutating func number(_ schema: Schema, isInteger: Bool) throws(GrammarError) -> Value {
    var bounds: [NumberBounds.Bound] = []
    for keyword in Schema.numberKeywords where schema.contains(keyword) {
      guard let value = Decimal(schema[keyword]) else { throw schema.unexpected(keyword, expected: "a number") }
      bounds.append(
        .init(value: value, isLower: keyword.hasSuffix("inimum"), isExclusive: keyword.hasPrefix("exclusive")))
    }
    let type = isInteger ? "integer" : "number"
    if bounds.isEmpty { return shared(type, isInteger ? JSONString.integer : JSONString.number) }
    guard let range = NumberBounds.range(bounds, isInteger: isInteger) else {
      throw schema.error("a bound is beyond \(isInteger ? "64 bits" : "15 digits before the decimal point")")
    }
    guard range.low <= range.high else {
      let digits = isInteger ? "" : " of at most \(range.fractionDigits) decimal places"
      throw schema.error("no \(type)\(digits) is within the bounds")
    }
    let name = "\(type) \(range.low) \(range.high) \(range.fractionDigits)"
    if let number = terminals[name] { return .terminal(number) }
    let expression = NumberExpression.numbers(
      from: range.low, to: range.high, fractionDigits: range.fractionDigits)
    return .terminal(terminals.add(name, Terminal(dfa: try dfa(expression, schema))))
  }

  // MARK: - Objects and arrays

  private mutating func object(_ schema: Schema) throws(GrammarError) -> Container {
    guard let members = schema.contains("properties") ? schema["properties"].members : [] else {
      throw schema.unexpected("properties", expected: "an object of schemas")
    }
    let index = JSONDocument.index(of: members)
    guard index.count == members.count else { throw schema.error("properties", "a property appears twice") }
    var isRequired = [Bool](repeating: false, count: members.count)
    guard let names = schema.contains("required") ? schema["required"].array : [] else {
      throw schema.unexpected("required", expected: "a list of keys")
    }
    for name in names {
      guard let key = name.string else { throw schema.unexpected("required", expected: "a list of keys") }
      guard let i = index[ByteString(key)] else {
        throw schema.error("required", "the key \(key.excerpt) is not in properties")
      }
      isRequired[i] = true
    }
    let additional = schema["additionalProperties"]
    switch additional {
    case .bool, .object: break
    case .null where !schema.contains("additionalProperties"): break
    default: throw schema.unexpected("additionalProperties", expected: "a schema")
    }
    if members.isEmpty, additional.bool != false, !schema.contains("properties") || !additional.isNull {
      let place = schema.pointer / "additionalProperties"
      return .map(try additional.isNull ? any() : values(of: additional, at: place, depth: 0))
    }
    var properties: [Container.Property] = []
    for (i, member) in members.enumerated() {
      let values = try values(of: member.value, at: schema.pointer / "properties" / member.key, depth: 0)
      properties.append(.init(key: member.key, isRequired: isRequired[i], values: values))
    }
    return .object(properties)
  }

  private mutating func array(_ schema: Schema) throws(GrammarError) -> Container {
    if schema.contains("uniqueItems"), schema["uniqueItems"].bool != false {
      throw schema.error("uniqueItems", "the keyword uniqueItems is supported as false only")
    }
    let minimum = try schema.count("minItems") ?? 0
    let maximum = try schema.count("maxItems")
    if let maximum, maximum < minimum { throw schema.error("maxItems is less than minItems") }
    guard minimum <= GrammarLimits.shortestAnswer else {
      throw schema.error("minItems", "expected at most \(GrammarLimits.shortestAnswer)")
    }
    if schema["items"].array != nil {
      throw schema.error("items", "a list of schemas is not supported; expected one schema")
    }
    let values =
      try schema.contains("items") ? values(of: schema["items"], at: schema.pointer / "items", depth: 0) : any()
    return .array(values, minimum: minimum, maximum: maximum)
  }

  // MARK: - Automata

  /// The value of a fixed automaton.
  private mutating func shared(_ name: String, _ dfa: DFA) -> Value {
    .terminal(terminals[name] ?? terminals.add(name, Terminal(dfa: dfa)))
  }

  private mutating func dfa(
    _ expression: ByteExpression, _ schema: Schema, _ keyword: String? = nil
  ) throws(GrammarError) -> DFA {
    try nonEmpty(try DFABuilder.build(expression, &terminals.budget), schema, keyword)
  }

  private func nonEmpty(_ dfa: DFA?, _ schema: Schema, _ keyword: String? = nil) throws(GrammarError) -> DFA {
    guard let dfa else { throw schema.error(keyword, "no text is valid") }
    return dfa
  }
}
