/// What names a question: `7` and `"7"` are the same name, as published files differ in which they write.
package struct QuestionID: Hashable, Sendable, Encodable, CustomStringConvertible {
  package let description: String
  private let number: Int?

  package init(_ text: String) { (description, number) = (text, nil) }
  package init(_ number: Int) { (description, self.number) = ("\(number)", number) }

  package static func == (a: Self, b: Self) -> Bool { a.description == b.description }
  package func hash(into hasher: inout Hasher) { hasher.combine(description) }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if let number { try container.encode(number) } else { try container.encode(description) }
  }
}
