/// The forms that a table can be printed in.
package enum TableFormat: String, CaseIterable, Sendable {
  case md, csv, json, jsonl, sql

  /// The whole table, newline included.
  ///
  /// - Parameter name: What SQL calls it.
  package func rendered(_ records: [Record], name: String) -> String {
    switch self {
    case .md: Self.markdown(records)
    case .csv: Self.commaSeparated(records)
    case .json: "[\n" + records.map { "  " + Self.object($0) }.joined(separator: ",\n") + "\n]\n"
    case .jsonl: records.map { Self.object($0) + "\n" }.joined()
    case .sql: Self.statements(records, name)
    }
  }

  private static func object(_ record: Record) -> String {
    "{" + record.fields.map { "\($0.name.quotedAsJSON): \($0.value.json)" }.joined(separator: ", ") + "}"
  }

  // MARK: - CSV

  private static func commaSeparated(_ records: [Record]) -> String {
    func line(_ cells: [String]) -> String { cells.map(quoted).joined(separator: ",") + "\n" }
    let header = (records.first?.fields ?? []).map(\.name)
    return line(header) + records.map { line($0.fields.map(\.value.plainText)) }.joined()
  }

  /// Source: RFC 4180.
  private static func quoted(_ cell: String) -> String {
    "\"" + cell.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
  }

  // MARK: - SQL

  private static func statements(_ records: [Record], _ table: String) -> String {
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

  private static func markdown(_ records: [Record]) -> String {
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
  private static func notes(_ records: [Record]) -> String {
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
