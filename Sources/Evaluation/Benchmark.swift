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
  var tokenLimit: Int { get }

  /// Hands out the questions in their order.
  ///
  /// - Throws: `DataProblem`, and what `body` throws.
  func questions(in data: DataFolder, _ body: (Question) throws -> Void) throws

  /// - Throws: `DataProblem` for files of truth, and for answers that belong to other questions.
  func score(_ sheet: AnswerSheet, in data: DataFolder) throws -> Score

  /// The answers in the forms that official scorers and servers take.
  func submissions(_ sheet: AnswerSheet, in data: DataFolder) throws -> [Submission]
}

extension Benchmark {
  package var uploadFolder: String { answerFolder.replacing("answers", with: "answers_upload", maxReplacements: 1) }
  package var tokenLimit: Int { 128 }
  package func submissions(_ sheet: AnswerSheet, in data: DataFolder) throws -> [Submission] { [] }

  /// Which of the files for these roles are not there.
  package func missing(_ roles: Set<DataFile.Role>, in data: DataFolder) -> [String] {
    files.filter { !$0.roles.isDisjoint(with: roles) && !data.has($0.path) }.map(\.path)
  }

  /// Whether answers can be scored here, or only be made into a submission.
  package var hasTruth: Bool { files.contains { $0.roles.contains(.truth) } }
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
