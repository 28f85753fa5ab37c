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
