import Foundation

/// A benchmark: its files, its questions and its scoring.
package protocol Benchmark: Sendable {
  /// The name on the command line.
  var name: String { get }
  /// The folder where LLaVA's scripts write answers, relative to the data folder.
  var answerFolder: String { get }
  /// The folder where LLaVA's scripts write submissions, relative to the data folder.
  var uploadFolder: String { get }
  /// A description of the score, in one line.
  var metricDescription: String { get }
  var files: [DataFile] { get }
  /// The maximum number of new tokens in LLaVA's scripts.
  var maxNewTokens: Int { get }

  /// The answers of a question that likelihood scoring compares, such as Yes and No; empty if there are no choices.
  func choices(of question: Question) -> [String]

  /// Calls `body` with each question, in order.
  ///
  /// - Throws: `DataError`, and the errors of `body`.
  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws

  /// The score of a set of answers.
  ///
  /// - Throws: `DataError` for a ground-truth file, and for answers to other questions.
  func score(_ answers: AnswerSet, in data: DataFolder) throws -> Score

  /// The answers in the formats of the official scorers and evaluation servers.
  func submissions(_ answers: AnswerSet, in data: DataFolder) throws -> [Submission]
}

extension Benchmark {
  package var uploadFolder: String { answerFolder.replacing("answers", with: "answers_upload", maxReplacements: 1) }
  package var maxNewTokens: Int { 128 }
  package func choices(of question: Question) -> [String] { [] }
  package func submissions(_ answers: AnswerSet, in data: DataFolder) throws -> [Submission] { [] }

  /// The missing files among those with these roles.
  package func missing(_ roles: Set<DataFile.Role>, in data: DataFolder) -> [String] {
    files.filter { !$0.roles.isDisjoint(with: roles) && !data.has($0.path) }.map(\.path)
  }

  /// Whether answers can be scored locally; otherwise only a submission can be written.
  package var hasGroundTruth: Bool { files.contains { $0.roles.contains(.groundTruth) } }
}

/// One metric of a benchmark's score.
package struct Metric: Sendable, Equatable {
  package var name: String
  /// The value in the benchmark's own unit: percent, or points.
  package var value: Double
  /// The 95% confidence interval; `nil` if there is too little data.
  package var interval: Interval?
  /// The number of questions.
  package var count: Int
  /// Whether the metric is shown without `--verbose`.
  package var isMain: Bool

  package init(_ name: String, _ value: Double, _ interval: Interval?, count: Int, isMain: Bool = true) {
    (self.name, self.value, self.interval, self.count, self.isMain) = (name, value, interval, count, isMain)
  }

  /// The percentage of correct answers.
  static func percentage(_ name: String, _ hits: Int, of count: Int, isMain: Bool = true) -> Metric {
    guard count > 0 else { return Metric(name, 0, nil, count: 0, isMain: isMain) }
    let accuracy = proportion(hits, of: count)
    return Metric(
      name, 100 * accuracy.share, Interval(max(0, accuracy.low), min(1, accuracy.high)).scaled(by: 100), count: count,
      isMain: isMain)
  }

  static func percentage(_ name: String, _ hits: [Bool], isMain: Bool = true) -> Metric {
    percentage(name, hits.count { $0 }, of: hits.count, isMain: isMain)
  }

  /// The mean of scores from 0 to 1, as a percentage.
  static func mean(_ name: String, _ scores: [Double], isMain: Bool = true) -> Metric {
    guard !scores.isEmpty else { return Metric(name, 0, nil, count: 0, isMain: isMain) }
    let mean = Evaluation.mean(scores)
    return Metric(name, 100 * mean.mean, mean.interval?.scaled(by: 100), count: scores.count, isMain: isMain)
  }

  /// The unweighted mean of independent percentages.
  ///
  /// The half-width of its interval is `√(Σ h²) / n` for `n` parts of half-width `h`.
  package static func meanOfParts(_ name: String, _ parts: [Metric]) -> Metric {
    let parts = parts.filter { $0.count > 0 }
    let n = Double(max(1, parts.count))
    let value = parts.reduce(0) { $0 + $1.value } / n
    let halves = parts.compactMap { $0.interval.map { ($0.high - $0.low) / 2 } }
    let half = halves.reduce(0) { $0 + $1 * $1 }.squareRoot() / n
    let isKnown = halves.count == parts.count && !parts.isEmpty
    return Metric(
      name, value, isKnown ? Interval(max(0, value - half), min(100, value + half)) : nil,
      count: parts.reduce(0) { $0 + $1.count })
  }
}

/// The metrics of one set of answers to a benchmark.
package struct Score: Sendable, Equatable {
  package var metrics: [Metric]
  /// Caveats for comparing with published numbers.
  package var notes: [String]
  /// The confidence of each answer by likelihood and whether it is correct, for calibration.
  var outcomes: [Outcome]

  init(_ metrics: [Metric], notes: [String] = [], outcomes: [Outcome] = []) {
    (self.metrics, self.notes, self.outcomes) = (metrics, notes, outcomes)
  }

  package subscript(name: String) -> Metric? { metrics.first { $0.name == name } }
}

extension [Metric] {
  /// The metrics that have a question; an accuracy of no questions is no score.
  var ofAnyQuestions: [Metric] { filter { $0.count > 0 } }
}

/// Items grouped by a key, with the keys in the order of their first item.
func grouped<Key: Hashable, Item>(_ items: [Item], by key: (Item) -> Key) -> [(key: Key, items: [Item])] {
  let groups = Dictionary(grouping: items.enumerated(), by: { key($0.element) })
  return groups.sorted { $0.value[0].offset < $1.value[0].offset }.map { ($0.key, $0.value.map(\.element)) }
}

/// A file for an official scorer or an evaluation server.
package struct Submission: Sendable, Equatable {
  /// The part of the path after the name of the run, such as `.json` or `/color.txt`.
  package var suffix: String
  package var text: String

  package init(suffix: String, text: String) { (self.suffix, self.text) = (suffix, text) }

  /// A JSON file.
  init(suffix: String, json values: some Encodable) throws { self.init(suffix: suffix, text: try Self.json(values)) }

  /// A JSONL file.
  init(suffix: String, lines values: [some Encodable]) throws {
    self.init(suffix: suffix, text: try values.map { try Self.json($0) + "\n" }.joined())
  }

  private static func json(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }
}
