/// VQAv2's test-dev questions, whose answers only a server knows.
struct VQAv2: Benchmark {
  private static let split = "llava_vqav2_mscoco_test-dev2015"
  private static let questionFile = "vqav2/\(split).jsonl"
  /// What the server wants an answer to, be it an empty one.
  private static let wholeFile = "vqav2/llava_vqav2_mscoco_test2015.jsonl"
  private static let images = "vqav2/test2015"

  let name = "vqav2"
  let answerFolder = "vqav2/answers/\(split)"
  let metric = "none here: an upload for the server"
  let files = [DataFile(questionFile, .questions), DataFile(images, .images)]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.images, in: data, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score { Score([]) }

  /// Source: LLaVA's `scripts/convert_vqav2_for_submission.py`.
  func submissions(_ sheet: AnswerSheet, in data: DataFolder) throws -> [Submission] {
    struct Line: Encodable {
      var question_id: QuestionID
      var answer: String
    }
    var ids: [(id: QuestionID, truth: QuestionID)] = []
    let file = data.has(Self.wholeFile) ? Self.wholeFile : Self.questionFile
    try DataRow.readLines(data.path(file)) { record in
      let id = try record.identifier("question_id")
      ids.append((id, id))
    }
    let all = AnswerSheet(sheet.answers, path: sheet.path)
    let lines = all.paired(ids).map { answer, id in
      Line(question_id: id, answer: AnswerNormalizer.normalized(answer.text ?? ""))
    }
    return [try Submission(suffix: ".json", json: lines)]
  }
}

/// VQAv2's validation questions, whose answers are public.
struct VQAv2Validation: Benchmark {
  private static let questionFile = "vqav2/v2_OpenEnded_mscoco_val2014_questions.json"
  private static let truthFile = "vqav2/v2_mscoco_val2014_annotations.json"
  private static let images = "vqav2/val2014"

  let name = "vqav2-val"
  let answerFolder = "vqav2-val/answers"
  let metric = "soft accuracy over 10 annotators"
  let files = [
    DataFile(questionFile, .questions), DataFile(truthFile, .truth), DataFile(images, .images),
  ]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    for record in try DataRow.read(data.path(Self.questionFile)).list("questions") {
      let number = try record.integer("image_id").description
      let digits = String(repeating: "0", count: max(0, 12 - number.count)) + number
      try body(
        Question(
          id: record.identifier("question_id"), image: .file("\(Self.images)/COCO_val2014_\(digits).jpg"),
          text: record.text("question") + "\n" + Question.shortly))
    }
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let truths = try DataRow.read(data.path(Self.truthFile)).list("annotations").map { record in
      let answers = try record.list("answers").map { try $0.text("answer") }
      return (id: try record.identifier("question_id"), truth: (answers, record.optionalText("answer_type") ?? "other"))
    }
    let scores = sheet.paired(truths).map { answer, truth in
      (type: truth.1, value: answer.text.map(SoftScore(annotations: truth.0).value) ?? 0)
    }
    return Score(
      [.mean("accuracy", scores.map(\.value))]
        + grouped(scores, by: \.type).map { .mean($0.key, $0.items.map(\.value), isMain: false) })
  }
}

/// VizWiz's test questions, whose answers only a server knows.
struct VizWiz: Benchmark {
  private static let questionFile = "vizwiz/llava_test.jsonl"
  private static let images = "vizwiz/test"

  let name = "vizwiz"
  let answerFolder = "vizwiz/answers"
  let metric = "none here: an upload for the server"
  let files = [DataFile(questionFile, .questions), DataFile(images, .images)]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.images, in: data, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score { Score([]) }

  /// Source: LLaVA's `scripts/convert_vizwiz_for_submission.py`.
  func submissions(_ sheet: AnswerSheet, in data: DataFolder) throws -> [Submission] {
    struct Line: Encodable {
      var image: String
      var answer: String
    }
    var images: [(id: QuestionID, truth: String)] = []
    try DataRow.readLines(data.path(Self.questionFile)) { record in
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
  private static let images = "vizwiz/val"
  /// As in LLaVA's file of test questions.
  private static let refusal = "When the provided information is insufficient, respond with 'Unanswerable'."

  let name = "vizwiz-val"
  let answerFolder = "vizwiz-val/answers"
  let metric = "soft accuracy over 10 annotators"
  let files = [DataFile(truthFile, .questions, .truth), DataFile(images, .images)]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    for record in try DataRow.read(data.path(Self.truthFile)).list() {
      let image = try record.text("image")
      try body(
        Question(
          id: QuestionID(image), image: .file(Self.images + "/" + image),
          text: [record.text("question"), Self.refusal, Question.shortly].joined(separator: "\n")))
    }
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let truths = try DataRow.read(data.path(Self.truthFile)).list().map { record in
      (id: QuestionID(try record.text("image")), truth: try record.list("answers").map { try $0.text("answer") })
    }
    return Score([
      .mean(
        "accuracy", sheet.paired(truths).map { $0.answer.text.map(SoftScore(annotations: $0.truth).value) ?? 0 })
    ])
  }
}
