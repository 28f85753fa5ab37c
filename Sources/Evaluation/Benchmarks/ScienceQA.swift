internal import Foundation

/// ScienceQA's test questions, with pictures and without.
struct ScienceQA: Benchmark {
  private static let questionFile = "scienceqa/llava_test_CQM-A.json"
  private static let problemFile = "scienceqa/problems.json"
  private static let splitFile = "scienceqa/pid_splits.json"
  private static let pictures = "scienceqa/images/test"
  private static let mark = "<image>"

  let name = "scienceqa"
  let answerFolder = "scienceqa/answers"
  let metric = "accuracy by letter: all, and IMG, those with a picture"
  let tokenLimit = 1024
  let files = [
    DataFile(questionFile, .questions), DataFile(problemFile, .truth), DataFile(splitFile, .truth),
    DataFile(pictures, .pictures),
  ]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    for record in try DataRecord.read(data.path(Self.questionFile)).list() {
      guard let turn = try record.list("conversations").first else { throw record.problem("conversations: found none") }
      let text = try turn.text("value").replacing(Self.mark, with: "").trimmingCharacters(in: .whitespacesAndNewlines)
      let hasPicture = record.has("image")
      try body(
        Question(
          id: record.identifier("id"),
          picture: hasPicture ? .file(Self.pictures + "/" + record.text("image")) : .none,
          // The mark in the answers' prompt is by what the scorer tells questions with a picture.
          text: (hasPicture ? Self.mark + "\n" : "") + text + "\n" + Question.byLetter))
    }
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let splits = try DataRecord.read(data.path(Self.splitFile))
    let problems = Dictionary(
      try DataRecord.read(data.path(Self.problemFile)).members().map { ($0.key, $0.record) }, uniquingKeysWith: { $1 })
    let truths = try splits.texts("test").map { id in
      guard let problem = problems[id] else { throw splits.problem("test: \(id) is not in \(Self.problemFile)") }
      return (
        id: QuestionID(id), truth: (right: try problem.integer("answer"), choices: try problem.texts("choices").count)
      )
    }
    let results = sheet.paired(truths).map { answer, truth in
      let index = answer.text.flatMap(OptionLetter.parsedForScienceQA).flatMap { Array("ABCDE").firstIndex(of: $0) }
      return (
        isRight: index == truth.right && truth.right < truth.choices, hasPicture: answer.prompt.contains(Self.mark)
      )
    }
    return Score([
      .share("accuracy", results.map(\.isRight)), .share("IMG accuracy", results.filter(\.hasPicture).map(\.isRight)),
    ])
  }
}
