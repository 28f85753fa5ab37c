import Storage

/// Random schemas of the subset.
struct SchemaGenerator {
  private var generator: SeededGenerator
  private var definitions: [String] = []

  init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

  /// The text of a schema.
  mutating func schema() -> String {
    definitions = generator.chance(0.3) ? ["a", "b"] : []
    let root = schema(depth: 0)
    if definitions.isEmpty { return root }
    let names = definitions
    definitions = []
    let members = names.map { "\"\($0)\":\(schema(depth: 2))" }.joined(separator: ",")
    // A schema of one member, such as a reference, stays alone beside annotations.
    return root == "{}" ? "{\"$defs\":{\(members)}}" : "\(root.dropLast()),\"$defs\":{\(members)}}"
  }

  private mutating func schema(depth: Int) -> String {
    let kind = generator.integer(0...(depth > 3 ? 7 : 11))
    switch kind {
    case 0: return object(["\"type\":\"boolean\""])
    case 1: return object(["\"type\":\"null\""])
    case 2, 3: return number()
    case 4, 5: return string()
    case 6: return literals()
    case 7:
      return definitions.isEmpty || depth == 0 ? object([]) : "{\"$ref\":\"#/$defs/\(generator.element(definitions))\"}"
    case 8, 9: return objectSchema(depth: depth)
    case 10: return array(depth: depth)
    default:
      let count = generator.integer(1...3)
      return "{\"anyOf\":[\((0..<count).map { _ in schema(depth: depth + 1) }.joined(separator: ","))]}"
    }
  }

  private func object(_ members: [String]) -> String { "{\(members.joined(separator: ","))}" }

  private mutating func number() -> String {
    let isInteger = generator.chance(0.5)
    var members = ["\"type\":\"\(isInteger ? "integer" : "number")\""]
    let low = isInteger ? Double(generator.integer(-200...200)) : Double(generator.integer(-9000...9000)) / 64
    let high = low + Double(generator.integer(1...500)) / (isInteger ? 1 : 8)
    func text(_ value: Double) -> String { isInteger ? String(Int(value.rounded(.up))) : value.description }
    if generator.chance(0.6) { members.append("\"\(generator.chance(0.5) ? "m" : "exclusiveM")inimum\":\(text(low))") }
    if generator.chance(0.6) {
      members.append("\"\(generator.chance(0.5) ? "m" : "exclusiveM")aximum\":\(text(high + 1))")
    }
    return object(members)
  }

  private mutating func string() -> String {
    var members = ["\"type\":\"string\""]
    switch generator.integer(0...3) {
    case 0: break
    case 1:
      let low = generator.integer(0...6)
      if generator.chance(0.7) { members.append("\"minLength\":\(low)") }
      if generator.chance(0.7) { members.append("\"maxLength\":\(low + generator.integer(0...8))") }
    case 2:
      members.append(
        "\"pattern\":\"\(generator.element(["^[A-Z]{2}[0-9]+$", "^a|b$", "[^\\\"a]{3}", "^\\\\w+( \\\\w+)*$", "é?x.y", "^(ab|c)*$"]))\""
      )
      if generator.chance(0.3) { members.append("\"maxLength\":\(generator.integer(4...12))") }
    default:
      members.append("\"format\":\"\(generator.element(["date", "time", "date-time", "uuid", "ipv4", "email"]))\"")
    }
    return object(members)
  }

  private mutating func literals() -> String {
    let values = [
      "\"red\"", "\"gr\\\"een\\n\"", "\"é日\"", "1", "-2.5", "true", "null", "[1,\"a\"]", "{\"k\":[]}", "1e-7",
    ]
    if generator.chance(0.3) { return "{\"const\":\(generator.element(values))}" }
    return
      "{\"enum\":[\((0...generator.integer(0...3)).map { _ in generator.element(values) }.joined(separator: ","))]}"
  }

  private mutating func objectSchema(depth: Int) -> String {
    if generator.chance(0.2) {
      return "{\"type\":\"object\",\"additionalProperties\":\(schema(depth: depth + 1))}"
    }
    let names = ["name", "name2", "n", "é", "a b", "quo\\\"te", "items", "x/y~z"].shuffled(using: &generator)
    let used = names.prefix(generator.integer(0...5))
    let required = used.filter { _ in generator.chance(0.5) }
    var members = [
      "\"type\":\"object\"",
      "\"properties\":{\(used.map { "\"\($0)\":\(schema(depth: depth + 1))" }.joined(separator: ","))}",
      "\"required\":[\(required.map { "\"\($0)\"" }.joined(separator: ","))]",
    ]
    if generator.chance(0.5) { members.append("\"additionalProperties\":false") }
    return object(members)
  }

  private mutating func array(depth: Int) -> String {
    var members = ["\"type\":\"array\""]
    if generator.chance(0.9) { members.append("\"items\":\(schema(depth: depth + 1))") }
    let low = generator.integer(0...3)
    if generator.chance(0.5) { members.append("\"minItems\":\(low)") }
    if generator.chance(0.5) { members.append("\"maxItems\":\(low + generator.integer(0...3))") }
    return object(members)
  }
}
