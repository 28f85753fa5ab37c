import Foundation

/// GQA's balanced questions of the test-dev split.
struct GQA: Benchmark {
  private static let questionFile = "gqa/llava_gqa_testdev_balanced.jsonl"
  private static let truthFile = "gqa/data/testdev_balanced_questions.json"
  private static let images = "gqa/data/images"

  let name = "gqa"
  let answerFolder = "gqa/answers/llava_gqa_testdev_balanced"
  let metric = "exact match"
  let files = [
    DataFile(questionFile, .questions), DataFile(truthFile, .truth), DataFile(images, .images),
  ]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.images, in: data, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let truths = try DataRow.read(data.path(Self.truthFile)).members().map { id, record in
      (id: QuestionID(id), truth: try record.text("answer"))
    }
    let pairs = sheet.paired(truths).map { (answer: $0.answer.text, right: $0.truth) }
    return Score([
      .share("accuracy", pairs.map { pair in pair.answer.map { Self.prediction($0) == pair.right } ?? false }),
      .share(
        "accuracy but for punctuation",
        pairs.map { pair in pair.answer.map { Self.plainWords($0) == Self.plainWords(pair.right) } ?? false },
        isMain: false),
    ])
  }

  /// For GQA's `eval.py`. Source: LLaVA's `scripts/convert_gqa_for_eval.py`.
  func submissions(_ sheet: AnswerSheet, in data: DataFolder) throws -> [Submission] {
    struct Prediction: Encodable {
      var questionId: QuestionID
      var prediction: String
    }
    let predictions = sheet.answers.map { Prediction(questionId: $0.id, prediction: Self.prediction($0.text ?? "")) }
    return [try Submission(suffix: ".json", json: predictions)]
  }

  private static func prediction(_ answer: String) -> String {
    var text = answer[...]
    while text.last == "." { text.removeLast() }
    return text.lowercased()
  }

  private static func plainWords(_ text: String) -> String {
    plain(String(text.unicodeScalars.filter { !CharacterSet.punctuationCharacters.contains($0) }.map(Character.init)))
  }
}

/// ScienceQA's test questions, with images and without.
struct ScienceQA: Benchmark {
  private static let questionFile = "scienceqa/llava_test_CQM-A.json"
  private static let problemFile = "scienceqa/problems.json"
  private static let splitFile = "scienceqa/pid_splits.json"
  private static let images = "scienceqa/images/test"
  private static let mark = "<image>"

  let name = "scienceqa"
  let answerFolder = "scienceqa/answers"
  let metric = "accuracy by letter: all, and IMG, those with an image"
  let maxNewTokens = 1024
  let files = [
    DataFile(questionFile, .questions), DataFile(problemFile, .truth), DataFile(splitFile, .truth),
    DataFile(images, .images),
  ]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    for record in try DataRow.read(data.path(Self.questionFile)).list() {
      guard let turn = try record.list("conversations").first else { throw record.problem("conversations: found none") }
      let text = try turn.text("value").replacing(Self.mark, with: "").trimmingCharacters(in: .whitespacesAndNewlines)
      let hasImage = record.has("image")
      try body(
        Question(
          id: record.identifier("id"),
          image: hasImage ? .file(Self.images + "/" + record.text("image")) : .none,
          // The mark in the answers' prompt is by what the scorer tells questions with an image.
          text: (hasImage ? Self.mark + "\n" : "") + text + "\n" + Question.byLetter))
    }
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let splits = try DataRow.read(data.path(Self.splitFile))
    let problems = Dictionary(
      try DataRow.read(data.path(Self.problemFile)).members().map { ($0.key, $0.record) }, uniquingKeysWith: { $1 })
    let truths = try splits.texts("test").map { id in
      guard let problem = problems[id] else { throw splits.problem("test: \(id) is not in \(Self.problemFile)") }
      return (
        id: QuestionID(id), truth: (right: try problem.integer("answer"), choices: try problem.texts("choices").count)
      )
    }
    let results = sheet.paired(truths).map { answer, truth in
      let index = answer.text.flatMap(OptionLetter.parsedForScienceQA).flatMap { Array("ABCDE").firstIndex(of: $0) }
      return (
        isRight: index == truth.right && truth.right < truth.choices, hasImage: answer.prompt.contains(Self.mark)
      )
    }
    return Score([
      .share("accuracy", results.map(\.isRight)), .share("IMG accuracy", results.filter(\.hasImage).map(\.isRight)),
    ])
  }
}

/// SEED-Bench: questions with four options about images and the middle frames of videos.
struct SEEDBench: Benchmark {
  private static let questionFile = "seed_bench/llava-seed-bench.jsonl"
  private static let truthFile = "seed_bench/SEED-Bench.json"
  /// The questions' paths name the folder of images or that of frames.
  private static let images = "seed_bench"

  let name = "seed"
  let answerFolder = "seed_bench/answers"
  let metric = "the option's letter, exactly: all, image, video"
  let files = [
    DataFile(questionFile, .questions), DataFile(truthFile, .truth),
    DataFile("seed_bench/SEED-Bench-image", .images), DataFile("seed_bench/SEED-Bench-video-image", .images),
  ]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.images, in: data, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let truth = try DataRow.read(data.path(Self.truthFile))
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
    let ids = try DataRow.read(data.path(Self.truthFile)).list("questions").map { record in
      let id = try record.identifier("question_id")
      return (id: id, truth: id)
    }
    let predictions = sheet.paired(ids).map { Prediction(question_id: $0.truth, prediction: $0.answer.text ?? "") }
    return [try Submission(suffix: ".jsonl", lines: predictions)]
  }
}

/// The evaluation questions of the bundled model, by what they ask for.
struct TinyTextVQA: Benchmark {
  private static let folder = "tiny-textvqa-eval"
  private static let questionFile = folder + "/question.jsonl"
  private static let truthFile = folder + "/answers.jsonl"
  private static let images = folder + "/images"

  let name = "tiny-textvqa"
  let answerFolder = folder + "/answers"
  let metric = "exact match, by question family"
  let files = [
    DataFile(questionFile, .questions), DataFile(truthFile, .truth), DataFile(images, .images),
  ]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.images, in: data, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    var truths: [(id: QuestionID, truth: (answer: String, family: String))] = []
    try DataRow.readLines(data.path(Self.truthFile)) { record in
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
