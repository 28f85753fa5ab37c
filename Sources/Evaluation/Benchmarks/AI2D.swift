/// AI2D: questions with options about diagrams of schoolbooks.
struct AI2D: Benchmark {
  private static let table = QuestionTable(file: "ai2d/AI2D_TEST.tsv")

  let name = "ai2d"
  let answerFolder = "ai2d/answers"
  let metric = "the option's letter"
  let files = table.files

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try Self.table.questions(in: data, text: { try $0.choiceQuestion() }, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let pairs = sheet.paired(try Self.table.truths(in: data) { try $0.text("answer") })
    return Score([
      .share(
        "accuracy", pairs.map { pair in pair.answer.text.map { OptionLetter.isNamed(pair.truth, by: $0) } ?? false })
    ])
  }
}
