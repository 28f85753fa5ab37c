import Foundation
import Kernels
import Storage

/// MME: two questions about each image, one with the answer yes and one with the answer no.
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
  let metricDescription = "100 * (accuracy + accuracy of pairs), sum over categories: perception, cognition, total"
  let files = [DataFile(questionFile, .questions), DataFile(release, .images, .groundTruth)]

  func choices(of question: Question) -> [String] { YesNo.choices }

  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws {
    try QuestionFile.read(Self.questionFile, images: Self.release, in: data, body)
  }

  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score {
    let groundTruth = try MMEGroundTruth(in: data.path(Self.release), categories: Self.perception + Self.cognition)
    let answersByKey = Dictionary(
      try answers.items.map { (try groundTruth.key($0, in: answers), $0) }, uniquingKeysWith: { $1 })
    var scores: [String: CategoryScore] = [:]
    var outcomes: [Outcome] = []
    for image in groundTruth.images {
      let correct = image.questions.compactMap { question -> Bool? in
        guard let answer = answersByKey[question.key] else { return answers.countsMissing ? false : nil }
        let isCorrect = answer.text.flatMap(YesNo.isYesForMME) == question.isYes
        if let outcome = Outcome(answer, isCorrect: isCorrect) { outcomes.append(outcome) }
        return isCorrect
      }
      if !correct.isEmpty { scores[image.category, default: CategoryScore()].add(correct) }
    }
    func sum(_ name: String, _ categories: [String]) -> Metric {
      CategoryScore.sum(name, categories.compactMap { scores[$0] })
    }
    let categories = Self.perception + Self.cognition
    let missing = categories.filter { scores[$0] == nil }
    return Score(
      [sum("perception", Self.perception), sum("cognition", Self.cognition)].ofAnyQuestions
        + [sum("total", categories)]
        + categories.compactMap { name in scores[name].map { CategoryScore.sum(name, [$0], isMain: false) } },
      notes: missing.isEmpty
        ? [] : ["mme: no questions of \(missing.joined(separator: ", ")), so the sums do not include these categories"],
      outcomes: outcomes)
  }

  /// One file per category, for MME's `calculation.py`.
  func submissions(_ answers: AnswerSet, in data: DataFolder) throws -> [Submission] {
    let groundTruth = try MMEGroundTruth(in: data.path(Self.release), categories: Self.perception + Self.cognition)
    let lines = try answers.items.map { answer in
      let key = try groundTruth.key(answer, in: answers)
      let text = (answer.text ?? "").split { $0 == "\n" || $0 == "\t" || $0 == "\r\n" }.joined(separator: " ")
      return (
        category: Self.text(key.category),
        line: "\(Self.text(key.file))\t\(Self.text(key.question))\t\(groundTruth.isYes(key) ? "Yes" : "No")\t\(text)\n"
      )
    }
    return grouped(lines, by: \.category).map { category, lines in
      Submission(suffix: "/\(category).txt", text: lines.map(\.line).joined())
    }
  }

  private static func text(_ key: ByteString) -> String { String(decoding: key.bytes, as: UTF8.self) }
}

/// The score of one category.
private struct CategoryScore {
  private var correct = 0
  private var count = 0
  /// The points of each image: 100 times its accuracy, and 100 more if all its answers are correct.
  private var points: [Double] = []
  private var pairs = 0

  mutating func add(_ answers: [Bool]) {
    let hits = answers.count { $0 }
    correct += hits
    count += answers.count
    if hits == answers.count { pairs += 1 }
    points.append(100 * Double(hits) / Double(answers.count) + (hits == answers.count ? 100 : 0))
  }

  private var score: Double { 100 * (Double(correct) / Double(count) + Double(pairs) / Double(points.count)) }

  /// The variance of the score, as that of a mean over images.
  private var variance: Double { Sample(points).variance / Double(points.count) }

  static func sum(_ name: String, _ scores: [CategoryScore], isMain: Bool = true) -> Metric {
    let value = scores.reduce(0) { $0 + $1.score }
    let half = normalQuantile * scores.reduce(0) { $0 + $1.variance }.squareRoot()
    let interval =
      scores.contains { $0.points.count > 1 }
      ? Interval(max(0, value - half), min(200 * Double(scores.count), value + half)) : nil
    return Metric(name, value, interval, count: scores.reduce(0) { $0 + $1.count }, isMain: isMain)
  }
}

/// The ground truth of MME: a text file per image, with a question, a tab and Yes or No on each line.
struct MMEGroundTruth {
  struct Key: Hashable {
    var category: ByteString
    /// The text file's name.
    var file: ByteString
    var question: ByteString

    init(category: String, file: String, question: String) {
      (self.category, self.file, self.question) = (ByteString(category), ByteString(file), ByteString(question))
    }
  }

  struct Image {
    var category: String
    var questions: [(key: Key, isYes: Bool)]
  }

  private static let instruction = "Please answer yes or no."

  private(set) var images: [Image] = []
  private var answers: [Key: Bool] = [:]

  init(in folder: String, categories: [String]) throws(DataError) {
    for category in categories {
      let path = folder + "/" + category
      let separate = path + "/questions_answers_YN"
      let texts = FileManager.default.fileExists(atPath: separate) ? separate : path
      let names = (try? FileManager.default.contentsOfDirectory(atPath: texts)) ?? []
      for name in names.sorted() where name.hasSuffix(".txt") && !DataFolder.isSystemFile(name) {
        try read(texts + "/" + name, name, category)
      }
    }
    if images.isEmpty { throw DataError(folder, "expected the categories of MME with their text files, found none") }
  }

  private mutating func read(_ path: String, _ name: String, _ category: String) throws(DataError) {
    let bytes: [UInt8]
    do {
      let file = try SharedBytes(mapping: path)
      bytes = file.copy(0..<file.count)
    } catch { throw DataError(path, reading: error) }
    guard var text = String(validating: bytes, as: UTF8.self) else {
      throw DataError(path, "expected UTF-8, found other bytes; convert the file, as with 'iconv -f LATIN1 -t UTF-8'")
    }
    if text.unicodeScalars.first == "\u{FEFF}" { text.unicodeScalars.removeFirst() }
    var image = Image(category: category, questions: [])
    for (index, line) in PythonText.lines(text.replacing("\r\n", with: "\n")).enumerated() {
      let line = PythonText.stripped(line)
      if line.isEmpty { continue }
      let parts = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
      guard parts.count == 2, let isYes = ["yes": true, "no": false][parts[1].lowercased()] else {
        throw DataError(
          path, at: "line \(index + 1)", "expected a question, a tab and Yes or No, found \(line.excerpt)")
      }
      let key = Key(category: category, file: name, question: parts[0])
      image.questions.append((key, isYes))
      if let other = answers.updateValue(isYes, forKey: key), other != isYes {
        throw DataError(path, at: "line \(index + 1)", "the question occurs with Yes and with No: \(parts[0].excerpt)")
      }
    }
    images.append(image)
  }

  /// The key of the question that an answer belongs to.
  ///
  /// LLaVA's prompts replace the benchmark's instruction, which follows the question after one or two spaces.
  ///
  /// - Throws: `DataError` if there is no such question.
  func key(_ answer: Answer, in set: AnswerSet) throws(DataError) -> Key {
    let id = answer.id.description
    let parts = id.split(separator: "/")
    guard parts.count > 1 else {
      throw set.error(answer, "question_id: expected category/file, found \(id.excerpt)")
    }
    let file = String(parts[parts.count - 1].prefix { $0 != "." }) + ".txt"
    let question = Question.withoutInstruction(answer.prompt)
    let forms = question.contains(Self.instruction) ? [question] : [" ", "  "].map { question + $0 + Self.instruction }
    let keys = forms.map { Key(category: String(parts[0]), file: file, question: $0) }
    guard let key = keys.first(where: { answers[$0] != nil }) else {
      throw set.error(
        answer, "question_id: \(id.excerpt) has a question that is not in \(file.excerpt): \(question.excerpt)")
    }
    return key
  }

  /// Whether the correct answer is yes.
  ///
  /// - Precondition: `key` was returned by `key(_:in:)`.
  func isYes(_ key: Key) -> Bool { answers[key] ?? false }
}
