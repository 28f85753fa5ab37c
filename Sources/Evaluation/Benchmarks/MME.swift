import Foundation
import Kernels

/// MME: two questions about each image, one with the answer yes and one with no.
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
  let files = [DataFile(questionFile, .questions), DataFile(release, .images, .truth)]

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.release, in: data, body)
  }

  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score {
    let truth = try MMETruth(in: data.path(Self.release), categories: Self.perception + Self.cognition)
    let answers = Dictionary(
      try sheet.answers.map { (try truth.key($0, in: sheet.path), $0) }, uniquingKeysWith: { $1 })
    var scores: [String: CategoryScore] = [:]
    for image in truth.images {
      let right = image.questions.compactMap { question -> Bool? in
        guard let answer = answers[question.key] else { return sheet.countsMissing ? false : nil }
        return answer.text.flatMap(YesNo.isYesForMME) == question.isYes
      }
      if !right.isEmpty { scores[image.category, default: CategoryScore()].add(right) }
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

/// The answers of a category, by image.
private struct CategoryScore {
  private var right = 0
  private var count = 0
  /// For each image what it adds to the mean: 100 for both questions together, and 100 if all are right.
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

  /// Of the score: that of a mean over images.
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

/// What is right in MME: a text file beside each image, with a question, a tab and Yes or No on each line.
struct MMETruth {
  struct Key: Hashable {
    var category: String
    /// The text file's name.
    var file: String
    var question: String
  }

  struct Image {
    var category: String
    var questions: [(key: Key, isYes: Bool)]
  }

  private static let ending = "Please answer yes or no."

  private(set) var images: [Image] = []
  private var answers: [Key: Bool] = [:]

  init(in folder: String, categories: [String]) throws(DataError) {
    for category in categories {
      let path = folder + "/" + category
      let separate = path + "/questions_answers_YN"
      let texts = FileManager.default.fileExists(atPath: separate) ? separate : path
      let names = (try? FileManager.default.contentsOfDirectory(atPath: texts)) ?? []
      for name in names.sorted() where name.hasSuffix(".txt") { try read(texts + "/" + name, name, category) }
    }
  }

  private mutating func read(_ path: String, _ name: String, _ category: String) throws(DataError) {
    guard let text = FileManager.default.contents(atPath: path).flatMap({ String(data: $0, encoding: .utf8) }) else {
      throw DataError(path, "expected a text in UTF-8")
    }
    var image = Image(category: category, questions: [])
    for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
      let line = line.trimmingCharacters(in: .whitespaces)
      if line.isEmpty { continue }
      let parts = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
      guard parts.count == 2, let isYes = ["yes": true, "no": false][parts[1].lowercased()] else {
        throw DataError(path, at: "line \(index + 1)", "expected a question, a tab and Yes or No")
      }
      let key = Key(category: category, file: name, question: parts[0])
      image.questions.append((key, isYes))
      answers[key] = isYes
    }
    images.append(image)
  }

  /// Which question is answered.
  ///
  /// LLaVA's prompt has an instruction of its own in place of the benchmark's, which stands after one space or two.
  ///
  /// - Throws: `DataError` where there is no such question.
  func key(_ answer: Answer, in path: String) throws(DataError) -> Key {
    let parts = answer.id.description.split(separator: "/")
    guard parts.count > 1 else {
      throw DataError(path, "question_id: expected category/file, found \(answer.id)")
    }
    let file = String(parts[parts.count - 1].prefix { $0 != "." }) + ".txt"
    let asked = answer.prompt.replacing(Question.shortly, with: "").trimmingCharacters(in: .whitespacesAndNewlines)
    let forms = asked.contains(Self.ending) ? [asked] : [" ", "  "].map { asked + $0 + Self.ending }
    let keys = forms.map { Key(category: String(parts[0]), file: file, question: $0) }
    guard let key = keys.first(where: { answers[$0] != nil }) else {
      throw DataError(path, "\(answer.id) has a question that is not in \(file): \(asked.prefix(80))")
    }
    return key
  }

  /// - Precondition: The key is one that `key` returned.
  func isYes(_ key: Key) -> Bool { answers[key] ?? false }
}
