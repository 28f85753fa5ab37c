import Foundation
import Storage

/// GQA: the balanced questions of the test-dev split.
struct GQA: Benchmark {
  private static let questionFile = "gqa/llava_gqa_testdev_balanced.jsonl"
  private static let groundTruthFile = "gqa/data/testdev_balanced_questions.json"
  private static let images = "gqa/data/images"

  let name = "gqa"
  let answerFolder = "gqa/answers/llava_gqa_testdev_balanced"
  let metricDescription = "exact match"
  let files = [
    DataFile(questionFile, .questions), DataFile(groundTruthFile, .groundTruth), DataFile(images, .images),
  ]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.images, in: data, body)
  }

  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    let references = try DataValue.read(data.path(Self.groundTruthFile)).members().map { id, entry in
      Reference(QuestionID(id), question: entry.optionalString("question"), try entry.string("answer"))
    }
    let pairs = try answers.paired(references, of: data.path(Self.groundTruthFile)).map {
      (answer: $0.answer.text, reference: $0.reference)
    }
    return Score([
      .percentage(
        "accuracy",
        pairs.map { pair in
          pair.answer.map { Self.prediction($0).hasBytes(of: pair.reference) } ?? false
        }),
      .percentage(
        "accuracy without punctuation",
        pairs.map { pair in
          pair.answer.map { Self.withoutPunctuation($0).hasBytes(of: Self.withoutPunctuation(pair.reference)) } ?? false
        },
        isMain: false),
    ])
  }

  /// Predictions for GQA's `eval.py`.
  ///
  /// Source: LLaVA's `scripts/convert_gqa_for_eval.py`.
  func submissions(_ answers: AnswerSet, in data: DataFolder) throws -> [Submission] {
    struct Prediction: Encodable {
      var questionId: QuestionID
      var prediction: String
    }
    let predictions = answers.items.map { Prediction(questionId: $0.id, prediction: Self.prediction($0.text ?? "")) }
    return [try Submission(suffix: ".json", json: predictions)]
  }

  private static func prediction(_ answer: String) -> String {
    var text = answer.unicodeScalars[...]
    while text.last == "." { text.removeLast() }
    return PythonText.string(text).pythonLower
  }

  private static func withoutPunctuation(_ text: String) -> String {
    trimmedLowercase(
      String(text.unicodeScalars.filter { !CharacterSet.punctuationCharacters.contains($0) }.map(Character.init)))
  }
}

/// ScienceQA: the test questions, with and without images.
struct ScienceQA: Benchmark {
  private static let questionFile = "scienceqa/llava_test_CQM-A.json"
  private static let problemFile = "scienceqa/problems.json"
  private static let splitFile = "scienceqa/pid_splits.json"
  private static let images = "scienceqa/images/test"
  private static let placeholder = "<image>"

  let name = "scienceqa"
  let answerFolder = "scienceqa/answers"
  let metricDescription = "accuracy by option letter: all questions, and those with an image (IMG)"
  let maxNewTokens = 1024
  let files = [
    DataFile(questionFile, .questions), DataFile(problemFile, .groundTruth), DataFile(splitFile, .groundTruth),
    DataFile(images, .images),
  ]

  func choices(of question: Question) -> [String] { Question.optionLetters(in: question.text) }

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    for entry in try DataValue.read(data.path(Self.questionFile)).list() {
      guard let turn = try entry.list("conversations").first else { throw entry.error("conversations: found none") }
      let text = try turn.string("value").replacing(Self.placeholder, with: "").trimmingCharacters(
        in: .whitespacesAndNewlines)
      let hasImage = entry.has("image")
      try body(
        Question(
          id: entry.identifier("id"),
          image: hasImage ? .file(Self.images + "/" + entry.string("image")) : .none,
          // The scorer recognizes questions with an image by the placeholder in the prompt.
          text: (hasImage ? Self.placeholder + "\n" : "") + text + "\n" + Question.optionLetterInstruction))
    }
  }

  /// Scores by the letter.
  ///
  /// The source recognizes questions with an image by the placeholder in the prompt of the answer. A question without
  /// an answer has none, so the problem's image counts as well.
  ///
  /// Source: LLaVA's `llava/eval/eval_science_qa.py`.
  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    let splits = try DataValue.read(data.path(Self.splitFile))
    let problems = Dictionary(
      try DataValue.read(data.path(Self.problemFile)).members().map { (ByteString($0.key), $0.entry) },
      uniquingKeysWith: { $1 })
    let references = try splits.strings("test").map { id in
      guard let problem = problems[ByteString(id)] else {
        throw splits.error("test: \(id.excerpt) is not in \(Self.problemFile)")
      }
      let (index, choices) = (try problem.integer("answer"), try problem.strings("choices").count)
      guard (0..<choices).contains(index) else {
        throw problem.error("answer: expected the index of one of \(choices) choices, found \(index)")
      }
      return Reference(
        QuestionID(id), question: problem.optionalString("question"),
        (index: index, choices: choices, hasImage: problem.has("image")))
    }
    let results = try answers.paired(references, of: data.path(Self.splitFile)).map { answer, reference in
      let index = answer.text.flatMap { OptionLetter.parsedForScienceQA($0, choices: reference.choices) }
      return (
        isCorrect: index == reference.index, hasImage: reference.hasImage || answer.prompt.contains(Self.placeholder),
        outcome: Outcome(answer, isCorrect: index == reference.index)
      )
    }
    return Score(
      [.percentage("accuracy", results.map(\.isCorrect))]
        + [.percentage("IMG accuracy", results.filter(\.hasImage).map(\.isCorrect))].ofAnyQuestions,
      outcomes: results.compactMap(\.outcome))
  }
}

/// SEED-Bench: multiple-choice questions about images and the middle frames of videos.
struct SEEDBench: Benchmark {
  private static let questionFile = "seed_bench/llava-seed-bench.jsonl"
  private static let groundTruthFile = "seed_bench/SEED-Bench.json"
  /// The paths in the question file begin with the folder of the images or of the frames.
  private static let images = "seed_bench"

  let name = "seed"
  let answerFolder = "seed_bench/answers"
  let metricDescription = "accuracy by exact option letter: all, image, video"
  let files = [
    DataFile(questionFile, .questions), DataFile(groundTruthFile, .groundTruth),
    DataFile("seed_bench/SEED-Bench-image", .images), DataFile("seed_bench/SEED-Bench-video-image", .images),
  ]

  func choices(of question: Question) -> [String] { Question.optionLetters(in: question.text) }

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.images, in: data, body)
  }

  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    let groundTruth = try DataValue.read(data.path(Self.groundTruthFile))
    let types = Dictionary(
      try groundTruth.members("question_type").map { (try $0.entry.integer(), $0.key) }, uniquingKeysWith: { $1 })
    let references = try groundTruth.list("questions").map { entry in
      let type = try entry.integer("question_type_id")
      let answer = try entry.string("answer")
      guard ["A", "B", "C", "D"].contains(answer) else {
        throw entry.error("answer: expected A, B, C or D, found \(answer.excerpt)")
      }
      return Reference(
        try entry.identifier("question_id"), question: entry.optionalString("question"),
        (answer: answer, kind: try entry.string("data_type"), type: types[type] ?? "type \(type)"))
    }
    let results = try answers.paired(references, of: data.path(Self.groundTruthFile)).map { answer, reference in
      let isCorrect = answer.text?.hasBytes(of: reference.answer) ?? false
      return (
        isCorrect: isCorrect, kind: reference.kind, type: reference.type, outcome: Outcome(answer, isCorrect: isCorrect)
      )
    }
    return Score(
      [.percentage("accuracy", results.map(\.isCorrect))]
        + ["image", "video"].map { kind in
          Metric.percentage(kind, results.filter { $0.kind == kind }.map(\.isCorrect))
        }.ofAnyQuestions
        + grouped(results, by: \.type).map { .percentage($0.key, $0.items.map(\.isCorrect), isMain: false) },
      outcomes: results.compactMap(\.outcome))
  }

  /// Predictions for the leaderboard.
  ///
  /// Source: LLaVA's `scripts/convert_seed_for_submission.py`.
  func submissions(_ answers: AnswerSet, in data: DataFolder) throws -> [Submission] {
    struct Prediction: Encodable {
      var questionID: QuestionID
      var prediction: String

      enum CodingKeys: String, CodingKey {
        case prediction
        case questionID = "question_id"
      }
    }
    let ids = try DataValue.read(data.path(Self.groundTruthFile)).list("questions").map { entry in
      let id = try entry.identifier("question_id")
      return Reference(id, id)
    }
    let predictions = try answers.paired(ids, of: data.path(Self.groundTruthFile)).map {
      Prediction(questionID: $0.reference, prediction: $0.answer.text ?? "")
    }
    return [try Submission(suffix: ".jsonl", lines: predictions)]
  }
}

/// The evaluation set of the bundled model.
struct TinyTextVQA: Benchmark {
  private static let folder = "tiny-textvqa-eval"
  private static let questionFile = folder + "/question.jsonl"
  private static let groundTruthFile = folder + "/answers.jsonl"
  private static let images = folder + "/images"

  let name = "tiny-textvqa"
  let answerFolder = folder + "/answers"
  let metricDescription = "exact match, by question family"
  let files = [
    DataFile(questionFile, .questions), DataFile(groundTruthFile, .groundTruth), DataFile(images, .images),
  ]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.images, in: data, body)
  }

  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    var references: [Reference<(answer: String, family: String)>] = []
    try DataValue.readLines(data.path(Self.groundTruthFile)) { entry in
      references.append(
        Reference(
          try entry.identifier("question_id"), question: entry.optionalString("text"),
          (try entry.string("answer"), try entry.string("category"))))
    }
    let results = try answers.paired(references, of: data.path(Self.groundTruthFile)).map { answer, reference in
      (isCorrect: answer.text.map { isExactMatch($0, reference.answer) } ?? false, family: reference.family)
    }
    return Score(
      [.percentage("exact match", results.map(\.isCorrect))]
        + grouped(results, by: \.family).map { .percentage($0.key, $0.items.map(\.isCorrect), isMain: false) })
  }
}
