import Storage

/// MMBench: the questions of the development split, in English or Chinese.
struct MMBench: Benchmark {
  enum Language: Sendable { case english, chinese }

  let language: Language

  /// The index step between the rows of one question with its options in different orders.
  private static let rotation = 1_000_000
  /// The column of the predictions in a submission.
  private static let predictionColumn = 6
  /// The columns that a submission leaves out.
  private static let omittedColumns: Set<String> = ["hint", "category", "source", "image", "comment", "l2-category"]

  init(_ language: Language) { self.language = language }

  private var split: String { language == .english ? "mmbench_dev_20230712" : "mmbench_dev_cn_20231003" }
  private var table: VLMEvalKitTable {
    VLMEvalKitTable(file: "mmbench/\(split).tsv", endsOptionsWithNaN: true)
  }

  var name: String { language == .english ? "mmbench" : "mmbench-cn" }
  var answerFolder: String { "mmbench/answers/\(split)" }
  var metricDescription: String {
    "accuracy by option letter; also circular, if the table has the options in several orders"
  }
  var maxNewTokens: Int { 1024 }
  var files: [DataFile] { table.files }

  func choices(of question: Question) -> [String] { Question.optionLetters(in: question.text) }

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    let instruction = language == .english ? Question.optionLetterInstruction : "请直接回答选项字母。"
    try table.questions(in: data, prompt: { try table.multipleChoicePrompt($0, instruction: instruction) }, body)
  }

  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    let choices = try table.choices(in: data) { row in
      guard let index = Int(try row.string("index")) else {
        throw row.error("index: expected an integer, found \(row.raw("index")?.excerpt ?? "none")")
      }
      return (question: index % Self.rotation, isFirst: index < Self.rotation, category: row["category"] ?? "other")
    }
    let matches = ChoiceResults(try answers.paired(choices, of: data.path(table.file)))
    let results = matches.results
    let first = results.filter(\.value.isFirst)
    let orders = grouped(results, by: \.value.question).map(\.items)
    let circular = Metric.percentage("circular", orders.map { $0.allSatisfy(\.isCorrect) })
    return Score(
      [.percentage("accuracy", first.map(\.isCorrect))].ofAnyQuestions + (first.count < results.count ? [circular] : [])
        + grouped(first, by: \.value.category).map { .percentage($0.key, $0.items.map(\.isCorrect), isMain: false) },
      notes: matches.notes(name), outcomes: matches.outcomes)
  }

  /// The table for the evaluation server, which expects a spreadsheet, as TSV.
  ///
  /// Source: LLaVA's `scripts/convert_mmbench_for_submission.py`.
  func submissions(_ answers: AnswerSet, in data: DataFolder) throws -> [Submission] {
    let columns = try TSVReader(data.path(table.file), required: ["index"]).columns.filter {
      !Self.omittedColumns.contains($0)
    }
    let position = min(Self.predictionColumn, columns.count)
    func line(_ fields: [String], _ prediction: String) -> String {
      let fields = fields.prefix(position) + [prediction] + fields.dropFirst(position)
      return fields.map(Self.quoted).joined(separator: "\t") + "\n"
    }
    let rows = try table.references(in: data, columns: []) { row in columns.map { row.raw($0) ?? "" } }
    let all = AnswerSet(answers.items, path: answers.path)
    let lines = try all.paired(rows, of: data.path(table.file)).map { line($0.reference, $0.answer.text ?? "") }
    return [
      Submission(
        suffix: ".tsv",
        text: line(columns, "prediction") + lines.joined())
    ]
  }

  private static func quoted(_ field: String) -> String {
    guard field.contains(where: { "\"\t\n\r\r\n".contains($0) }) else { return field }
    return "\"" + field.replacing("\"", with: "\"\"") + "\""
  }
}
