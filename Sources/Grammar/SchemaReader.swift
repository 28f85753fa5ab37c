import Storage

/// A text of a value without structure: a DFA, and limits on the number of characters if it is a JSON string.
struct Terminal: Sendable {
  var dfa: DFA
  var minimum: Int32 = 0
  /// `Int32.max` for no limit.
  var maximum: Int32 = .max

  var isCounted: Bool { minimum > 0 || maximum < .max }

  var shortest: Int { dfa.shortest + Int(minimum) }
}

/// A value of an answer: a terminal, or an object or array.
enum Value: Hashable {
  case terminal(Int)
  case container(Int)
}

/// An object or array with the values that its members or items may have.
enum Container {
  struct Property {
    var key: String
    var isRequired: Bool
    var values: [Value]
  }

  /// Members in this order.
  case object([Property])
  /// Members with any keys.
  case map([Value])
  /// - Parameter maximum: nil for no limit.
  case array([Value], minimum: Int, maximum: Int?)
}

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
  private static let annotations: Set<String> = [
    "title", "description", "default", "examples", "$schema", "$comment", "deprecated", "readOnly", "writeOnly",
    "$defs",
    "definitions",
  ]
  private static let objectKeywords = ["properties", "required", "additionalProperties"]
  private static let arrayKeywords = ["items", "minItems", "maxItems", "uniqueItems"]
  private static let stringKeywords = ["minLength", "maxLength", "pattern", "format"]
  private static let numberKeywords = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]
  private static let keywords =
    ["type", "enum", "const", "anyOf", "allOf", "$ref"] + objectKeywords + arrayKeywords + stringKeywords
    + numberKeywords

  private struct Task {
    var schema: JSONValue
    var pointer: String
    var container: Int
    var isObject: Bool
  }

  private let root: JSONValue
  private(set) var terminals: [Terminal] = []
  private(set) var containers: [Container] = []
  private(set) var budget = GrammarBudget()
  private var edgeCount = 0
  private var tasks: [Task] = []
  private var terminalNumbers: [ByteString: Int] = [:]
  /// The values of the schemas at JSON pointers; nil while one is read.
  private var known: [ByteString: [Value]?] = [:]
  private var anyValues: [Value] = []
  /// The members of the objects that references went through.
  private var indexes: [ByteString: [ByteString: Int]] = [:]

  /// Reads a schema.
  ///
  /// - Returns: The values of the whole answer.
  static func read(_ schema: JSONValue) throws(GrammarError) -> (reader: SchemaReader, values: [Value]) {
    var reader = SchemaReader(root: schema)
    let size = reader.size(of: schema, limit: GrammarLimits.sourceBytes, depth: 0)
    guard size <= GrammarLimits.sourceBytes else {
      throw .limit("a schema above \(GrammarLimits.sourceBytes) bytes or \(JSONParser.depthLimit) levels")
    }
    let values = try reader.values(of: schema, at: "#", depth: 0)
    // Objects and arrays are read when their parents are complete, so that references may lead back to them.
    while let task = reader.tasks.popLast() {
      reader.containers[task.container] =
        try task.isObject ? reader.object(task.schema, task.pointer) : reader.array(task.schema, task.pointer)
    }
    return (reader, values)
  }

  /// Any JSON object.
  static func anyObject() throws(GrammarError) -> (reader: SchemaReader, values: [Value]) {
    var reader = SchemaReader(root: .bool(true))
    let values = reader.any()
    return (
      reader, values.filter { if case .container(let i) = $0, case .map = reader.containers[i] { true } else { false } }
    )
  }

  private init(root: JSONValue) { self.root = root }

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

  private mutating func values(of schema: JSONValue, at pointer: String, depth: Int) throws(GrammarError) -> [Value] {
    let key = ByteString(pointer)
    if let values = known[key] {
      guard let values else { throw .schema(pointer: pointer, problem: "the schema refers to itself without a value") }
      return values
    }
    guard depth <= GrammarLimits.referenceDepth else {
      throw .schema(pointer: pointer, problem: "references nest deeper than \(GrammarLimits.referenceDepth) levels")
    }
    known[key] = .some(nil)
    let values = try read(schema, pointer, depth)
    known[key] = values
    edgeCount += values.count
    guard edgeCount <= GrammarLimits.edges else { throw .limit("the schema has too many alternatives") }
    return values
  }

  private mutating func read(_ schema: JSONValue, _ pointer: String, _ depth: Int) throws(GrammarError) -> [Value] {
    switch schema {
    case .bool(true): return any()
    case .bool(false): throw .schema(pointer: pointer, problem: "the schema false admits no value")
    case .object(let members):
      try check(members, pointer)
      let restricting = members.map(\.key).filter { !Self.annotations.contains($0) && $0 != "$id" }
      if restricting.isEmpty { return any() }
      for keyword in ["$ref", "anyOf", "allOf"] where restricting.contains(keyword) {
        if let other = restricting.first(where: { $0 != keyword }) {
          throw .schema(pointer: pointer, problem: "the keyword \(keyword) beside \(other) is not supported")
        }
        return try composition(keyword, schema[keyword], pointer, depth)
      }
      if restricting.contains("enum") || restricting.contains("const") {
        return try literals(schema, restricting, pointer)
      }
      return try typed(schema, restricting, pointer)
    default: throw .schema(pointer: pointer, problem: "expected a schema, found \(schema.kind.excerpt)")
    }
  }

  /// Refuses keywords that are not supported or appear twice.
  private func check(_ members: [JSONValue.Member], _ pointer: String) throws(GrammarError) {
    var found: Set<String> = []
    for key in members.map(\.key) {
      let path = pointer + "/" + Self.escaped(key)
      if key == "$id" {
        // Below the root it would change what references mean.
        if pointer != "#" { throw .schema(pointer: path, problem: "the keyword $id is supported at the root only") }
      } else if !Self.annotations.contains(key), !Self.keywords.contains(key) {
        throw .schema(
          pointer: path,
          problem: "the keyword \(key.excerpt) is not supported; supported are \(Self.keywords.joined(separator: ", "))"
        )
      }
      guard found.insert(key).inserted else { throw .schema(pointer: path, problem: "the keyword appears twice") }
    }
  }

  private mutating func composition(
    _ keyword: String, _ value: JSONValue, _ pointer: String, _ depth: Int
  ) throws(GrammarError) -> [Value] {
    let path = pointer + "/" + keyword
    if keyword == "$ref" {
      guard let reference = value.string else { throw Self.expected("a text", value, path) }
      let (schema, target) = try resolve(reference, path)
      return try values(of: schema, at: target, depth: depth + 1)
    }
    guard let schemas = value.array, !schemas.isEmpty else { throw Self.expected("a list of schemas", value, path) }
    if keyword == "allOf", schemas.count > 1 {
      throw .schema(pointer: path, problem: "allOf of more than one schema is not supported")
    }
    var result: [Value] = []
    var found: Set<Value> = []
    for (i, schema) in schemas.enumerated() {
      for value in try values(of: schema, at: "\(path)/\(i)", depth: depth + 1) where found.insert(value).inserted {
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
        (Self.stringKey(), JSONString.any), ("number", JSONString.number), ("boolean", JSONString.boolean),
        ("null", JSONString.null),
      ]
      for (key, dfa) in dfas { anyValues.append(.terminal(terminal(key) { Terminal(dfa: dfa) })) }
      anyValues += [.container(map), .container(array)]
      containers[map] = .map(anyValues)
      containers[array] = .array(anyValues, minimum: 0, maximum: nil)
    }
    return anyValues
  }

  // MARK: - References

  private mutating func resolve(_ reference: String, _ path: String) throws(GrammarError) -> (JSONValue, String) {
    let failure = GrammarError.schema(
      pointer: path, problem: "\(reference.excerpt) is not a JSON pointer into this schema, such as #/$defs/name")
    guard reference == "#" || reference.hasPrefix("#/"), let decoded = Self.percentDecoded(reference) else {
      throw failure
    }
    var value = root
    var pointer = "#"
    for part in decoded.split(separator: "/", omittingEmptySubsequences: false).dropFirst() {
      guard let key = Self.unescaped(part) else { throw failure }
      switch value {
      case .object(let members):
        let index = indexes[ByteString(pointer)] ?? Self.index(of: members)
        indexes[ByteString(pointer)] = index
        guard let i = index[ByteString(key)] else { throw failure }
        value = members[i].value
      case .array(let items):
        guard let i = Int(key), items.indices.contains(i), String(i) == key else { throw failure }
        value = items[i]
      default: throw failure
      }
      pointer += "/" + Self.escaped(key)
    }
    return (value, pointer)
  }

  private static func index(of members: [JSONValue.Member]) -> [ByteString: Int] {
    Dictionary(members.enumerated().map { (ByteString($1.key), $0) }) { first, _ in first }
  }

  private static func percentDecoded(_ text: String) -> String? {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else {
        return nil
      }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    return String(validating: bytes, as: UTF8.self)
  }

  /// A key within a JSON pointer.
  private static func escaped(_ key: String) -> String {
    guard key.utf8.contains(where: { $0 == UInt8(ascii: "~") || $0 == UInt8(ascii: "/") }) else { return key }
    return key.unicodeScalars.reduce(into: "") { text, scalar in
      text.unicodeScalars.append(contentsOf: (scalar == "~" ? "~0" : scalar == "/" ? "~1" : "\(scalar)").unicodeScalars)
    }
  }

  private static func unescaped(_ part: Substring) -> String? {
    var scalars = String.UnicodeScalarView()
    var rest = part.unicodeScalars[...]
    while let scalar = rest.popFirst() {
      guard scalar == "~" else {
        scalars.append(scalar)
        continue
      }
      switch rest.popFirst() {
      case "0": scalars.append("~")
      case "1": scalars.append("/")
      default: return nil
      }
    }
    return String(scalars)
  }

  // MARK: - Types

  private static let types = ["object", "array", "string", "number", "integer", "boolean", "null"]

  /// The names in `type`; nil if there is no such keyword.
  private func types(_ schema: JSONValue, _ restricting: [String], _ pointer: String) throws(GrammarError) -> [String]?
  {
    guard restricting.contains("type") else { return nil }
    let value = schema["type"]
    let names = value.array?.map(\.string) ?? [value.string]
    var result: [String] = []
    for name in names {
      guard let name, Self.types.contains(name) else {
        throw Self.expected("one of \(Self.types.joined(separator: ", ")), or a list of them", value, pointer + "/type")
      }
      if !result.contains(name) { result.append(name) }
    }
    guard !result.isEmpty else { throw Self.expected("at least one type", value, pointer + "/type") }
    return result
  }

  private mutating func typed(
    _ schema: JSONValue, _ restricting: [String], _ pointer: String
  ) throws(GrammarError) -> [Value] {
    var types: [String] = []
    if let declared = try self.types(schema, restricting, pointer) {
      // Integers are numbers.
      types = declared.contains("number") ? declared.filter { $0 != "integer" } : declared
    } else {
      for (type, keywords) in [
        ("object", Self.objectKeywords), ("array", Self.arrayKeywords), ("string", Self.stringKeywords),
        ("number", Self.numberKeywords),
      ] where restricting.contains(where: keywords.contains) { types.append(type) }
    }
    var result: [Value] = []
    for type in types {
      switch type {
      case "string": result.append(try string(schema, restricting, pointer))
      case "number", "integer": result.append(try number(schema, restricting, pointer, isInteger: type == "integer"))
      case "boolean": result.append(.terminal(terminal("boolean") { Terminal(dfa: JSONString.boolean) }))
      case "null": result.append(.terminal(terminal("null") { Terminal(dfa: JSONString.null) }))
      default:
        containers.append(.map([]))
        tasks.append(
          Task(schema: schema, pointer: pointer, container: containers.count - 1, isObject: type == "object"))
        result.append(.container(containers.count - 1))
      }
    }
    return result
  }

  private mutating func literals(
    _ schema: JSONValue, _ restricting: [String], _ pointer: String
  ) throws(GrammarError) -> [Value] {
    if let other = restricting.first(where: { !["enum", "const", "type"].contains($0) }) {
      let keyword = restricting.contains("enum") ? "enum" : "const"
      throw .schema(pointer: pointer, problem: "the keyword \(keyword) beside \(other) is not supported")
    }
    let keyword = restricting.contains("enum") ? "enum" : "const"
    let path = pointer + "/" + keyword
    if keyword == "enum", restricting.contains("const") {
      throw .schema(pointer: pointer, problem: "the keyword enum beside const is not supported")
    }
    var values = [schema[keyword]]
    if keyword == "enum" {
      guard let list = schema[keyword].array, !list.isEmpty else {
        throw Self.expected("a list of values", schema[keyword], path)
      }
      values = list
    }
    if let types = try types(schema, restricting, pointer) {
      values = values.filter { value in types.contains { Self.has(value, type: $0) } }
      if values.isEmpty { throw .schema(pointer: path, problem: "no value has the type") }
    }
    var texts: [ByteExpression] = []
    for value in values {
      guard let text = JSONString.text(of: value) else {
        throw .schema(pointer: path, problem: "a number beyond 64 bits is not supported")
      }
      texts.append(.literal(text))
    }
    let dfa = try dfa(.choice(texts), path)
    return [.terminal(terminal("literals " + pointer) { Terminal(dfa: dfa) })]
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

  private mutating func string(
    _ schema: JSONValue, _ restricting: [String], _ pointer: String
  ) throws(GrammarError) -> Value {
    let minimum = try count("minLength", schema, restricting, pointer) ?? 0
    let maximum = try count("maxLength", schema, restricting, pointer)
    if let maximum, maximum < minimum {
      throw .schema(pointer: pointer, problem: "maxLength is less than minLength")
    }
    let pattern = try text("pattern", schema, restricting, pointer)
    let format = try text("format", schema, restricting, pointer)
    // Equal keywords share an automaton.
    let key = Self.stringKey(minimum, maximum, format: format, pattern: pattern)
    if let number = terminalNumbers[ByteString(key)] { return .terminal(number) }
    var dfa: DFA?
    if let pattern {
      let path = pointer + "/pattern"
      dfa = try self.dfa(try Self.quoted(pattern, path, searches: true), path)
    }
    if let format {
      let path = pointer + "/format"
      guard let known = Format(rawValue: format) else {
        let names = Format.allCases.map(\.rawValue).joined(separator: ", ")
        throw .schema(pointer: path, problem: "the format \(format.excerpt) is not supported; supported are \(names)")
      }
      let formatted = try self.dfa(try Self.quoted(known.pattern, path, searches: false), path)
      if let matching = dfa {
        dfa = try nonEmpty(try DFA.intersection(matching, formatted, &budget), pointer)
      } else {
        dfa = formatted
      }
    }
    guard let unlimited = dfa else {
      guard minimum <= GrammarLimits.shortestAnswer else {
        throw .schema(pointer: pointer + "/minLength", problem: "expected at most \(GrammarLimits.shortestAnswer)")
      }
      return .terminal(
        terminal(key) {
          Terminal(dfa: JSONString.any, minimum: Int32(minimum), maximum: Int32(clamping: maximum ?? .max))
        })
    }
    if minimum > 0 || maximum != nil {
      dfa = try nonEmpty(try DFA.limiting(unlimited, minimum: minimum, maximum: maximum, &budget), pointer)
    }
    return .terminal(terminal(key) { Terminal(dfa: dfa ?? unlimited) })
  }

  private static func stringKey(
    _ minimum: Int = 0, _ maximum: Int? = nil, format: String? = nil, pattern: String? = nil
  ) -> String {
    "string \(minimum) \(maximum ?? -1) \(format.debugDescription) \(pattern.debugDescription)"
  }

  private static func quoted(_ pattern: String, _ path: String, searches: Bool) throws(GrammarError) -> ByteExpression {
    do throws(GrammarError) {
      let content = try RegexParser.parse(pattern, searches: searches) { $0.json }
      return .sequence([.byte("\""), content, .byte("\"")])
    } catch {
      guard case .regex(let position, let problem) = error else { throw error }
      throw .schema(pointer: path, problem: "position \(position): \(problem)")
    }
  }

  private mutating func number(
    _ schema: JSONValue, _ restricting: [String], _ pointer: String, isInteger: Bool
  ) throws(GrammarError) -> Value {
    var bounds: [NumberBounds.Bound] = []
    for keyword in Self.numberKeywords where restricting.contains(keyword) {
      let path = pointer + "/" + keyword
      guard let value = Decimal(schema[keyword]) else { throw Self.expected("a number", schema[keyword], path) }
      bounds.append(
        .init(value: value, isLower: keyword.hasSuffix("inimum"), isExclusive: keyword.hasPrefix("exclusive")))
    }
    let name = isInteger ? "integer" : "number"
    if bounds.isEmpty {
      return .terminal(terminal(name) { Terminal(dfa: isInteger ? JSONString.integer : JSONString.number) })
    }
    guard let range = NumberBounds.range(bounds, isInteger: isInteger) else {
      throw .schema(
        pointer: pointer, problem: "a bound is beyond \(isInteger ? "64 bits" : "15 digits before the decimal point")")
    }
    guard range.low <= range.high else {
      let digits = isInteger ? "" : " of at most \(range.fractionDigits) decimal places"
      throw .schema(pointer: pointer, problem: "no \(name)\(digits) is within the bounds")
    }
    let key = "\(name) \(range.low) \(range.high) \(range.fractionDigits)"
    if let number = terminalNumbers[ByteString(key)] { return .terminal(number) }
    let expression = NumberExpression.numbers(
      from: range.low, to: range.high, fractionDigits: range.fractionDigits)
    let dfa = try dfa(expression, pointer)
    return .terminal(terminal(key) { Terminal(dfa: dfa) })
  }

  // MARK: - Objects and arrays

  private mutating func object(_ schema: JSONValue, _ pointer: String) throws(GrammarError) -> Container {
    let path = pointer + "/properties"
    let declared = schema["properties"]
    let keywords = schema.members?.map(\.key) ?? []
    guard let members = keywords.contains("properties") ? declared.members : [] else {
      throw Self.expected("an object of schemas", declared, path)
    }
    let index = Self.index(of: members)
    guard index.count == members.count else { throw .schema(pointer: path, problem: "a property appears twice") }
    var isRequired = [Bool](repeating: false, count: members.count)
    let required = schema["required"]
    guard let names = keywords.contains("required") ? required.array : [] else {
      throw Self.expected("a list of keys", required, pointer + "/required")
    }
    for name in names {
      guard let key = name.string else { throw Self.expected("a list of keys", required, pointer + "/required") }
      guard let i = index[ByteString(key)] else {
        throw .schema(pointer: pointer + "/required", problem: "the key \(key.excerpt) is not in properties")
      }
      isRequired[i] = true
    }
    let additional = schema["additionalProperties"]
    switch additional {
    case .bool, .object: break
    case .null where !keywords.contains("additionalProperties"): break
    default: throw Self.expected("a schema", additional, pointer + "/additionalProperties")
    }
    if members.isEmpty, additional.bool != false, !keywords.contains("properties") || !additional.isNull {
      let values = additional.isNull
      return .map(
        try values ? any() : self.values(of: additional, at: pointer + "/additionalProperties", depth: 0))
    }
    var properties: [Container.Property] = []
    for (i, member) in members.enumerated() {
      let values = try values(of: member.value, at: path + "/" + Self.escaped(member.key), depth: 0)
      properties.append(.init(key: member.key, isRequired: isRequired[i], values: values))
    }
    return .object(properties)
  }

  private mutating func array(_ schema: JSONValue, _ pointer: String) throws(GrammarError) -> Container {
    let keys = schema.members?.map(\.key) ?? []
    if keys.contains("uniqueItems"), schema["uniqueItems"].bool != false {
      throw .schema(pointer: pointer + "/uniqueItems", problem: "the keyword uniqueItems is supported as false only")
    }
    let minimum = try count("minItems", schema, keys, pointer) ?? 0
    let maximum = try count("maxItems", schema, keys, pointer)
    if let maximum, maximum < minimum { throw .schema(pointer: pointer, problem: "maxItems is less than minItems") }
    guard minimum <= GrammarLimits.shortestAnswer else {
      throw .schema(pointer: pointer + "/minItems", problem: "expected at most \(GrammarLimits.shortestAnswer)")
    }
    let path = pointer + "/items"
    if schema["items"].array != nil {
      throw .schema(pointer: path, problem: "a list of schemas is not supported; expected one schema")
    }
    let values = try keys.contains("items") ? values(of: schema["items"], at: path, depth: 0) : any()
    return .array(values, minimum: minimum, maximum: maximum)
  }

  // MARK: - Parts

  /// The value of a keyword that is a text; nil if it is absent.
  private func text(
    _ keyword: String, _ schema: JSONValue, _ keywords: [String], _ pointer: String
  ) throws(GrammarError) -> String? {
    guard keywords.contains(keyword) else { return nil }
    guard let text = schema[keyword].string else {
      throw Self.expected("a text", schema[keyword], pointer + "/" + keyword)
    }
    return text
  }

  /// The value of a keyword that is a count; nil if it is absent.
  private func count(
    _ keyword: String, _ schema: JSONValue, _ keywords: [String], _ pointer: String
  ) throws(GrammarError) -> Int? {
    guard keywords.contains(keyword) else { return nil }
    switch schema[keyword] {
    case .integer(let value) where value >= 0: return min(value, 1 << 40)
    case .number(let value) where value >= 0 && value == value.rounded(): return Int(min(value, 0x1p40))
    case let value: throw Self.expected("an integer from 0", value, pointer + "/" + keyword)
    }
  }

  /// The number of the terminal with a key, which is made if it is new.
  private mutating func terminal(_ key: String, _ make: () -> Terminal) -> Int {
    let key = ByteString(key)
    if let number = terminalNumbers[key] { return number }
    terminals.append(make())
    terminalNumbers[key] = terminals.count - 1
    return terminals.count - 1
  }

  /// The terminal of a property's key.
  mutating func terminal(forKey key: String) throws(GrammarError) -> Int {
    let name = ByteString("key " + key)
    if let number = terminalNumbers[name] { return number }
    let dfa = try dfa(.literal(JSONValue.quoted(key)), "#")
    terminals.append(Terminal(dfa: dfa))
    terminalNumbers[name] = terminals.count - 1
    return terminals.count - 1
  }

  private mutating func dfa(_ expression: ByteExpression, _ pointer: String) throws(GrammarError) -> DFA {
    try nonEmpty(try DFABuilder.build(expression, &budget), pointer)
  }

  private func nonEmpty(_ dfa: DFA?, _ pointer: String) throws(GrammarError) -> DFA {
    guard let dfa else { throw .schema(pointer: pointer, problem: "no text is valid") }
    return dfa
  }

  private static func expected(_ expected: String, _ found: JSONValue, _ pointer: String) -> GrammarError {
    .schema(pointer: pointer, problem: "expected \(expected), found \(found.kind.excerpt)")
  }
}
