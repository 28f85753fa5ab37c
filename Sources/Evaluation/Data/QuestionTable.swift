/// Questions in a table of the form that MMBench has, and VLMEvalKit for all its benchmarks: `index`, `question`, `image` in
/// base64, `answer`, and for questions with options `A`, `B` and so on.
struct QuestionTable {
  /// Below the folder of all benchmarks.
  let file: String

  /// What is shorter is no picture but the `index` of the row that has it.
  private static let shortestPicture = 65

  var files: [DataFile] { [DataFile(file, .questions, .pictures, .truth)] }

  /// Hands out the questions.
  ///
  /// - Parameter text: What is asked in a row.
  func questions(
    in data: DataFolder, text: (DelimitedTable.Row) throws -> String, _ body: (Question) throws -> Void
  ) throws {
    var table = try DelimitedTable(data.path(file), required: ["index", "question", "image"])
    // Rows with a picture, to which others may point.
    var places: [String: (offset: Int, line: Int)] = [:]
    var pictures = table
    while let (row, offset) = try table.next() {
      let index = try row.text("index")
      var picture = try row.text("image")
      if picture.utf8.count >= Self.shortestPicture {
        places[index] = (offset, row.line)
      } else {
        guard let place = places[picture], let other = try pictures.row(at: place.offset, line: place.line) else {
          throw row.problem("image: expected base64 or the index of a row above, found \(picture)")
        }
        picture = try other.text("image")
      }
      try body(Question(id: Self.identifier(index), picture: .base64(picture), text: try text(row)))
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

  /// A question with its hint in front, its options behind it, and how to answer.
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
