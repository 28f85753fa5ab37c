import Foundation
import TestSupport
import Testing

/// The report and the summary of a batch; neither is written to stdout.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct BatchReportTests {
  private struct Record: Decodable {
    var records: Int
    var answered: Int
    var failed: [String: Int]
    var seconds: [String: Double]
    var tokens: [String: Int]
    var tokens_per_second: Double
    var flops: [String: Int]
    var flops_prefill_saved: Double
    var stopped: Bool
  }

  @Test func `reports answers, failures by class, and cost`() throws {
    let batch = try BatchFolder(count: 12)
    let path = batch.folder.path("report.json")
    let run = try ProgramRun(batch.arguments(["--report", path]))
    #expect(run.status == 1 && run.output.isEmpty)
    let report = try JSONDecoder().decode(Record.self, from: Data(contentsOf: URL(filePath: path)))
    #expect(report.records == 12 && report.answered == 8 && !report.stopped)
    #expect(report.failed == ["image_missing": 1, "image_unsupported": 1, "bad_record": 2])
    #expect(run.errors.contains("8 of 12 records answered\n"), "\(run.errors)")
    #expect(run.errors.contains("4 failed: 2 bad_record, 1 image_missing, 1 image_unsupported\n"), "\(run.errors)")
    #expect(report.flops_prefill_saved > 0.4 && report.flops_prefill_saved < 0.7)
    #expect(["load", "wall", "encode", "prefill", "decode"].allSatisfy { report.seconds[$0]! > 0 })
    let tokens = try #require(report.tokens["generated"])
    #expect(tokens > 0 && report.tokens_per_second > 0)
    #expect(abs(report.tokens_per_second * report.seconds["wall"]! - Double(tokens)) < 1e-6 * Double(tokens))
    // The report is the sum of the answer metadata.
    struct Line: Decodable {
      struct Metadata: Decodable {
        var flops: [String: Int]
        var generated_tokens: Int
      }

      var metadata: Metadata?
    }
    let lines = try batch.lines().compactMap { try JSONDecoder().decode(Line.self, from: Data($0.utf8)).metadata }
    #expect(lines.reduce(0) { $0 + $1.generated_tokens } == tokens)
    for (phase, count) in report.flops { #expect(lines.reduce(0) { $0 + $1.flops[phase]! } == count, "\(phase)") }
  }

  @Test func `refuses an unwritable report before any work`() throws {
    let batch = try BatchFolder(count: 1)
    let path = batch.folder.path("none/report.json")
    try ProgramRun(batch.arguments(["--report", path])).expectFailure(3, path)
    #expect(!FileManager.default.fileExists(atPath: batch.output))
  }

  @Test(arguments: [
    (["--resume"], "require --input"), (["--shard", "1/2"], "require --input"), (["--report", "a"], "require --input"),
    (["--input", "a", "--resume"], "--output"), (["--input", "a", "--output", "-", "--resume"], "--output"),
    (["--input", "a", "--output", "b", "--resume", "--overwrite"], "one of them"),
    (["--first-line", "2", "--image-folder", "a", "-p", "b"], "lines of --input"),
    (["--input", "a", "--first-line", "0"], "must be at least 1"), (["--input", "a", "--shard", "3/2"], "1/n to n/n"),
    (["--input", "a", "--progress", "loud"], "plain"),
    (["--input", "a", "-b", "0"], "1 to 16"), (["--input", "a", "-b", "17"], "1 to 16"),
    (["--dry-run"], "require --input"), (["--num-chunks", "2", "--chunk-idx", "0"], "require --input"),
    (["--input", "a", "--num-chunks", "2"], "belong together"),
    (["--input", "a", "--chunk-idx", "0"], "belong together"),
    (["--input", "a", "--num-chunks", "2", "--chunk-idx", "2"], "found 2 of 2"),
    (["--input", "a", "--num-chunks", "0", "--chunk-idx", "0"], "found 0 of 0"),
    (["--input", "a", "--num-chunks", "2", "--chunk-idx", "0", "--shard", "1/2"], "one of them"),
    (["--input", "-", "--num-chunks", "2", "--chunk-idx", "0"], "requires the number of lines"),
    (["--input", "-", "--dry-run"], "requires the number of records"), (["--input", "a", "--ram", "much"], "--ram"),

    (["--image-folder", "a", "--image", "b"], "--image-folder supplies"),
  ])
  func `refuses conflicting options`(arguments: [String], words: String) throws {
    try ProgramRun(arguments).expectFailure(2, words)
  }
}
