import Foundation
import TestSupport
import Testing

@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct WeightsCacheTests {
  private static let question = ["-t", "1", "-n", "3", "-p", "What is it?", "--precision", "int8"]

  private func ask(_ cache: String, _ arguments: String...) throws -> ProgramRun {
    try ProgramRun(Self.question + ["--weights-cache", cache] + arguments)
  }

  @Test func `is written once, then used, and reported by -v`() throws {
    let folder = try TemporaryFolder()
    let plain = try ProgramRun(Self.question)
    for words in [
      "weights cache: wrote \(folder.path)/cache/tiny-textvqa-", "weights cache: used \(folder.path)/cache/",
    ] {
      let run = try ask(folder.path("cache"), "-v")
      #expect(run.status == 0 && run.output == plain.output, "\(run)")
      #expect(run.errorLines.contains { $0.hasPrefix(words) }, "\(run.errors)")
    }
    let quiet = try ask(folder.path("cache"))
    #expect(quiet.errors == plain.errors && quiet.output == plain.output)
  }

  @Test func `warns once if it is not writable, and answers`() throws {
    let folder = try TemporaryFolder()
    let plain = try ProgramRun(Self.question)
    let run = try ask(folder.write("file", "x"))
    #expect(run.status == 0 && run.output == plain.output)
    #expect(run.errorLines.count == 1 && run.errors.hasPrefix("warning: weights cache: \(folder.path)/file"))
  }

  /// A file size limit stands in for a full disk.
  @Test func `warns if the disk is full, leaves no file, and answers`() throws {
    let folder = try TemporaryFolder()
    let plain = try ProgramRun(Self.question)
    let run = try ProgramRun(
      Self.question + ["--weights-cache", folder.path("cache")], before: "trap '' XFSZ; ulimit -f 1000")
    #expect(run.status == 0 && run.output == plain.output, "\(run)")
    #expect(run.errorLines.count == 1 && run.errors.hasPrefix("warning: weights cache: "), "\(run.errors)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path("cache")).isEmpty)
  }

  @Test func `serves concurrent processes`() async throws {
    let folder = try TemporaryFolder()
    let cache = folder.path("cache")
    let plain = try ProgramRun(Self.question)
    let runs = try await withThrowingTaskGroup(of: ProgramRun.self) { group in
      for _ in 0..<4 { group.addTask { try ProgramRun(Self.question + ["--weights-cache", cache]) } }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    for run in runs { #expect(run.status == 0 && run.output == plain.output && run.errors == plain.errors, "\(run)") }
    #expect(try FileManager.default.contentsOfDirectory(atPath: cache).count == 1)
    #expect(try ask(cache, "-v").errors.contains("weights cache: used"))
  }
}
