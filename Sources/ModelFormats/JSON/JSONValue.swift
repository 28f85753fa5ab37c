/// A JSON text as a tree whose objects keep every member, in order.
///
/// Foundation's decoders put members into a dictionary of `String`, where canonically equivalent keys fall together: of
/// a vocabulary with U+00C5 and U+212B, both "Å", they return one.
package enum JSONValue: Sendable {
  case null
  case bool(Bool)
  case integer(Int)

  /// A number that is not an `Int`.
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([Member])

  package struct Member: Sendable {
    package var key: String
    package var value: JSONValue
  }

  /// The first member with these bytes as its key; null for other kinds of value and where there is none.
  package subscript(key: String) -> JSONValue {
    guard case .object(let members) = self else { return .null }
    return members.first { $0.key.utf8.elementsEqual(key.utf8) }?.value ?? .null
  }

  package var string: String? { if case .string(let value) = self { value } else { nil } }
  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  package var integer: Int? { if case .integer(let value) = self { value } else { nil } }
  package var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
  package var members: [Member]? { if case .object(let value) = self { value } else { nil } }
  package var isNull: Bool { if case .null = self { true } else { false } }

  /// What the value is, for messages.
  package var kind: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .integer(let value): "\(value)"
    case .number(let value): "\(value)"
    case .string(let value): value
    case .array: "a list"
    case .object: "an object"
    }
  }
}
