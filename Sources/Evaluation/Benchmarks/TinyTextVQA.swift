/// The evaluation questions of the bundled model, by what they ask for.
struct TinyTextVQA: Benchmark {
  private static let folder = "tiny-textvqa-eval"
  private static let questionFile = folder + "/question.jsonl"
  private static let truthFile = folder + "/answers.jsonl"
  private static let pictures = folder + "/images"

  let name = "tiny-textvqa"
  let answerFolder = folder + "/answers"
  let metric = "exact match, by question family"
  let files = [
    DataFile(questionFile, .questions), DataFile(truthFile, .truth), DataFile(pictures, .pictures),
  ]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, pictures: Self.pictures, in: data, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    var truths: [(id: QuestionID, truth: (answer: String, family: String))] = []
    try DataRecord.readLines(data.path(Self.truthFile)) { record in
      truths.append((try record.identifier("question_id"), (try record.text("answer"), try record.text("category"))))
    }
    let results = sheet.paired(truths).map { answer, truth in
      (isRight: answer.text.map { isExactMatch($0, truth.answer) } ?? false, family: truth.family)
    }
    return Score(
      [.share("exact match", results.map(\.isRight))]
        + grouped(results, by: \.family).map { .share($0.key, $0.items.map(\.isRight), isMain: false) })
  }
}
