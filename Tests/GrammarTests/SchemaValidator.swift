import Storage

/// A small validator of the subset, independent of the compiler; patterns are left to their own tests.
struct SchemaValidator {
  let root: JSONValue

  func isValid(_ value: JSONValue, _ schema: JSONValue) -> Bool {
    guard let members = schema.members else { return schema.bool == true }
    let keys = Set(members.map(\.key))
    if keys.contains("$ref") { return isValid(value, resolved(schema["$ref"].string ?? "")) }
    if let alternatives = schema["anyOf"].array { return alternatives.contains { isValid(value, $0) } }
    if let all = schema["allOf"].array { return all.allSatisfy { isValid(value, $0) } }
    if let values = schema["enum"].array, !values.contains(where: { Self.areEqual($0, value) }) { return false }
    if keys.contains("const"), !Self.areEqual(schema["const"], value) { return false }
    if let type = schema["type"].string, !Self.has(value, type) { return false }
    if let types = schema["type"].array, !types.contains(where: { Self.has(value, $0.string ?? "") }) { return false }
    switch value {
    case .string(let text): return isValid(text: text, schema)
    case .integer(let number): return isValid(number: Double(number), schema)
    case .number(let number): return isValid(number: number, schema)
    case .array(let items):
      let item = keys.contains("items") ? schema["items"] : .bool(true)
      return items.count >= schema["minItems"].integer ?? 0 && items.count <= schema["maxItems"].integer ?? .max
        && items.allSatisfy { isValid($0, item) }
    case .object(let members): return isValid(members, schema)
    default: return true
    }
  }

  private func resolved(_ reference: String) -> JSONValue {
    reference.split(separator: "/").dropFirst().reduce(root) { $0[String($1)] }
  }

  private func isValid(_ members: [JSONValue.Member], _ schema: JSONValue) -> Bool {
    let keys = members.map { ByteString($0.key) }
    let required = schema["required"].array ?? []
    guard required.allSatisfy({ keys.contains(ByteString($0.string ?? "")) }) else { return false }
    let properties = schema["properties"].members ?? []
    return members.allSatisfy { member in
      if let property = properties.first(where: { ByteString($0.key) == ByteString(member.key) }) {
        return isValid(member.value, property.value)
      }
      if case .null = schema["additionalProperties"] { return true }
      return isValid(member.value, schema["additionalProperties"])
    }
  }

  private func isValid(text: String, _ schema: JSONValue) -> Bool {
    let count = text.unicodeScalars.count
    return count >= schema["minLength"].integer ?? 0 && count <= schema["maxLength"].integer ?? .max
  }

  private func isValid(number: Double, _ schema: JSONValue) -> Bool {
    func bound(_ key: String) -> Double? {
      switch schema[key] {
      case .integer(let value): Double(value)
      case .number(let value): value
      default: nil
      }
    }
    return number >= bound("minimum") ?? -.infinity && number <= bound("maximum") ?? .infinity
      && number > bound("exclusiveMinimum") ?? -.infinity && number < bound("exclusiveMaximum") ?? .infinity
  }

  private static func has(_ value: JSONValue, _ type: String) -> Bool {
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

  private static func areEqual(_ a: JSONValue, _ b: JSONValue) -> Bool {
    switch (a, b) {
    case (.null, .null): true
    case (.bool(let a), .bool(let b)): a == b
    case (.integer(let a), .integer(let b)): a == b
    case (.number(let a), .number(let b)): a == b
    case (.string(let a), .string(let b)): ByteString(a) == ByteString(b)
    case (.array(let a), .array(let b)): a.count == b.count && zip(a, b).allSatisfy(areEqual)
    case (.object(let a), .object(let b)):
      a.count == b.count
        && zip(a, b).allSatisfy { ByteString($0.key) == ByteString($1.key) && areEqual($0.value, $1.value) }
    default: false
    }
  }
}
