/// SEED-Bench: questions with four options about pictures and the middle frames of videos.
struct SEEDBench: Benchmark {
  private static let questionFile = "seed_bench/llava-seed-bench.jsonl"
  private static let truthFile = "seed_bench/SEED-Bench.json"
  /// The questions' paths name the folder of pictures or that of frames.
  private static let pictures = "seed_bench"

  let name = "seed"
  let answerFolder = "seed_bench/answers"
  let metric = "the option's letter, exactly: all, image, video"
  let files = [
    DataFile(questionFile, .questions), DataFile(truthFile, .truth),
    DataFile("seed_bench/SEED-Bench-image", .pictures), DataFile("seed_bench/SEED-Bench-video-image", .pictures),
  ]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, pictures: Self.pictures, in: data, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let truth = try DataRecord.read(data.path(Self.truthFile))
    let types = Dictionary(
      try truth.members("question_type").map { (try $0.record.integer(), $0.key) }, uniquingKeysWith: { $1 })
    let truths = try truth.list("questions").map { record in
      let type = try record.integer("question_type_id")
      return (
        id: try record.identifier("question_id"),
        truth: (
          answer: try record.text("answer"), kind: try record.text("data_type"), type: types[type] ?? "type \(type)"
        )
      )
    }
    let results = sheet.paired(truths).map { answer, truth in
      (isRight: answer.text == truth.answer, kind: truth.kind, type: truth.type)
    }
    return Score(
      [.share("accuracy", results.map(\.isRight))]
        + ["image", "video"].map { kind in .share(kind, results.filter { $0.kind == kind }.map(\.isRight)) }
        + grouped(results, by: \.type).map { .share($0.key, $0.items.map(\.isRight), isMain: false) })
  }

  /// For the leaderboard. Source: LLaVA's `scripts/convert_seed_for_submission.py`.
  func submissions(_ sheet: AnswerSheet, in data: DataFolder) throws -> [Submission] {
    struct Prediction: Encodable {
      var question_id: QuestionID
      var prediction: String
    }
    let ids = try DataRecord.read(data.path(Self.truthFile)).list("questions").map { record in
      let id = try record.identifier("question_id")
      return (id: id, truth: id)
    }
    let predictions = sheet.paired(ids).map { Prediction(question_id: $0.truth, prediction: $0.answer.text ?? "") }
    return [try Submission(suffix: ".jsonl", lines: predictions)]
  }
}
