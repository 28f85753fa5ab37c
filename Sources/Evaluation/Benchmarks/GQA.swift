internal import Foundation

/// GQA's balanced questions of the test-dev split.
struct GQA: Benchmark {
  private static let questionFile = "gqa/llava_gqa_testdev_balanced.jsonl"
  private static let truthFile = "gqa/data/testdev_balanced_questions.json"
  private static let pictures = "gqa/data/images"

  let name = "gqa"
  let answerFolder = "gqa/answers/llava_gqa_testdev_balanced"
  let metric = "exact match"
  let files = [
    DataFile(questionFile, .questions), DataFile(truthFile, .truth), DataFile(pictures, .pictures),
  ]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, pictures: Self.pictures, in: data, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let truths = try DataRecord.read(data.path(Self.truthFile)).members().map { id, record in
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
