/// A table of a report: columns, and rows of cells.
package struct Table: Sendable, Encodable {
  package struct Column: Sendable, Encodable {
    /// The key in JSON, lower case with underscores.
    package var name: String
    package var heading: String

    package init(_ name: String, heading: String) { (self.name, self.heading) = (name, heading) }
  }

  /// Displayed text, and its number if it has one.
  package struct Cell: Sendable, Encodable {
    package var text: String
    package var number: Double?

    package init(_ text: String, number: Double? = nil) { (self.text, self.number) = (text, number) }

    /// Encodes the number if there is one, else the text.
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

  /// The columns of rows; a column with the same text in all rows moves to the caption.
  ///
  /// - Parameter title: The beginning of the caption.
  package init(_ rows: [TableRow], title: String? = nil) {
    let fields = rows.first?.fields ?? []
    let shown = fields.indices.filter { fields[$0].columnText != nil }
    let varying = shown.filter { index in
      rows.count == 1 || rows.contains { $0.fields[index].columnText != fields[index].columnText }
    }
    let constant = shown.filter { !varying.contains($0) }.compactMap { index -> String? in
      guard case .column(let heading, let text) = fields[index].display, !text.isEmpty else { return nil }
      return "\(heading) \(text)"
    }
    let common = constant.isEmpty ? nil : "In all rows: " + constant.joined(separator: ", ")
    let captions = [title, common].compactMap(\.self)
    self.init(
      caption: captions.isEmpty ? nil : captions.joined(separator: ". "),
      columns: varying.map { Column(fields[$0].name, heading: fields[$0].heading ?? "") },
      rows: rows.map { row in varying.map { Cell(row.fields[$0]) } })
  }

  /// Whether a column is right-aligned: it has numbers, and all its other cells are empty.
  func isNumeric(_ column: Int) -> Bool {
    rows.contains { $0[column].number != nil }
      && rows.allSatisfy { $0[column].number != nil || $0[column].text.isEmpty }
  }
}

extension Table.Cell {
  fileprivate init(_ field: Field) {
    let text = field.columnText ?? ""
    switch field.value {
    case .integer(let integer): self.init(text, number: Double(integer))
    case .number(let number): self.init(text, number: number)
    default: self.init(text)
    }
  }
}

/// The value of a field.
package enum Value: Sendable, Equatable {
  case text(String)
  case integer(Int)
  case number(Double)
  case numbers([Double])
  case integers([Int])
  /// Not measured, or not applicable to this row.
  case none
}

/// A named value of a row, and its display in human-readable tables.
package struct Field: Sendable, Equatable {
  /// The place of a field in a human-readable table; CSV, JSON and SQL contain all fields.
  package enum Display: Sendable, Equatable {
    case column(heading: String, text: String)
    /// A line below the table, once for each distinct value.
    case note(heading: String)
    case hidden
  }

  /// The key in JSON and the column in SQL, lower case with underscores.
  package let name: String
  package let value: Value
  package let display: Display

  package init(_ name: String, _ value: Value, _ display: Display = .hidden) {
    self.name = name
    self.value = value
    self.display = display
  }

  /// The heading of its column; nil if it has none.
  fileprivate var heading: String? { if case .column(let heading, _) = display { heading } else { nil } }

  /// The text in its column; nil if it has none.
  fileprivate var columnText: String? { if case .column(_, let text) = display { text } else { nil } }

  /// A field shown in a column.
  package init(_ name: String, _ value: Value, heading: String, text: String? = nil) {
    self.init(name, value, .column(heading: heading, text: text ?? value.plainText))
  }

  /// A number shown in a column with a fixed number of decimals; an empty cell for nil and non-finite numbers.
  package init(_ name: String, _ number: Double?, heading: String, decimals: Int) {
    let value = number.flatMap { $0.isFinite ? Value.number($0) : nil } ?? .none
    let text = number.flatMap { $0.isFinite ? $0.formatted(decimals) : nil } ?? ""
    self.init(name, value, heading: heading, text: text)
  }
}

/// A row of a table. All rows of a table have the same fields.
package struct TableRow: Sendable, Equatable {
  package let fields: [Field]

  package init(_ fields: [Field]) { self.fields = fields }
}

/// The output formats of tables.
package enum TableFormat: String, CaseIterable, Sendable {
  case md, csv, json, jsonl, sql

  /// The whole table, with a final newline.
  ///
  /// - Parameter name: The table name in SQL.
  package func rendered(_ rows: [TableRow], name: String) -> String {
    switch self {
    case .md: Self.markdown(rows)
    case .csv: Self.commaSeparated(rows)
    case .json: "[\n" + rows.map { "  " + Self.object($0) }.joined(separator: ",\n") + "\n]\n"
    case .jsonl: rows.map { Self.object($0) + "\n" }.joined()
    case .sql: Self.statements(rows, name)
    }
  }

  private static func object(_ row: TableRow) -> String {
    "{" + row.fields.map { "\($0.name.quotedAsJSON): \($0.value.json)" }.joined(separator: ", ") + "}"
  }

  // MARK: - CSV

  private static func commaSeparated(_ rows: [TableRow]) -> String {
    func line(_ cells: [String]) -> String { cells.map(quoted).joined(separator: ",") + "\n" }
    let header = (rows.first?.fields ?? []).map(\.name)
    return line(header) + rows.map { line($0.fields.map(\.value.plainText)) }.joined()
  }

  /// Source: RFC 4180.
  private static func quoted(_ cell: String) -> String {
    "\"" + cell.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
  }

  // MARK: - SQL

  private static func statements(_ rows: [TableRow], _ table: String) -> String {
    guard let first = rows.first else { return "" }
    // The type of the first value in the column; TEXT if the column is empty.
    let columns = first.fields.indices.map { i in
      let value = rows.lazy.map { $0.fields[i].value }.first { $0 != .none } ?? .none
      return "  \"\(first.fields[i].name)\" \(type(of: value))"
    }
    let names = first.fields.map { "\"\($0.name)\"" }.joined(separator: ", ")
    let inserts = rows.map { row in
      "INSERT INTO \(table) (\(names)) VALUES (\(row.fields.map { literal($0.value) }.joined(separator: ", ")));\n"
    }
    return "CREATE TABLE IF NOT EXISTS \(table) (\n\(columns.joined(separator: ",\n"))\n);\n\n" + inserts.joined()
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

  private static func markdown(_ rows: [TableRow]) -> String {
    func line(_ cells: [String]) -> String { "| " + cells.joined(separator: " | ") + " |\n" }
    let headings = (rows.first?.fields ?? []).compactMap(\.heading)
    let separators = headings.map { _ in "---" }
    let lines = rows.map { line($0.fields.compactMap(\.columnText)) }
    return line(headings) + line(separators) + lines.joined() + notes(rows)
  }

  /// A line for each distinct value of each note.
  private static func notes(_ rows: [TableRow]) -> String {
    var lines: [String] = []
    for i in (rows.first?.fields ?? []).indices {
      for row in rows {
        guard case .note(let heading) = row.fields[i].display, row.fields[i].value != .none else { continue }
        let line = "\(heading): \(row.fields[i].value.plainText)\n"
        if !lines.contains(line) { lines.append(line) }
      }
    }
    return lines.isEmpty ? "" : "\n" + lines.joined()
  }
}
