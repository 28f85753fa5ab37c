/// MMStar: questions with options that need the picture, in six categories.
struct MMStar: Benchmark {
  private static let table = QuestionTable(file: "mmstar/MMStar.tsv")

  let name = "mmstar"
  let answerFolder = "mmstar/answers"
  let metric = "the option's letter, mean of the categories"
  let files = table.files

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try Self.table.questions(in: data, text: { try $0.choiceQuestion() }, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let truths = try Self.table.truths(in: data, columns: ["answer", "category"]) { row in
      (answer: try row.text("answer"), category: try row.text("category"))
    }
    let results = sheet.paired(truths).map { answer, truth in
      (isRight: answer.text.map { OptionLetter.isNamed(truth.answer, by: $0) } ?? false, category: truth.category)
    }
    let categories = grouped(results, by: \.category).map { group in
      Measure.share(group.key, group.items.map(\.isRight), isMain: false)
    }
    return Score(
      [.meanOfParts("mean of categories", categories), .share("accuracy", results.map(\.isRight))] + categories)
  }
}
