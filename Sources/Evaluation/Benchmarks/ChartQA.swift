/// ChartQA's test questions: those that people asked, and those made from captions.
struct ChartQA: Benchmark {
  private static let table = QuestionTable(file: "chartqa/ChartQA_TEST.tsv")

  let name = "chartqa"
  let answerFolder = "chartqa/answers"
  let metric = "relaxed accuracy: overall, human, augmented"
  let files = table.files

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try Self.table.questions(in: data, text: { try $0.shortQuestion() }, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let truths = try Self.table.truths(in: data, columns: ["answer", "split"]) { row in
      (answers: try row.answers(), split: try row.text("split"))
    }
    let results = sheet.paired(truths).map { answer, truth in
      let isRight = answer.text.map { text in truth.answers.contains { isRelaxedMatch(text, $0) } } ?? false
      return (isRight: isRight, split: truth.split)
    }
    return Score(
      [.share("relaxed accuracy", results.map(\.isRight))]
        + ["human", "augmented"].map { split in
          .share(split, results.filter { $0.split.hasSuffix(split) }.map(\.isRight))
        })
  }
}
