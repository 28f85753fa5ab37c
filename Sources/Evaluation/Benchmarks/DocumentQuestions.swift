/// DocVQA and InfoVQA: questions about scanned documents and infographics.
struct DocumentQuestions: Benchmark {
  static let docVQA = DocumentQuestions(name: "docvqa", table: QuestionTable(file: "docvqa/DocVQA_VAL.tsv"))
  static let infoVQA = DocumentQuestions(name: "infovqa", table: QuestionTable(file: "infovqa/InfoVQA_VAL.tsv"))

  let name: String
  let table: QuestionTable

  var answerFolder: String { name + "/answers" }
  var metric: String { "ANLS" }
  var files: [DataFile] { table.files }

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try table.questions(in: data, text: { try $0.shortQuestion() }, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let pairs = sheet.paired(try table.truths(in: data) { try $0.answers() })
    return Score([.mean("ANLS", pairs.map { pair in pair.answer.text.map { editSimilarity($0, pair.truth) } ?? 0 })])
  }
}
