import Evaluation
import Foundation
import TestSupport
import Testing

/// A data folder with the files of one benchmark.
struct BenchmarkFolder: ~Copyable {
  let folder: TemporaryFolder
  let data: DataFolder
  let benchmark: any Benchmark

  init(_ name: String, _ files: [String: String] = [:]) throws {
    let folder = try TemporaryFolder()
    let benchmark: any Benchmark = try #require(Benchmarks.named(name))
    for (path, text) in files { try folder.write(path, text) }
    data = DataFolder(folder.path)
    self.benchmark = benchmark
    self.folder = folder
  }

  func questions() throws -> [Question] {
    var questions: [Question] = []
    try benchmark.questions(in: data) { questions.append($0) }
    return questions
  }

  /// The score of an answer file with these lines.
  func score(_ lines: [String], countsMissing: Bool = true) throws -> Score {
    try benchmark.score(answers(lines, countsMissing: countsMissing), in: data)
  }

  /// The metrics by likelihood.
  func likelihood(_ lines: [String], countsMissing: Bool = true) throws -> [Metric] {
    try benchmark.likelihoodMetrics(answers(lines, countsMissing: countsMissing), in: data)
  }

  func submissions(_ lines: [String]) throws -> [Submission] {
    try benchmark.submissions(answers(lines), in: data)
  }

  private func answers(_ lines: [String], countsMissing: Bool = true) throws -> AnswerSet {
    let path = try folder.write("answers.jsonl", lines.joined(separator: "\n") + "\n")
    return try AnswerSet(reading: path, countsMissing: countsMissing)
  }

  /// Expects reading the questions, or scoring the answers, to fail with a one-line message that contains `words`.
  func expectError(
    _ words: String, scoring lines: [String]? = nil, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    var message = "no error"
    do { if let lines { _ = try score(lines) } else { _ = try questions() } } catch let error as DataError {
      message = "\(error)"
    }
    #expect(message.contains(words), "\(message)", sourceLocation: sourceLocation)
    #expect(!message.contains("\n"), sourceLocation: sourceLocation)
  }
}

/// An answer line in the format of LLaVA's scripts.
func llavaLine(_ id: String, _ text: String, prompt: String = "") -> String {
  let prompt = prompt.replacing("\n", with: "\\n")
  return
    #"{"question_id": \#(id), "prompt": "\#(prompt)", "text": "\#(text)", "answer_id": "Xy3", "#
    + #""model_id": "llava", "metadata": {}}"#
}

extension Score {
  /// The value of a metric, or -1.
  func value(_ name: String) -> Double { self[name]?.value ?? -1 }
}
