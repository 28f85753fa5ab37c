/// A value of a table.
package enum Value: Sendable, Equatable {
  case text(String)
  case integer(Int)
  case number(Double)
  case numbers([Double])
  case integers([Int])
  /// Not measured, or without meaning in this row.
  case none
}

/// One named value of a record, and how people see it.
package struct Field: Sendable, Equatable {
  /// Where a table for people shows the field; tables for programs have all.
  package enum Display: Sendable, Equatable {
    case column(heading: String, text: String)
    /// Below the table, once for each of its values.
    case note(heading: String)
    case hidden
  }

  /// Lower case with underscores: a key in JSON, a column in SQL.
  package let name: String
  package let value: Value
  package let display: Display

  package init(_ name: String, _ value: Value, _ display: Display = .hidden) {
    self.name = name
    self.value = value
    self.display = display
  }

  /// A field shown in a column.
  package init(_ name: String, _ value: Value, heading: String, text: String? = nil) {
    self.init(name, value, .column(heading: heading, text: text ?? value.plainText))
  }

  /// A number shown in a column with so many decimals; nothing where there is none.
  package init(_ name: String, _ number: Double?, heading: String, decimals: Int) {
    let value = number.flatMap { $0.isFinite ? Value.number($0) : nil } ?? .none
    let text = number.flatMap { $0.isFinite ? $0.formatted(decimals) : nil } ?? ""
    self.init(name, value, heading: heading, text: text)
  }
}

/// A row of a table; all rows of a table have the same fields.
package struct Record: Sendable, Equatable {
  package let fields: [Field]

  package init(_ fields: [Field]) { self.fields = fields }

  package subscript(name: String) -> Value? { fields.first { $0.name == name }?.value }
}
