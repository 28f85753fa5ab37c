/// MMBench's development questions, in English or Chinese.
struct MMBench: Benchmark {
  enum Language: Sendable { case english, chinese }

  let language: Language

  /// Rows of one question with its options in another order have indices that are equal but for multiples of this.
  private static let rotation = 1_000_000
  /// Where the predictions stand in an upload, and the columns that it lacks.
  private static let predictionColumn = 6
  private static let leftOut: Set<String> = ["hint", "category", "source", "image", "comment", "l2-category"]

  init(_ language: Language) { self.language = language }

  private var split: String { language == .english ? "mmbench_dev_20230712" : "mmbench_dev_cn_20231003" }
  private var table: QuestionTable { QuestionTable(file: "mmbench/\(split).tsv") }

  var name: String { language == .english ? "mmbench" : "mmbench-cn" }
  var answerFolder: String { "mmbench/answers/\(split)" }
  var metric: String { "the option's letter; circular, where the table has the options in several orders" }
  var maxNewTokens: Int { 1024 }
  var files: [DataFile] { table.files }

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    let instruction = language == .english ? Question.byLetter : "请直接回答选项字母。"
    try table.questions(in: data, text: { try $0.choiceQuestion(instruction) }, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let truths = try table.truths(in: data) { row in
      guard let index = Int(try row.text("index")) else { throw row.problem("index: expected a whole number") }
      return (
        question: index % Self.rotation, isFirst: index < Self.rotation, answer: try row.text("answer"),
        category: row["category"] ?? "other"
      )
    }
    let results = sheet.paired(truths).map { answer, truth in
      (isRight: answer.text.map { OptionLetter.isNamed(truth.answer, by: $0) } ?? false, truth: truth)
    }
    let first = results.filter(\.truth.isFirst)
    let rounds = grouped(results, by: \.truth.question).map(\.items)
    let circular = Measure.share("circular", rounds.map { $0.allSatisfy(\.isRight) })
    return Score(
      [.share("accuracy", first.map(\.isRight))] + (rounds.count < results.count ? [circular] : [])
        + grouped(first, by: \.truth.category).map { .share($0.key, $0.items.map(\.isRight), isMain: false) },
      notes: [
        "\(name): by the letter that an answer begins with; the leaderboard's own matching of free text and its circular "
          + "rule (all orders right, by index modulo \(Self.rotation)) may differ"
      ])
  }

  /// The table that the server takes as a spreadsheet, with tabs between its fields.
  ///
  /// Source: LLaVA's `scripts/convert_mmbench_for_submission.py`.
  func submissions(_ sheet: AnswerSheet, in data: DataFolder) throws -> [Submission] {
    let columns = try DelimitedTable(data.path(table.file), required: ["index"]).columns.filter {
      !Self.leftOut.contains($0)
    }
    let behind = min(Self.predictionColumn, columns.count)
    func line(_ fields: [String], _ prediction: String) -> String {
      let fields = fields.prefix(behind) + [prediction] + fields.dropFirst(behind)
      return fields.map(Self.quoted).joined(separator: "\t") + "\n"
    }
    let rows = try table.truths(in: data, columns: []) { row in columns.map { row.raw($0) ?? "" } }
    let all = AnswerSheet(sheet.answers, path: sheet.path)
    return [
      Submission(
        suffix: ".tsv",
        text: line(columns, "prediction") + all.paired(rows).map { line($0.truth, $0.answer.text ?? "") }.joined())
    ]
  }

  private static func quoted(_ field: String) -> String {
    guard field.contains(where: { "\"\t\n\r\r\n".contains($0) }) else { return field }
    return "\"" + field.replacing("\"", with: "\"\"") + "\""
  }
}
