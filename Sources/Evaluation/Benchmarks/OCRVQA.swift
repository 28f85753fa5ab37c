/// OCR-VQA: questions about book covers.
struct OCRVQA: Benchmark {
  private static let table = QuestionTable(file: "ocrvqa/OCRVQA_TESTCORE.tsv")

  let name = "ocrvqa"
  let answerFolder = "ocrvqa/answers"
  let metric = "exact match"
  let files = table.files

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try Self.table.questions(in: data, text: { try $0.shortQuestion() }, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let pairs = sheet.paired(try Self.table.truths(in: data) { try $0.answers() })
    return Score([
      .share(
        "accuracy",
        pairs.map { pair in pair.answer.text.map { text in pair.truth.contains { isExactMatch(text, $0) } } ?? false })
    ])
  }
}
