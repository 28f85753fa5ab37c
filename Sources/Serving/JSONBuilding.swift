import Foundation
package import Storage

// Answers are written as JSON values, member by member, so that their order is that of the API's documents.

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  package init(stringLiteral text: String) { self = .string(text) }
  package init(integerLiteral number: Int) { self = .integer(number) }
  package init(booleanLiteral value: Bool) { self = .bool(value) }
  package init(arrayLiteral values: JSONValue...) { self = .array(values) }
  package init(dictionaryLiteral members: (String, JSONValue)...) {
    self = .object(members.map { Member(key: $0.0, value: $0.1) })
  }
}

extension JSONValue {
  /// A number rounded to 1/1000; `null` if it is not finite.
  static func rounded(_ number: Double) -> JSONValue {
    number.isFinite ? .number((number * 1e3).rounded() / 1e3) : .null
  }

  /// The number; `null` if it is not finite, as JSON has no such number.
  static func finite(_ number: Double) -> JSONValue { number.isFinite ? .number(number) : .null }

  /// The JSON of an encodable value.
  static func encoding(_ value: some Encodable) -> JSONValue {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do { return try JSONParser.parse([UInt8](try encoder.encode(value))) } catch {
      preconditionFailure("\(type(of: value)) is encodable, but \(error)")
    }
  }

  /// The object with another member at its end, unless that is `nil`.
  func with(_ key: String, _ value: JSONValue?) -> JSONValue {
    guard case .object(let members) = self, let value else { return self }
    return .object(members + [Member(key: key, value: value)])
  }
}
