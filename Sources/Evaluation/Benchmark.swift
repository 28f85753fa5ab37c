import Foundation

/// A benchmark: which files it is in, what it asks, and how answers are scored.
package protocol Benchmark: Sendable {
  /// As the command line names it.
  var name: String { get }
  /// Where LLaVA's scripts keep its answers, in the folder of all benchmarks.
  var answerFolder: String { get }
  /// Where they put what official scorers take.
  var uploadFolder: String { get }
  /// What a score is, in a line.
  var metric: String { get }
  var files: [DataFile] { get }
  /// The most tokens that LLaVA's scripts generate for an answer.
  var maxNewTokens: Int { get }

  /// Hands out the questions in their order.
  ///
  /// - Throws: `DataError`, and what `body` throws.
  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws

  /// - Throws: `DataError` for files of truth, and for answers that belong to other questions.
  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score

  /// The answers in the forms that official scorers and servers take.
  func submissions(_ sheet: AnswerSheet, in data: DataFolder) throws -> [Submission]
}

extension Benchmark {
  package var uploadFolder: String { answerFolder.replacing("answers", with: "answers_upload", maxReplacements: 1) }
  package var maxNewTokens: Int { 128 }
  package func submissions(_ sheet: AnswerSheet, in data: DataFolder) throws -> [Submission] { [] }

  /// Which of the files for these roles are not there.
  package func missing(_ specialTokens: Set<DataFile.Role>, in data: DataFolder) -> [String] {
    files.filter { !$0.specialTokens.isDisjoint(with: specialTokens) && !data.has($0.path) }.map(\.path)
  }

  /// Whether answers can be scored here, or only be made into a submission.
  package var hasTruth: Bool { files.contains { $0.specialTokens.contains(.truth) } }
}

/// All benchmarks.
package enum Benchmarks {
  package static let all: [any Benchmark] = [
    TextVQA(hasOCR: true), TextVQA(hasOCR: false), POPE(), GQA(), MME(), ScienceQA(), VQAv2(), VQAv2Validation(),
    VizWiz(), VizWizValidation(), SEEDBench(), MMBench(.english), MMBench(.chinese), DocumentQuestions.docVQA,
    DocumentQuestions.infoVQA, ChartQA(), OCRVQA(), MMStar(), AI2D(), TinyTextVQA(),
  ]

  package static func named(_ name: String) -> (any Benchmark)? { all.first { $0.name == name } }
}

/// One number of a benchmark's result.
package struct Measure: Sendable, Equatable {
  package var name: String
  /// In the benchmark's own scale: percent, or points.
  package var value: Double
  /// That of 95%; `nil` where there is too little to tell.
  package var interval: Interval?
  /// Questions, or images, that it is of.
  package var count: Int
  /// Whether it belongs into a short table.
  package var isMain: Bool

  package init(_ name: String, _ value: Double, _ interval: Interval?, count: Int, isMain: Bool = true) {
    (self.name, self.value, self.interval, self.count, self.isMain) = (name, value, interval, count, isMain)
  }

  /// The share of questions answered rightly, in percent.
  static func share(_ name: String, _ hits: Int, of count: Int, isMain: Bool = true) -> Measure {
    guard count > 0 else { return Measure(name, 0, nil, count: 0, isMain: isMain) }
    let share = proportion(hits, of: count)
    return Measure(
      name, 100 * share.share, Interval(max(0, share.low), min(1, share.high)).scaled(by: 100), count: count,
      isMain: isMain)
  }

  static func share(_ name: String, _ hits: [Bool], isMain: Bool = true) -> Measure {
    share(name, hits.count { $0 }, of: hits.count, isMain: isMain)
  }

  /// The mean of scores of 0 to 1, in percent.
  static func mean(_ name: String, _ scores: [Double], isMain: Bool = true) -> Measure {
    guard !scores.isEmpty else { return Measure(name, 0, nil, count: 0, isMain: isMain) }
    let mean = Evaluation.mean(scores)
    return Measure(name, 100 * mean.mean, mean.interval?.scaled(by: 100), count: scores.count, isMain: isMain)
  }

  /// The mean of independent numbers in percent, each counting as much as another.
  ///
  /// Half its interval is the root of the sum of the squares of theirs, over their number.
  package static func meanOfParts(_ name: String, _ parts: [Measure]) -> Measure {
    let parts = parts.filter { $0.count > 0 }
    let n = Double(max(1, parts.count))
    let value = parts.reduce(0) { $0 + $1.value } / n
    let halves = parts.compactMap { $0.interval.map { ($0.high - $0.low) / 2 } }
    let half = halves.reduce(0) { $0 + $1 * $1 }.squareRoot() / n
    let isKnown = halves.count == parts.count && !parts.isEmpty
    return Measure(
      name, value, isKnown ? Interval(max(0, value - half), min(100, value + half)) : nil,
      count: parts.reduce(0) { $0 + $1.count })
  }
}

/// The result of a benchmark.
package struct Score: Sendable, Equatable {
  package var measures: [Measure]
  /// What a reader has to know to compare the numbers with others'.
  package var notes: [String]

  init(_ measures: [Measure], notes: [String] = []) { (self.measures, self.notes) = (measures, notes) }

  package subscript(name: String) -> Measure? { measures.first { $0.name == name } }
}

/// Items by a key, keys in the order of their first item.
func grouped<Key: Hashable, Item>(_ items: [Item], by key: (Item) -> Key) -> [(key: Key, items: [Item])] {
  let groups = Dictionary(grouping: items.enumerated(), by: { key($0.element) })
  return groups.sorted { $0.value[0].offset < $1.value[0].offset }.map { ($0.key, $0.value.map(\.element)) }
}

/// A file for an official scorer.
package struct Submission: Sendable, Equatable {
  /// What follows the run's name in the file's, such as `.json` or `/color.txt`.
  package var suffix: String
  package var text: String

  package init(suffix: String, text: String) { (self.suffix, self.text) = (suffix, text) }

  /// A list as JSON.
  init(suffix: String, json values: some Encodable) throws { self.init(suffix: suffix, text: try Self.json(values)) }

  /// Values as JSON, one on each line.
  init(suffix: String, lines values: [some Encodable]) throws {
    self.init(suffix: suffix, text: try values.map { try Self.json($0) + "\n" }.joined())
  }

  private static func json(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }
}
