import Storage

/// A table in a text file with tabs between its fields, as pandas writes it, read row by row: images make such files
/// gigabytes long.
///
/// A field in double quotes may hold tabs and line feeds, and a quote as two.
package struct DelimitedTable {
  /// A row of the table: its fields as bytes, by the column's name.
  package struct Row {
    fileprivate let fields: [[UInt8]]
    fileprivate let columns: [String: Int]
    let path: String
    /// The line that it begins on.
    let line: Int

    /// A field's text; `nil` where it is empty, is what pandas writes for nothing, or has no column.
    package subscript(_ column: String) -> String? {
      guard let text = raw(column), !["", "nan", "none"].contains(text.lowercased()) else { return nil }
      return text
    }

    /// A field's text, whatever it is; `nil` where there is no such column.
    func raw(_ column: String) -> String? { columns[column].map { String(decoding: fields[$0], as: UTF8.self) } }

    func problem(_ reason: String) -> DataError { DataError(path, at: "line \(line)", reason) }

    func text(_ column: String) throws(DataError) -> String {
      guard let text = self[column] else { throw problem("\(column): expected a text, found none") }
      return text
    }
  }

  /// The longest row that is read, in bytes.
  private static let rowLimit = 256 << 20

  let path: String
  private(set) var columns: [String] = []
  private let bytes: SharedBytes
  private var indices: [String: Int] = [:]
  private var position = 0
  private var line = 1
  /// A part of the file, from `blockStart` on.
  private var block: [UInt8] = []
  private var blockStart = 0

  /// - Parameter required: Columns that there must be.
  package init(_ path: String, required: [String]) throws(DataError) {
    self.path = path
    do { bytes = try SharedBytes(mapping: path) } catch {
      throw DataError(path, String("\(error)".dropFirst(path.count + 2)))
    }
    var header = try nextFields() ?? []
    if header.first?.starts(with: [0xEF, 0xBB, 0xBF]) ?? false { header[0].removeFirst(3) }
    columns = header.map { String(decoding: $0, as: UTF8.self) }
    indices = Dictionary(columns.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
    for name in required where indices[name] == nil {
      throw DataError(path, at: "line 1", "expected a column '\(name)' in a table with tabs between its fields")
    }
  }

  /// Goes back to a row that was read before.
  mutating func row(at offset: Int, line: Int) throws(DataError) -> Row? {
    (position, self.line) = (offset, line)
    return try next()?.row
  }

  /// The next row, and where it begins in the file; `nil` after the last.
  package mutating func next() throws(DataError) -> (row: Row, offset: Int)? {
    while true {
      let (start, startLine) = (position, line)
      guard let fields = try nextFields() else { return nil }
      // pandas skips blank lines.
      if fields.count == 1, fields[0].isEmpty { continue }
      guard fields.count == columns.count else {
        throw DataError(path, at: "line \(startLine)", "expected \(columns.count) fields, found \(fields.count)")
      }
      return (Row(fields: fields, columns: indices, path: path, line: startLine), start)
    }
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
          path, at: "line \(startLine)", "a row of more than \(Self.rowLimit) bytes; is a quote missing?")
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
    guard !isQuoted else { throw DataError(path, at: "line \(startLine)", "a field's quote is never closed") }
    return fields
  }
}

/// Questions in a table of the form that MMBench has, and VLMEvalKit for all its benchmarks: `index`, `question`, `image` in
/// base64, `answer`, and for questions with options `A`, `B` and so on.
struct QuestionTable {
  /// Below the folder of all benchmarks.
  let file: String

  /// What is shorter is no image but the `index` of the row that has it.
  private static let shortestImage = 65

  var files: [DataFile] { [DataFile(file, .questions, .images, .truth)] }

  /// Hands out the questions.
  ///
  /// - Parameter text: What is asked in a row.
  func questions(
    in data: DataFolder, text: (DelimitedTable.Row) throws -> String, _ body: (Question) throws -> Void
  ) throws {
    var table = try DelimitedTable(data.path(file), required: ["index", "question", "image"])
    // Rows with an image, to which others may point.
    var places: [String: (offset: Int, line: Int)] = [:]
    var images = table
    while let (row, offset) = try table.next() {
      let index = try row.text("index")
      var image = try row.text("image")
      if image.utf8.count >= Self.shortestImage {
        places[index] = (offset, row.line)
      } else {
        guard let place = places[image], let other = try images.row(at: place.offset, line: place.line) else {
          throw row.problem("image: expected base64 or the index of a row above, found \(image)")
        }
        image = try other.text("image")
      }
      try body(Question(id: Self.identifier(index), image: .base64(image), text: try text(row)))
    }
  }

  /// What is right in each row.
  func truths<Truth>(
    in data: DataFolder, columns: [String] = ["answer"], _ truth: (DelimitedTable.Row) throws -> Truth
  ) throws -> [(id: QuestionID, truth: Truth)] {
    var table = try DelimitedTable(data.path(file), required: ["index"] + columns)
    var truths: [(id: QuestionID, truth: Truth)] = []
    while let (row, _) = try table.next() {
      truths.append((Self.identifier(try row.text("index")), try truth(row)))
    }
    return truths
  }

  static func identifier(_ index: String) -> QuestionID { Int(index).map { QuestionID($0) } ?? QuestionID(index) }
}

extension DelimitedTable.Row {
  /// The letters of the options that the row has, and what they stand for.
  var options: [(letter: String, text: String)] {
    "ABCDEFGH".map { (String($0), self[String($0)]) }.prefix { $0.1 != nil }.map { ($0, $1 ?? "") }
  }

  /// A question with its hint in front, its options after it, and how to answer.
  func choiceQuestion(_ instruction: String = Question.byLetter) throws -> String {
    let parts = [self["hint"], try text("question")].compactMap(\.self)
    return (parts + options.map { "\($0.letter). \($0.text)" } + [instruction]).joined(separator: "\n")
  }

  /// A question with the instruction to answer shortly.
  func shortQuestion() throws -> String { try text("question") + "\n" + Question.shortly }

  /// The right answers: those of a list in Python's form, or the one that there is.
  func answers() throws -> [String] {
    guard let answer = raw("answer"), !answer.isEmpty else { throw problem("answer: expected a text, found none") }
    return PythonList.texts(answer) ?? [answer]
  }
}

/// Lists of texts as Python prints them, `['a', "it's"]`, which VLMEvalKit's tables hold where a question has several right
/// answers.
package enum PythonList {
  /// The texts of a list; `nil` for what is no such list.
  package static func texts(_ text: String) -> [String]? {
    let trimmed = text.drop { $0.isWhitespace }
    guard trimmed.first == "[", let end = trimmed.lastIndex(of: "]"),
      trimmed[end...].dropFirst().allSatisfy(\.isWhitespace)
    else { return nil }
    var rest = trimmed[..<end].dropFirst().drop { $0.isWhitespace }
    var texts: [String] = []
    while let quote = rest.first {
      guard quote == "'" || quote == "\"", let item = quoted(rest.dropFirst(), until: quote) else { return nil }
      texts.append(item.text)
      rest = item.rest.drop { $0.isWhitespace }
      guard rest.isEmpty || rest.first == "," else { return nil }
      rest = rest.dropFirst().drop { $0.isWhitespace }
    }
    return texts
  }

  private static func quoted(_ text: Substring, until quote: Character) -> (text: String, rest: Substring)? {
    var (result, rest) = ("", text)
    while let character = rest.popFirst() {
      switch character {
      case quote: return (result, rest)
      case "\\":
        guard let escaped = rest.popFirst() else { return nil }
        result.append(["n": "\n", "t": "\t", "r": "\r"][escaped] ?? escaped)
      default: result.append(character)
      }
    }
    return nil
  }
}
