import Foundation
import TestSupport
import Testing

/// `pdrop-bench equal-cost` as a process, with the bundled model.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct EqualCostTests {
  private func run(_ arguments: [String], report: String) throws -> ProgramRun {
    try ProgramRun(["equal-cost", "--report-folder", report, "-t", "2"] + arguments, program: "pdrop-bench")
  }

  @Test func `scores the benchmarks of a folder by their own metrics`() throws {
    let folder = try EvaluationFolder()
    let report = folder.folder.path("report")
    let run = try run(
      ["--data", folder.data, "--benchmark", "pope,textvqa,gqa", "--shares", "0.25", "-n", "4"], report: report)
    #expect(run.status == 0, "\(run.errors)")
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: report).sorted()
        == ["pope", "textvqa"].flatMap { name in ["html", "json", "md"].map { "equal-cost-\(name).\($0)" } })
    let pope = try String(contentsOfFile: report + "/equal-cost-pope.md", encoding: .utf8)
    #expect(pope.contains("4 questions of pope to tiny-textvqa. Without dropping, F1 is "), "\(pope)")
    #expect(pope.contains("F1 (95% CI)") && pope.contains("first-token agreement") && pope.contains("Most accurate: "))
    #expect(pope.contains("At 25.0% of the prefill FLOPs"))
    let textVQA = try String(contentsOfFile: report + "/equal-cost-textvqa.md", encoding: .utf8)
    #expect(textVQA.contains("1 questions of textvqa") && textVQA.contains("accuracy (95% CI)"))
  }

  @Test func `compares labelled questions at the same cost, and names the layers of drops`() throws {
    let folder = try TemporaryFolder()
    let run = try run(["--limit", "2", "--shares", "0.5,0.1", "--name", "mine"], report: folder.path("report"))
    #expect(run.status == 0, "\(run.errors)")
    let text = try String(contentsOfFile: folder.path("report/mine.md"), encoding: .utf8)
    #expect(text.contains("PyramidDrop 50.0% FLOPs") && text.contains("PyramidDrop layer 2,10,20 50.0% FLOPs"))
    #expect(text.contains("are answered correctly") && text.contains("At 10.0% of the prefill FLOPs"))
  }

  @Test(arguments: [
    (["--benchmark", "pope"], "--benchmark requires --data"),
    (["--data", "a", "--benchmark", "best"], "--benchmark 'best' does not exist"),
    (["--data", "a", "--input", "b"], "leave out --input"), (["--shares", "0"], "--shares must be above 0"),
    (["-n", "0"], "--n-gen must be at least 1, found 0"),
  ])
  func `refuses invalid options`(arguments: [String], words: String) throws {
    let run = try run(arguments, report: "unused")
    #expect(run.status == 2 && run.errors.contains(words), "\(run.errors)")
  }

  @Test func `refuses a folder without benchmarks`() throws {
    let folder = try TemporaryFolder()
    let run = try run(["--data", folder.path], report: folder.path("report"))
    #expect(run.status != 0 && run.errors.contains("no benchmark to answer"), "\(run.errors)")
  }
}
