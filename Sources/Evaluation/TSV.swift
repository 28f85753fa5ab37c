import Storage

/// A row-by-row reader of TSV files as pandas writes them; files with images can be gigabytes long.
///
/// A field in double quotes may contain tabs, line feeds and doubled quotes.
package struct TSVReader {
  /// A row of the table, with fields by column name.
  package struct Row {
    fileprivate let fields: [String]
    fileprivate let columns: [String: Int]
    let path: String
    /// The 1-based line where the row begins.
    let line: Int

    /// The text of a field; `nil` if it is empty, `nan` or `none`, or if there is no such column.
    package subscript(_ column: String) -> String? {
      guard let text = raw(column), !["", "nan", "none"].contains(text.lowercased()) else { return nil }
      return text
    }

    /// The unmodified text of a field; `nil` if there is no such column.
    func raw(_ column: String) -> String? { columns[column].map { fields[$0] } }

    func error(_ reason: String) -> DataError { DataError(path, at: "line \(line)", reason) }

    /// The text of a field that must not be empty; `nan` and `none` are texts.
    func string(_ column: String) throws(DataError) -> String {
      guard let text = raw(column), !text.isEmpty else { throw error("\(column): expected a string, found none") }
      return text
    }
  }

  /// The maximum length of a row, in bytes.
  private static let rowLimit = 256 << 20

  let path: String
  private(set) var columns: [String] = []
  private let bytes: SharedBytes
  private var indices: [String: Int] = [:]
  private var position = 0
  private var line = 1
  /// A buffered part of the file, from `blockStart` on.
  private var block: [UInt8] = []
  private var blockStart = 0

  /// Opens a file and reads its header.
  ///
  /// - Parameter required: The columns that the table must have.
  package init(_ path: String, required: [String]) throws(DataError) {
    self.path = path
    do { bytes = try SharedBytes(mapping: path) } catch {
      throw DataError(path, reading: error)
    }
    try DataValue.checkText(bytes, path)
    var header = try nextFields() ?? []
    if header.first?.starts(with: [0xEF, 0xBB, 0xBF]) ?? false { header[0].removeFirst(3) }
    columns = try texts(header, line: 1)
    indices = Dictionary(columns.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
    for name in required where indices[name] == nil {
      throw DataError(path, at: "line 1", "expected a column '\(name)' in a TSV file")
    }
  }

  /// Returns to a row that was read before.
  mutating func row(at offset: Int, line: Int) throws(DataError) -> Row? {
    (position, self.line) = (offset, line)
    return try next()?.row
  }

  /// The next row and its byte offset in the file; `nil` after the last.
  package mutating func next() throws(DataError) -> (row: Row, offset: Int)? {
    while true {
      let (start, startLine) = (position, line)
      guard let fields = try nextFields() else { return nil }
      // pandas skips blank lines.
      if fields.count == 1, fields[0].isEmpty { continue }
      guard fields.count == columns.count else {
        throw DataError(path, at: "line \(startLine)", "expected \(columns.count) fields, found \(fields.count)")
      }
      let row = Row(fields: try texts(fields, line: startLine), columns: indices, path: path, line: startLine)
      return (row, start)
    }
  }

  /// The texts of the fields of a row.
  ///
  /// - Throws: `DataError` for bytes that are not UTF-8, as pandas does.
  private func texts(_ fields: [[UInt8]], line: Int) throws(DataError) -> [String] {
    var texts: [String] = []
    for field in fields {
      guard let text = String(validating: field, as: UTF8.self) else {
        let column = texts.count < columns.count ? columns[texts.count].excerpt : "column \(texts.count + 1)"
        throw DataError(
          path, at: "line \(line)",
          "\(column): expected UTF-8, found other bytes; convert the file, as with 'iconv -f LATIN1 -t UTF-8'")
      }
      texts.append(text)
    }
    return texts
  }

  private var byte: UInt8? {
    mutating get {
      guard position < bytes.count else { return nil }
      if !(blockStart..<blockStart + block.count).contains(position) {
        blockStart = position
        block = bytes.copy(position..<min(position + 1 << 20, bytes.count))
      }
      return block[position - blockStart]
    }
  }

  private mutating func nextFields() throws(DataError) -> [[UInt8]]? {
    guard position < bytes.count else { return nil }
    let (start, startLine) = (position, line)
    var fields: [[UInt8]] = [[]]
    var isQuoted = false
    var isAtStart = true
    while let next = byte {
      guard position - start <= Self.rowLimit else {
        throw DataError(
          path, at: "line \(startLine)", "a row of more than \(Self.rowLimit) bytes; is a closing quote missing?")
      }
      position += 1
      if next == UInt8(ascii: "\n") { line += 1 }
      switch next {
      case UInt8(ascii: "\"") where isQuoted:
        guard byte == UInt8(ascii: "\"") else {
          isQuoted = false
          break
        }
        position += 1
        fields[fields.count - 1].append(next)
      case UInt8(ascii: "\"") where isAtStart:
        isQuoted = true
        isAtStart = false
      case UInt8(ascii: "\t") where !isQuoted:
        fields.append([])
        isAtStart = true
      case UInt8(ascii: "\n") where !isQuoted:
        if fields[fields.count - 1].last == UInt8(ascii: "\r") { fields[fields.count - 1].removeLast() }
        return fields
      default:
        fields[fields.count - 1].append(next)
        isAtStart = false
      }
    }
    if fields[fields.count - 1].last == UInt8(ascii: "\r") { fields[fields.count - 1].removeLast() }
    guard !isQuoted else { throw DataError(path, at: "line \(startLine)", "a quoted field has no closing quote") }
    return fields
  }
}
