import Foundation
import TestSupport
import Testing

/// Continuous batching, from the command line.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct BatchEngineTests {
  @Test func `answers do not depend on batch size, threads or memory limit`() throws {
    let batch = try BatchFolder(count: 14)
    let alone = try ProgramRun(batch.arguments(["-b", "1"]))
    #expect(alone.status == 1)
    for more in [["-b", "4"], ["-t", "3"], ["--ram", "1GiB", "-b", "16"]] {
      let output = batch.folder.path("other.jsonl")
      let run = try ProgramRun(batch.arguments(more + ["--overwrite"], output: output))
      #expect(run.status == 1)
      #expect(try batch.bytes(output) == batch.bytes(), "\(more)")
    }
  }

  @Test func `a dry run prints an estimate and touches no file`() throws {
    let batch = try BatchFolder(count: 14)
    let run = try ProgramRun(batch.arguments(["--dry-run", "--ram", "2 GiB"]))
    #expect(run.status == 0, "\(run.errors)")
    for words in ["a limit of 2.000 GiB", "layers 1 to 8", "at batch size 16", "for 14 records"] {
      #expect(run.output.contains(words), "\(run.output)")
    }
    #expect(!FileManager.default.fileExists(atPath: batch.output))
    let none = try ProgramRun(batch.arguments(["--dry-run", "--ram", "100MiB"]))
    #expect(none.status == 1 && none.output.isEmpty && none.errors.contains("--ram 0."), "\(none.errors)")
  }

  @Test func `a batch that does not fit in memory answers nothing and prints the required limit`() throws {
    let batch = try BatchFolder(count: 2)
    let run = try ProgramRun(batch.arguments(["--ram", "50MiB"]))
    #expect(run.status == 1)
    #expect(run.errors.contains("2 failed: 2 out_of_memory"), "\(run.errors)")
    #expect(try batch.lines().allSatisfy { $0.contains("it fits with --ram") })
  }
}
