import Storage

/// A benchmark table in the TSV format of MMBench and VLMEvalKit.
///
/// The columns are `index`, `question`, `image` in base64 and `answer`; multiple-choice tables also have `A`, `B` etc.
struct VLMEvalKitTable {
  /// The path relative to the data folder.
  let file: String
  /// Whether `nan` in the last options stands for no option, as pandas writes an empty cell of a text column.
  var endsOptionsWithNaN = false

  /// The minimum length of an image in base64; a shorter text is the `index` of the row with the image.
  private static let minImageLength = 65

  var files: [DataFile] { [DataFile(file, .questions, .images, .groundTruth)] }

  /// Calls `body` with each question.
  ///
  /// - Parameter prompt: The prompt for a row.
  func questions(
    in data: DataFolder, prompt: (TSVReader.Row) throws -> String, _ body: (Question) throws -> Void
  ) throws {
    var table = try TSVReader(data.path(file), required: ["index", "question", "image"])
    // Rows with an image, which later rows may reference.
    var places: [ByteString: (offset: Int, line: Int)] = [:]
    var images = table
    while let (row, offset) = try table.next() {
      let index = try row.string("index")
      var image = try row.string("image")
      if image.utf8.count >= Self.minImageLength {
        places[ByteString(index)] = (offset, row.line)
      } else {
        guard let place = places[ByteString(image)], let other = try images.row(at: place.offset, line: place.line)
        else {
          throw row.error("image: expected base64 or the index of a row above, found \(image.excerpt)")
        }
        image = try other.string("image")
      }
      try body(Question(id: Self.identifier(index), image: .base64(image), text: try prompt(row)))
    }
  }

  /// The reference answer of each row, or any other value read from its columns.
  func references<Value>(
    in data: DataFolder, columns: [String] = ["answer"], _ value: (TSVReader.Row) throws -> Value
  ) throws -> [Reference<Value>] {
    var table = try TSVReader(data.path(file), required: ["index"] + columns)
    var references: [Reference<Value>] = []
    var seen: Set<QuestionID> = []
    while let (row, _) = try table.next() {
      let id = Self.identifier(try row.string("index"))
      guard seen.insert(id).inserted else { throw row.error("index: \(id.description.excerpt) occurs twice") }
      references.append(Reference(id, question: row.raw("question"), try value(row)))
    }
    return references
  }

  private static func identifier(_ index: String) -> QuestionID {
    Int(index).map { QuestionID($0) } ?? QuestionID(index)
  }
}

extension VLMEvalKitTable {
  /// A multiple-choice question.
  struct Choice<Value> {
    var options: [ChoiceOption]
    /// The letter of the correct option.
    var answer: Unicode.Scalar
    var value: Value
  }

  /// The options and the correct option of each row, with another value read from its columns.
  ///
  /// Answers are letters. Some copies of the tables have indices instead: if all answers are integers and one is 0,
  /// they count from 0.
  func choices<Value>(
    in data: DataFolder, columns: [String] = [], _ value: (TSVReader.Row) throws -> Value
  ) throws -> [Reference<Choice<Value>>] {
    let rows = try references(in: data, columns: ["answer"] + columns) { row in
      (
        answer: row.raw("answer") ?? "", options: row.options(endsWithNaN: endsOptionsWithNaN), line: row.line,
        value: try value(row)
      )
    }
    let hasIndices = rows.contains { $0.value.answer == "0" } && rows.allSatisfy { Int($0.value.answer) != nil }
    return try rows.map { row in
      let (answer, options) = (row.value.answer, row.value.options)
      let letter = hasIndices ? Self.letter(at: Int(answer)) : Self.letter(answer)
      guard let letter, options.contains(where: { $0.letter == letter }) else {
        let letters = options.map { String($0.letter) }
        throw DataError(
          data.path(file), at: "line \(row.value.line)",
          "answer: expected the letter of an option, \(Remedy.list(letters)), found \(answer.excerpt)")
      }
      return Reference(
        row.id, question: row.question, Choice(options: options, answer: letter, value: row.value.value))
    }
  }

  private static func letter(_ answer: String) -> Unicode.Scalar? {
    let answer = PythonText.stripped(answer).uppercased().unicodeScalars
    return answer.count == 1 ? answer.first : nil
  }

  private static func letter(at index: Int?) -> Unicode.Scalar? {
    guard let index, (0..<26).contains(index) else { return nil }
    return Unicode.Scalar(UInt8(ascii: "A") + UInt8(index))
  }

  /// The prompt of a multiple-choice question: hint, question, options and instruction, one per line.
  func multipleChoicePrompt(
    _ row: TSVReader.Row, instruction: String = Question.optionLetterInstruction
  ) throws -> String {
    let options = row.options(endsWithNaN: endsOptionsWithNaN)
    guard !options.isEmpty else { throw row.error("A: expected an option, found none") }
    let parts = [row["hint"], try row.string("question")].compactMap(\.self)
    return (parts + options.map { "\($0.letter). \($0.text)" } + [instruction]).joined(separator: "\n")
  }
}

/// Which answers to multiple-choice questions are correct.
struct ChoiceResults<Value> {
  private(set) var results: [(isCorrect: Bool, value: Value)] = []
  /// Calibration of answers by likelihood.
  private(set) var outcomes: [Outcome] = []
  /// Answers that name no option.
  private var unmatched = 0

  init(_ pairs: [(answer: Answer, reference: VLMEvalKitTable.Choice<Value>)]) {
    for (answer, choice) in pairs {
      let letter = answer.text.flatMap { OptionMatching.option(namedBy: $0, among: choice.options) }
      if letter == nil, answer.text != nil { unmatched += 1 }
      results.append((letter == choice.answer, choice.value))
      if let outcome = Outcome(answer, isCorrect: letter == choice.answer) { outcomes.append(outcome) }
    }
  }

  /// A caveat if answers name no option.
  func notes(_ benchmark: String) -> [String] {
    guard unmatched > 0 else { return [] }
    return [
      "\(benchmark): \(unmatched) of \(results.count) answers name no option and count as wrong; VLMEvalKit asks a "
        + "judge model about such answers"
    ]
  }
}

extension TSVReader.Row {
  /// The options of a multiple-choice question. Empty cells are none; `None` and `nan` are texts.
  ///
  /// - Parameter endsWithNaN: Whether `nan` is a text only before another option, or as the correct answer.
  func options(endsWithNaN: Bool) -> [ChoiceOption] {
    var options = ("A"..."Z" as ClosedRange<Unicode.Scalar>).scalars.compactMap { letter in
      raw(String(letter)).flatMap { PythonText.stripped($0).isEmpty ? nil : ChoiceOption(letter, $0) }
    }
    let answer = raw("answer") ?? ""
    while endsWithNaN, let last = options.last, last.text.lowercased() == "nan",
      answer.uppercased() != String(last.letter)
    {
      options.removeLast()
    }
    return options
  }

  /// The prompt of a question with a short answer: question and instruction.
  func shortAnswerPrompt() throws -> String { try string("question") + "\n" + Question.shortAnswerInstruction }

  /// The reference answers: the items of a Python list, or the whole field.
  func answers() throws -> [String] {
    guard let answer = raw("answer"), !answer.isEmpty else { throw error("answer: expected a string, found none") }
    let answers = PythonList.strings(answer) ?? [answer]
    guard !answers.isEmpty else { throw error("answer: expected an answer, found an empty list") }
    return answers
  }
}

extension ClosedRange<Unicode.Scalar> {
  fileprivate var scalars: [Unicode.Scalar] { (lowerBound.value...upperBound.value).compactMap(Unicode.Scalar.init) }
}
