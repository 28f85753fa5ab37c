package import BatchInference
import Foundation
package import PDrop
package import TestSupport
import Testing

/// A batch in a temporary folder, with an engine that the test provides.
package final class BatchFixture {
  package let folder: TemporaryFolder
  package let output: String
  private let report: RunReport
  private let run: BatchRunDescription

  package init() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    let base = Request(prompt: .rendered("a"))
    let session = try Session(model, base, threads: 1)
    report = session.report
    run = try BatchRunDescription(model, base, threads: 1)
    let folder = try TemporaryFolder()
    output = folder.path("answers.jsonl")
    self.folder = folder
  }

  /// An answer that repeats the question; questions that begin with `fail` have an error.
  package func answer(_ question: BatchJob.Question) -> Result<RunReport, RecordFailure> {
    guard case .messages(let messages) = question.request.prompt, case .text(let text)? = messages.last?.parts.last
    else { return .failure(RecordFailure(.internalError, "no question")) }
    guard !text.hasPrefix("fail") else { return .failure(RecordFailure(.outOfMemory, text)) }
    var report = report
    report.text = " answer to \(text)\n"
    return .success(report)
  }

  /// Runs a batch of lines.
  @discardableResult
  package func run(
    _ lines: [String], like base: Request = Request(prompt: .messages([])),
    existingOutput: Batch.ExistingOutput = .refuse,
    shard: BatchShard = .all, output: String? = nil,
    isStopped: @autoclosure @escaping () -> Bool = false, engine: Batch.Engine? = nil
  ) throws -> BatchReport {
    let input = try folder.write("questions.jsonl", lines.joined(separator: "\n"))
    var options = Batch.Options(input: .lines(path: input, folder: nil))
    options.output = output ?? self.output
    options.existingOutput = existingOutput
    options.shard = shard
    options.keepsTimes = false
    return try Batch(options).run(like: base, by: run, isStopped: isStopped) { job in
      if let engine { return try engine(&job) }
      while case .ready(let question) = try job.take() { try job.finish([(question, self.answer(question))]) }
    }
  }

  /// The bytes of the output.
  package func bytes(_ path: String? = nil) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: URL(filePath: path ?? output)))
  }

  /// The lines of the output.
  package func lines(_ path: String? = nil) throws -> [String] {
    String(decoding: try bytes(path), as: UTF8.self).split(separator: "\n").map(String.init)
  }

  package static func question(_ id: Int, _ text: String? = nil) -> String {
    #"{"question_id": \#(id), "text": "\#(text ?? "q\(id)")"}"#
  }
}
