import Storage

/// VQAv2: the test-dev questions; only the evaluation server can score them.
struct VQAv2: Benchmark {
  private static let split = "llava_vqav2_mscoco_test-dev2015"
  private static let questionFile = "vqav2/\(split).jsonl"
  /// The questions that a submission must answer, if only with an empty text.
  private static let submissionFile = "vqav2/llava_vqav2_mscoco_test2015.jsonl"
  private static let images = "vqav2/test2015"

  let name = "vqav2"
  let answerFolder = "vqav2/answers/\(split)"
  let metricDescription = "none; a submission for the evaluation server"
  let files = [DataFile(questionFile, .questions), DataFile(images, .images)]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.images, in: data, body)
  }

  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score { Score([]) }

  /// Source: LLaVA's `scripts/convert_vqav2_for_submission.py`.
  func submissions(_ answers: AnswerSet, in data: DataFolder) throws -> [Submission] {
    struct Line: Encodable {
      var questionID: QuestionID
      var answer: String

      enum CodingKeys: String, CodingKey {
        case answer
        case questionID = "question_id"
      }
    }
    var ids: [Reference<QuestionID>] = []
    let file = data.has(Self.submissionFile) ? Self.submissionFile : Self.questionFile
    try DataValue.readLines(data.path(file)) { entry in
      let id = try entry.identifier("question_id")
      ids.append(Reference(id, id))
    }
    let all = AnswerSet(answers.items, path: answers.path)
    let lines = try all.paired(ids, of: data.path(file)).map { answer, id in
      Line(questionID: id, answer: AnswerNormalizer.normalized(answer.text ?? ""))
    }
    return [try Submission(suffix: ".json", json: lines)]
  }
}

/// VQAv2: the validation questions, with public ground truth.
struct VQAv2Validation: Benchmark {
  private static let questionFile = "vqav2/v2_OpenEnded_mscoco_val2014_questions.json"
  private static let groundTruthFile = "vqav2/v2_mscoco_val2014_annotations.json"
  private static let images = "vqav2/val2014"

  let name = "vqav2-val"
  let answerFolder = "vqav2-val/answers"
  let metricDescription = "soft accuracy over 10 annotators"
  let files = [
    DataFile(questionFile, .questions), DataFile(groundTruthFile, .groundTruth), DataFile(images, .images),
  ]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    for entry in try DataValue.read(data.path(Self.questionFile)).list("questions") {
      let number = try entry.integer("image_id").description
      let digits = String(repeating: "0", count: max(0, 12 - number.count)) + number
      try body(
        Question(
          id: entry.identifier("question_id"), image: .file("\(Self.images)/COCO_val2014_\(digits).jpg"),
          text: entry.string("question") + "\n" + Question.shortAnswerInstruction))
    }
  }

  /// Scores as LLaVA's submission is scored by the evaluation server.
  ///
  /// Source: LLaVA's `scripts/convert_vqav2_for_submission.py`, and `vqaEval.py` of Antol et al. 2015.
  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    let references = try DataValue.read(data.path(Self.groundTruthFile)).list("annotations").map { entry in
      let answers = try entry.list("answers").map { try $0.string("answer") }
      guard !answers.isEmpty else { throw entry.error("answers: expected those of the annotators, found none") }
      return Reference(
        try entry.identifier("question_id"),
        (answers: answers, type: entry.optionalString("answer_type") ?? "other"))
    }
    let scores = try answers.paired(references, of: data.path(Self.groundTruthFile)).map { answer, reference in
      let accuracy = SoftAccuracy(scoredByServer: reference.answers)
      return (
        type: reference.type, value: answer.text.map { accuracy.value(of: AnswerNormalizer.normalized($0)) } ?? 0
      )
    }
    return Score(
      [.mean("accuracy", scores.map(\.value))]
        + grouped(scores, by: \.type).map { .mean($0.key, $0.items.map(\.value), isMain: false) })
  }
}

/// VizWiz: the test questions; only the evaluation server can score them.
struct VizWiz: Benchmark {
  private static let questionFile = "vizwiz/llava_test.jsonl"
  private static let images = "vizwiz/test"

  let name = "vizwiz"
  let answerFolder = "vizwiz/answers"
  let metricDescription = "none; a submission for the evaluation server"
  let files = [DataFile(questionFile, .questions), DataFile(images, .images)]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.images, in: data, body)
  }

  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score { Score([]) }

  /// Source: LLaVA's `scripts/convert_vizwiz_for_submission.py`.
  func submissions(_ answers: AnswerSet, in data: DataFolder) throws -> [Submission] {
    struct Line: Encodable {
      var image: String
      var answer: String
    }
    var images: [Reference<String>] = []
    try DataValue.readLines(data.path(Self.questionFile)) { entry in
      images.append(Reference(try entry.identifier("question_id"), try entry.string("image")))
    }
    let lines = try answers.paired(images, of: data.path(Self.questionFile)).map { answer, image in
      Line(image: image, answer: AnswerNormalizer.normalized(answer.text ?? ""))
    }
    return [try Submission(suffix: ".json", json: lines)]
  }
}

/// VizWiz: the validation questions, with public ground truth.
struct VizWizValidation: Benchmark {
  private static let groundTruthFile = "vizwiz/val.json"
  private static let images = "vizwiz/val"
  /// The same instruction as in LLaVA's file of test questions.
  private static let unanswerableInstruction =
    "When the provided information is insufficient, respond with 'Unanswerable'."

  private static let unanswerable = "unanswerable"

  let name = "vizwiz-val"
  let answerFolder = "vizwiz-val/answers"
  let metricDescription =
    "soft accuracy over 10 annotators: all, answerable, unanswerable; percentage of answers 'unanswerable'"
  let files = [DataFile(groundTruthFile, .questions, .groundTruth), DataFile(images, .images)]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    for entry in try DataValue.read(data.path(Self.groundTruthFile)).list() {
      let image = try entry.string("image")
      try body(
        Question(
          id: QuestionID(image), image: .file(Self.images + "/" + image),
          text: [entry.string("question"), Self.unanswerableInstruction, Question.shortAnswerInstruction].joined(
            separator: "\n")))
    }
  }

  /// Scores all questions, and apart those that can be answered.
  ///
  /// A model that refuses every question has the accuracy of the unanswerable ones, about a third, so the percentage
  /// of refusals is shown as well. A question is unanswerable if the file says so, or most annotators.
  ///
  /// Source: lmms-eval's task `vizwiz_vqa`; Gurari et al. 2018, VizWiz grand challenge, for the two kinds of questions.
  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    let references = try DataValue.read(data.path(Self.groundTruthFile)).list().map { entry in
      let answers = try entry.list("answers").map { try $0.string("answer") }
      guard !answers.isEmpty else { throw entry.error("answers: expected those of the annotators, found none") }
      let refusals = answers.count { AnswerNormalizer.normalized($0) == Self.unanswerable }
      let isAnswerable = try entry.optionalFlag("answerable") ?? true
      return Reference(
        QuestionID(try entry.string("image")), question: entry.optionalString("question"),
        (answers: answers, isAnswerable: isAnswerable && 2 * refusals <= answers.count))
    }
    let scores = try answers.paired(references, of: data.path(Self.groundTruthFile)).map { answer, reference in
      (
        value: answer.text.map(SoftAccuracy(annotations: reference.answers).value) ?? 0,
        isRefusal: answer.text.map { AnswerNormalizer.normalized($0) == Self.unanswerable } ?? false,
        isAnswerable: reference.isAnswerable
      )
    }
    let kinds: [Metric] = [
      .mean("answerable questions", scores.filter(\.isAnswerable).map(\.value)),
      .mean("unanswerable questions", scores.filter { !$0.isAnswerable }.map(\.value)),
      .percentage("answers 'unanswerable'", scores.map(\.isRefusal)),
    ]
    return Score([.mean("accuracy", scores.map(\.value))] + kinds.ofAnyQuestions)
  }
}
