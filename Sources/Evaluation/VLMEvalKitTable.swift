import Storage

/// A benchmark table in the TSV format of MMBench and VLMEvalKit.
///
/// The columns are `index`, `question`, `image` in base64 and `answer`; multiple-choice tables also have `A`, `B` etc.
struct VLMEvalKitTable {
  /// The path relative to the data folder.
  let file: String
  /// Whether `nan` in the last options stands for no option, as pandas writes an empty cell of a text column.
  var endsOptionsWithNaN = false

  var files: [DataFile] { [DataFile(file, .questions, .images, .groundTruth)] }

  /// Calls `body` with each question.
  ///
  /// - Parameter prompt: The prompt for a row.
  func questions(
    in data: DataFolder, prompt: (TSVReader.Row) throws -> String, _ body: (Question) throws -> Void
  ) throws {
    var table = try TSVReader(data.path(file), required: ["index", "question", "image"])
    var images = TableImages(table)
    while let (row, offset) = try table.next() {
      let image = try images.image(of: row, at: offset)
      try body(Question(id: Self.identifier(try row.string("index")), image: .base64(image), text: try prompt(row)))
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
    guard !references.isEmpty else { throw DataError(data.path(file), "has no rows") }
    return references
  }

  private static func identifier(_ index: String) -> QuestionID {
    Int(index).map { QuestionID($0) } ?? QuestionID(index)
  }
}

/// The images of a table, which rows may take from other rows.
///
/// Source: `ImageBaseDataset.__init__` of VLMEvalKit.
private struct TableImages {
  /// The minimum length of an image in base64; a shorter text is the `index` of the row with the image.
  private static let minLength = 65

  private typealias Place = (offset: Int, line: Int)

  private var table: TSVReader
  /// The rows with an image, and the rows with the index of another, by their indices.
  private var places: [ByteString: Place] = [:]
  private var references: [ByteString: ByteString] = [:]
  private var isComplete = false

  /// - Parameter table: The table before its first row.
  init(_ table: TSVReader) { self.table = table }

  /// The image of a row in base64. The whole table is read once for a reference to a later row.
  mutating func image(of row: TSVReader.Row, at offset: Int) throws(DataError) -> String {
    let image = try row.string("image")
    try add(row, image, at: offset)
    if image.utf8.count >= Self.minLength { return try Self.single(image, row) }
    var place = place(of: ByteString(image))
    if place == nil, !isComplete {
      isComplete = true
      var rows = table
      while let (row, offset) = try rows.next() { try add(row, try row.string("image"), at: offset) }
      place = self.place(of: ByteString(image))
    }
    guard let place, let other = try table.row(at: place.offset, line: place.line) else {
      throw row.error("image: expected base64 or the index of a row with an image, found \(image.excerpt)")
    }
    places[ByteString(image)] = place
    return try Self.single(try other.string("image"), other)
  }

  /// The image of a field with base64, a data URL or a Python list of one image.
  private static func single(_ field: String, _ row: TSVReader.Row) throws(DataError) -> String {
    var image = field
    if field.utf8.first == UInt8(ascii: "["), let images = PythonList.strings(field) {
      guard images.count == 1 else { throw row.error("image: expected one image, found a list of \(images.count)") }
      image = images[0]
    }
    guard image.hasPrefix("data:"), let comma = image.utf8.firstIndex(of: UInt8(ascii: ",")) else { return image }
    return String(image[image.utf8.index(after: comma)...])
  }

  private mutating func add(_ row: TSVReader.Row, _ image: String, at offset: Int) throws(DataError) {
    let index = ByteString(try row.string("index"))
    if image.utf8.count >= Self.minLength {
      places[index] = (offset, row.line)
    } else {
      references[index] = ByteString(image)
    }
  }

  /// The row with the image of an index; `nil` if there is none, or the references have a cycle.
  private func place(of index: ByteString) -> Place? {
    var index = index
    for _ in 0...references.count {
      if let place = places[index] { return place }
      guard let next = references[index] else { return nil }
      index = next
    }
    return nil
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
