/// Rows of figures and words.
package struct Table: Sendable, Encodable {
  package struct Column: Sendable, Encodable {
    /// Lower case with underscores, a key of the JSON form.
    package var name: String
    package var heading: String

    package init(_ name: String, heading: String) { (self.name, self.heading) = (name, heading) }
  }

  /// What people read, and the number that it stands for.
  package struct Cell: Sendable, Encodable {
    package var text: String
    package var number: Double?

    package init(_ text: String, number: Double? = nil) { (self.text, self.number) = (text, number) }

    /// The number if there is one, else the text.
    package func encode(to encoder: any Encoder) throws {
      var container = encoder.singleValueContainer()
      if let number { try container.encode(number) } else { try container.encode(text) }
    }
  }

  package var caption: String?
  package var columns: [Column]
  package var rows: [[Cell]]

  /// - Precondition: Every row has a cell for each column.
  package init(caption: String? = nil, columns: [Column], rows: [[Cell]]) {
    precondition(rows.allSatisfy { $0.count == columns.count }, "Table: rows of other than \(columns.count) cells")
    (self.caption, self.columns, self.rows) = (caption, columns, rows)
  }

  /// Whether a column is set right-aligned: all that stands in it are numbers.
  func isNumeric(_ column: Int) -> Bool {
    rows.contains { $0[column].number != nil }
      && rows.allSatisfy { $0[column].number != nil || $0[column].text.isEmpty }
  }
}

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
package struct TableRow: Sendable, Equatable {
  package let fields: [Field]

  package init(_ fields: [Field]) { self.fields = fields }

  package subscript(name: String) -> Value? { fields.first { $0.name == name }?.value }
}

/// The forms that a table can be printed in.
package enum TableFormat: String, CaseIterable, Sendable {
  case md, csv, json, jsonl, sql

  /// The whole table, newline included.
  ///
  /// - Parameter name: What SQL calls it.
  package func rendered(_ records: [TableRow], name: String) -> String {
    switch self {
    case .md: Self.markdown(records)
    case .csv: Self.commaSeparated(records)
    case .json: "[\n" + records.map { "  " + Self.object($0) }.joined(separator: ",\n") + "\n]\n"
    case .jsonl: records.map { Self.object($0) + "\n" }.joined()
    case .sql: Self.statements(records, name)
    }
  }

  private static func object(_ record: TableRow) -> String {
    "{" + record.fields.map { "\($0.name.quotedAsJSON): \($0.value.json)" }.joined(separator: ", ") + "}"
  }

  // MARK: - CSV

  private static func commaSeparated(_ records: [TableRow]) -> String {
    func line(_ cells: [String]) -> String { cells.map(quoted).joined(separator: ",") + "\n" }
    let header = (records.first?.fields ?? []).map(\.name)
    return line(header) + records.map { line($0.fields.map(\.value.plainText)) }.joined()
  }

  /// Source: RFC 4180.
  private static func quoted(_ cell: String) -> String {
    "\"" + cell.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
  }

  // MARK: - SQL

  private static func statements(_ records: [TableRow], _ table: String) -> String {
    guard let first = records.first else { return "" }
    // A column has a value's type where there is one in any row.
    let columns = first.fields.indices.map { i in
      let value = records.lazy.map { $0.fields[i].value }.first { $0 != .none } ?? .none
      return "  \"\(first.fields[i].name)\" \(type(of: value))"
    }
    let names = first.fields.map { "\"\($0.name)\"" }.joined(separator: ", ")
    let rows = records.map { record in
      "INSERT INTO \(table) (\(names)) VALUES (\(record.fields.map { literal($0.value) }.joined(separator: ", ")));\n"
    }
    return "CREATE TABLE IF NOT EXISTS \(table) (\n\(columns.joined(separator: ",\n"))\n);\n\n" + rows.joined()
  }

  private static func type(of value: Value) -> String {
    switch value {
    case .text, .numbers, .integers, .none: "TEXT"
    case .integer: "INTEGER"
    case .number: "REAL"
    }
  }

  private static func literal(_ value: Value) -> String {
    switch value {
    case .text, .numbers, .integers:
      "'" + value.plainText.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
    case .integer, .number, .none: value == .none || value.json == "null" ? "NULL" : value.json
    }
  }

  // MARK: - Markdown

  private static func markdown(_ records: [TableRow]) -> String {
    func line(_ cells: [String]) -> String { "| " + cells.joined(separator: " | ") + " |\n" }
    let headings = (records.first?.fields ?? []).compactMap(heading)
    let separators = headings.map { _ in "---" }
    let rows = records.map { line($0.fields.compactMap(cell)) }
    return line(headings) + line(separators) + rows.joined() + notes(records)
  }

  private static func heading(_ field: Field) -> String? {
    if case .column(let heading, _) = field.display { heading } else { nil }
  }

  private static func cell(_ field: Field) -> String? {
    if case .column(_, let text) = field.display { text } else { nil }
  }

  /// A line for each of the different values of each note.
  private static func notes(_ records: [TableRow]) -> String {
    var lines: [String] = []
    for i in (records.first?.fields ?? []).indices {
      for record in records {
        guard case .note(let heading) = record.fields[i].display, record.fields[i].value != .none else { continue }
        let line = "\(heading): \(record.fields[i].value.plainText)\n"
        if !lines.contains(line) { lines.append(line) }
      }
    }
    return lines.isEmpty ? "" : "\n" + lines.joined()
  }
}
