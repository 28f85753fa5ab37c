internal import Foundation

/// MME: two questions about each picture, one with the answer yes and one with no.
struct MME: Benchmark {
  private static let questionFile = "MME/llava_mme.jsonl"
  private static let release = "MME/MME_Benchmark_release_version"
  private static let perception = [
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
  ]
  private static let cognition = [
    "commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning",
  ]

  let name = "mme"
  let answerFolder = "MME/answers"
  let uploadFolder = "MME/eval_tool/answers"
  let metric = "100 * (accuracy + accuracy of pairs), summed over categories: perception, cognition, total"
  let files = [DataFile(questionFile, .questions), DataFile(release, .pictures, .truth)]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, pictures: Self.release, in: data, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let truth = try MMETruth(in: data.path(Self.release), categories: Self.perception + Self.cognition)
    let answers = Dictionary(
      try sheet.answers.map { (try truth.key($0, in: sheet.path), $0) }, uniquingKeysWith: { $1 })
    var scores: [String: CategoryScore] = [:]
    for picture in truth.pictures {
      let right = picture.questions.compactMap { question -> Bool? in
        guard let answer = answers[question.key] else { return sheet.countsMissing ? false : nil }
        return answer.text.flatMap(YesNo.isYesForMME) == question.isYes
      }
      if !right.isEmpty { scores[picture.category, default: CategoryScore()].add(right) }
    }
    func sum(_ name: String, _ categories: [String]) -> Measure {
      CategoryScore.sum(name, categories.compactMap { scores[$0] })
    }
    let categories = Self.perception + Self.cognition
    let absent = categories.filter { scores[$0] == nil }
    return Score(
      [sum("perception", Self.perception), sum("cognition", Self.cognition), sum("total", categories)]
        + categories.compactMap { name in scores[name].map { CategoryScore.sum(name, [$0], isMain: false) } },
      notes: absent.isEmpty ? [] : ["mme: nothing of \(absent.joined(separator: ", ")) is there, so the sums lack them"]
    )
  }

  /// A file for each category, for MME's `calculation.py`.
  func submissions(_ sheet: AnswerSheet, in data: DataFolder) throws -> [Submission] {
    let truth = try MMETruth(in: data.path(Self.release), categories: Self.perception + Self.cognition)
    let lines = try sheet.answers.map { answer in
      let key = try truth.key(answer, in: sheet.path)
      let text = (answer.text ?? "").split { $0 == "\n" || $0 == "\t" || $0 == "\r\n" }.joined(separator: " ")
      return (
        category: key.category, line: "\(key.file)\t\(key.question)\t\(truth.isYes(key) ? "Yes" : "No")\t\(text)\n"
      )
    }
    return grouped(lines, by: \.category).map { category, lines in
      Submission(suffix: "/\(category).txt", text: lines.map(\.line).joined())
    }
  }
}

/// The answers of a category, by picture.
private struct CategoryScore {
  private var right = 0
  private var count = 0
  /// For each picture what it adds to the mean: 100 for both questions together, and 100 if all are right.
  private var points: [Double] = []
  private var pairs = 0

  mutating func add(_ answers: [Bool]) {
    let hits = answers.count { $0 }
    right += hits
    count += answers.count
    if hits == answers.count { pairs += 1 }
    points.append(100 * Double(hits) / Double(answers.count) + (hits == answers.count ? 100 : 0))
  }

  private var score: Double { 100 * (Double(right) / Double(count) + Double(pairs) / Double(points.count)) }

  /// Of the score: that of a mean over pictures.
  private var variance: Double {
    let n = Double(points.count)
    let mean = points.reduce(0, +) / n
    return n > 1 ? points.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (n - 1) / n : 0
  }

  static func sum(_ name: String, _ scores: [CategoryScore], isMain: Bool = true) -> Measure {
    let value = scores.reduce(0) { $0 + $1.score }
    let half = normalQuantile * scores.reduce(0) { $0 + $1.variance }.squareRoot()
    let interval =
      scores.contains { $0.points.count > 1 }
      ? Interval(max(0, value - half), min(200 * Double(scores.count), value + half)) : nil
    return Measure(name, value, interval, count: scores.reduce(0) { $0 + $1.count }, isMain: isMain)
  }
}
