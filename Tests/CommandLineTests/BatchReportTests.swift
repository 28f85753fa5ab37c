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
    var tokensPerSecond: Double
    var flops: [String: Int]
    var flopsPrefillSaved: Double
    var stopped: Bool

    enum CodingKeys: String, CodingKey {
      case records, answered, failed, seconds, tokens, flops, stopped
      case tokensPerSecond = "tokens_per_second"
      case flopsPrefillSaved = "flops_prefill_saved"
    }
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
    #expect(report.flopsPrefillSaved > 0.4 && report.flopsPrefillSaved < 0.7)
    #expect(["load", "wall", "encode", "prefill", "decode"].allSatisfy { report.seconds[$0]! > 0 })
    let tokens = try #require(report.tokens["generated"])
    #expect(tokens > 0 && report.tokensPerSecond > 0)
    #expect(abs(report.tokensPerSecond * report.seconds["wall"]! - Double(tokens)) < 1e-6 * Double(tokens))
    // The report is the sum of the answer metadata.
    struct Line: Decodable {
      struct Metadata: Decodable {
        var flops: [String: Int]
        var generatedTokens: Int

        enum CodingKeys: String, CodingKey {
          case flops
          case generatedTokens = "generated_tokens"
        }
      }

      var metadata: Metadata?
    }
    let lines = try batch.lines().compactMap { try JSONDecoder().decode(Line.self, from: Data($0.utf8)).metadata }
    #expect(lines.reduce(0) { $0 + $1.generatedTokens } == tokens)
    for (phase, count) in report.flops { #expect(lines.reduce(0) { $0 + $1.flops[phase]! } == count, "\(phase)") }
  }

  @Test func `writes a report into pipes and through links, which stay what they are`() throws {
    let batch = try BatchFolder(count: 1)
    let target = try batch.folder.write("target", String(repeating: "x", count: 10_000))
    let link = batch.folder.path("link")
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "target")
    #expect(try ProgramRun(batch.arguments(["--report", link])).status == 0)
    _ = try JSONDecoder().decode(Record.self, from: Data(contentsOf: URL(filePath: target)))
    #expect(try FileManager.default.attributesOfItem(atPath: link)[.type] as? FileAttributeType == .typeSymbolicLink)
    for path in ["/dev/stdout", "-"] {
      let run = try ProgramRun(batch.arguments(["--overwrite", "--report", path]))
      #expect(try JSONDecoder().decode(Record.self, from: Data(run.output.utf8)).answered == 1)
    }
    // A file that is standard output keeps the answers in it.
    let both = batch.folder.path("both")
    _ = FileManager.default.createFile(atPath: both, contents: nil)
    let file: FileHandle = try #require(FileHandle(forWritingAtPath: both))
    #expect(try ProgramRun(batch.arguments(["--report", "/dev/stdout"], output: "-"), output: file).status == 0)
    let lines = try batch.lines(both)
    #expect(lines.first?.contains("question_id") == true && lines.last == "}" && lines.count > 10)
    try ProgramRun(batch.arguments(["--report", batch.folder.path])).expectFailure(3, "is a folder")
  }

  @Test func `the report replaces neither questions nor answers`() throws {
    let batch = try BatchFolder(count: 1)
    let questions = try batch.bytes(batch.input)
    let link = batch.folder.path("link.jsonl")
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: batch.input)
    for path in [batch.input, link, batch.output, batch.folder.path + "/./answers.jsonl"] {
      try ProgramRun(batch.arguments(["--report", path])).expectFailure(3, "is read or written by this run")
    }
    #expect(try batch.bytes(batch.input) == questions)
    #expect(try ProgramRun(batch.arguments()).status == 0)
    let answers = try batch.bytes()
    try ProgramRun(batch.arguments(["--report", batch.output, "--resume"])).expectFailure(
      3, "is read or written by this run")
    #expect(try batch.bytes() == answers)
  }

  @Test func `no output replaces a file of the model`() throws {
    let batch = try BatchFolder(count: 1)
    let model = batch.folder.path("model")
    let bundled = URL(filePath: BatchFolder.samples).deletingLastPathComponent().appending(path: "tiny-textvqa").path
    try FileManager.default.copyItem(atPath: bundled, toPath: model)
    for name in ["config.json", "tokenizer.json"] {
      let before = try batch.bytes(model + "/" + name)
      try ProgramRun(batch.arguments(["-m", model, "--report", model + "/" + name])).expectFailure(3, "by this run")
      try ProgramRun(batch.arguments(["-m", model, "--overwrite"], output: model + "/" + name)).expectFailure(
        3, "is a file of the model")
      #expect(try batch.bytes(model + "/" + name) == before)
    }
  }

  @Test func `answers stay if an option of all questions is wrong`() throws {
    let batch = try BatchFolder(count: 1)
    #expect(try ProgramRun(batch.arguments()).status == 0)
    let answers = try batch.bytes()
    for (option, value, words) in [("--regex", "(", "regular expression"), ("--logit-bias", "99999:1", "99999")] {
      try ProgramRun(batch.arguments(["--overwrite", option, value])).expectFailure(2, words)
      #expect(try batch.bytes() == answers)
    }
  }

  @Test func `messages do not get into the answers if stdout and stderr are closed`() throws {
    let batch = try BatchFolder(count: 2)
    let run = try ProgramRun(batch.arguments(["-v"]), before: "exec 0<&- >&- 2>&-")
    #expect(run.status == 0 && run.output.isEmpty && run.errors.isEmpty, "\(run)")
    let lines = try batch.lines()
    #expect(lines.count == 2 && lines.allSatisfy { $0.hasPrefix("{") && $0.hasSuffix("}") }, "\(lines)")
    let question = ["-t", "1", "-n", "1", "-p", "a"]
    try ProgramRun(question, before: "exec >&-").expectFailure(3, "standard output")
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
    (["--input", "a", "--first-line", "0"], "must be at least 1, found 0"),
    (["--input", "a", "--shard", "3/2"], "1/n to n/n"),
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
