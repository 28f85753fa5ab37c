import CommandLineOptions
import Evaluation
import Foundation

/// Writes a benchmark's questions to a file that a batch reads.
enum QuestionWriter {
  /// Writes all questions, or about so many, spread evenly over the file; questions about one picture that follow each other
  /// stay together.
  ///
  /// - Returns: How many questions are in the file.
  /// - Throws: `DataProblem`, `FileProblem`.
  static func write(
    _ benchmark: any Benchmark, in data: DataFolder, to path: String, limit: Int?
  ) throws -> Int {
    var share = 1.0
    if let limit {
      var count = 0
      try benchmark.questions(in: data) { _ in count += 1 }
      share = min(1, Double(limit) / Double(max(1, count)))
    }
    try OutputFile.makeFolder(of: path)
    let output = try Output(path: path)
    var written = 0
    var group = -1
    var last: Question.Picture?
    try benchmark.questions(in: data) { question in
      if last != question.picture || question.picture == .none { group += 1 }
      last = question.picture
      guard Int(Double(group + 1) * share) > Int(Double(group) * share) else { return }
      try output.write(try JSONLine.encode(QuestionLine(question)))
      written += 1
    }
    return written
  }
}
