import Evaluation
import Foundation
import TestSupport
import Testing

/// A folder with the files of a benchmark.
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

  /// The score of answers that are read from a file, as they were written.
  func score(_ lines: [String], countsMissing: Bool = true) throws -> Score {
    try benchmark.score(sheet(lines, countsMissing: countsMissing), in: data)
  }

  func submissions(_ lines: [String]) throws -> [Submission] {
    try benchmark.submissions(sheet(lines), in: data)
  }

  private func sheet(_ lines: [String], countsMissing: Bool = true) throws -> AnswerSheet {
    let path = try folder.write("answers.jsonl", lines.joined(separator: "\n") + "\n")
    return try AnswerSheet(reading: path, countsMissing: countsMissing)
  }

  /// Expects the reading of questions, or the scoring of answers, to end with words about a place.
  func expectError(
    _ words: String, scoring lines: [String]? = nil, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    var message = "no problem"
    do { if let lines { _ = try score(lines) } else { _ = try questions() } } catch let problem as DataError {
      message = "\(problem)"
    }
    #expect(message.contains(words), "\(message)", sourceLocation: sourceLocation)
    #expect(!message.contains("\n"), sourceLocation: sourceLocation)
  }
}

/// A line as LLaVA's scripts write it.
func llavaLine(_ id: String, _ text: String, prompt: String = "") -> String {
  let prompt = prompt.replacing("\n", with: "\\n")
  return
    #"{"question_id": \#(id), "prompt": "\#(prompt)", "text": "\#(text)", "answer_id": "Xy3", "model_id": "llava", "metadata": {}}"#
}

extension Score {
  /// A measure's value, or -1.
  func value(_ name: String) -> Double { self[name]?.value ?? -1 }
}
