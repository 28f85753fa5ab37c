/// VizWiz's test questions, whose answers only a server knows.
struct VizWiz: Benchmark {
  private static let questionFile = "vizwiz/llava_test.jsonl"
  private static let pictures = "vizwiz/test"

  let name = "vizwiz"
  let answerFolder = "vizwiz/answers"
  let metric = "none here: an upload for the server"
  let files = [DataFile(questionFile, .questions), DataFile(pictures, .pictures)]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, pictures: Self.pictures, in: data, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score { Score([]) }

  /// Source: LLaVA's `scripts/convert_vizwiz_for_submission.py`.
  func submissions(_ sheet: AnswerSheet, in data: DataFolder) throws -> [Submission] {
    struct Line: Encodable {
      var image: String
      var answer: String
    }
    var images: [(id: QuestionID, truth: String)] = []
    try DataRecord.readLines(data.path(Self.questionFile)) { record in
      images.append((try record.identifier("question_id"), try record.text("image")))
    }
    let lines = sheet.paired(images).map { answer, image in
      Line(image: image, answer: AnswerNormalizer.normalized(answer.text ?? ""))
    }
    return [try Submission(suffix: ".json", json: lines)]
  }
}

/// VizWiz's validation questions, whose answers are public.
struct VizWizValidation: Benchmark {
  private static let truthFile = "vizwiz/val.json"
  private static let pictures = "vizwiz/val"
  /// As in LLaVA's file of test questions.
  private static let refusal = "When the provided information is insufficient, respond with 'Unanswerable'."

  let name = "vizwiz-val"
  let answerFolder = "vizwiz-val/answers"
  let metric = "soft accuracy over 10 annotators"
  let files = [DataFile(truthFile, .questions, .truth), DataFile(pictures, .pictures)]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    for record in try DataRecord.read(data.path(Self.truthFile)).list() {
      let image = try record.text("image")
      try body(
        Question(
          id: QuestionID(image), picture: .file(Self.pictures + "/" + image),
          text: [record.text("question"), Self.refusal, Question.shortly].joined(separator: "\n")))
    }
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let truths = try DataRecord.read(data.path(Self.truthFile)).list().map { record in
      (id: QuestionID(try record.text("image")), truth: try record.list("answers").map { try $0.text("answer") })
    }
    return Score([
      .mean(
        "accuracy", sheet.paired(truths).map { $0.answer.text.map(SoftScore(annotations: $0.truth).value) ?? 0 })
    ])
  }
}
