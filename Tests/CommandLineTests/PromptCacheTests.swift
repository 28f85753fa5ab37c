import Foundation
import TestSupport
import Testing

/// The prompt cache, from the command line.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) final class PromptCacheTests {
  private struct Report: Decodable {
    struct Cache: Decodable {
      var hits: Int
      var misses: Int
      var prefixHits: Int
      var damaged: Int
      var written: Int

      enum CodingKeys: String, CodingKey {
        case hits, misses, damaged, written
        case prefixHits = "prefix_hits"
      }
    }
    struct Images: Decodable { var encoded: Int }

    var promptCache: Cache?
    var images: Images
    var flops: [String: Int]

    enum CodingKeys: String, CodingKey {
      case images, flops
      case promptCache = "prompt_cache"
    }
  }

  let batch: BatchFolder

  init() throws { batch = try BatchFolder(count: 14) }

  private var cache: String { batch.folder.path("cache") }
  private func files() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: cache) }

  /// Runs the batch and expects the bytes of a run without a cache.
  private func expectSame(
    _ more: [String], before preparation: String? = nil, sourceLocation: SourceLocation = #_sourceLocation
  ) throws -> (run: ProgramRun, report: Report) {
    let path = batch.folder.path("report.json")
    let output = batch.folder.path("other.jsonl")
    if !FileManager.default.fileExists(atPath: batch.output) { _ = try ProgramRun(batch.arguments()) }
    let run = try ProgramRun(
      batch.arguments(["--overwrite", "--report", path] + more, output: output), before: preparation)
    #expect(run.status == 1, "\(run.errors)", sourceLocation: sourceLocation)
    #expect(try batch.bytes(output) == batch.bytes(), "\(more)", sourceLocation: sourceLocation)
    return (run, try JSONDecoder().decode(Report.self, from: Data(contentsOf: URL(filePath: path))))
  }

  @Test(arguments: ["f32", "int8"])
  func `writes the same answers, and computes no prompt twice`(precision: String) throws {
    _ = try ProgramRun(batch.arguments(["--precision", precision]))
    let without = try expectSame(["--precision", precision]).report
    #expect(without.promptCache == nil && without.images.encoded == 3)
    let options = ["--precision", precision, "--prompt-cache", cache, "--prompt-cache-size", "1GiB"]
    let cold = try expectSame(options).report
    #expect(cold.promptCache?.misses == 10 && cold.promptCache?.hits == 0 && cold.images.encoded == 3)
    let (run, warm) = try expectSame(options + ["-b", "2"])
    #expect(warm.promptCache?.hits == 10 && warm.promptCache?.misses == 0 && warm.images.encoded == 0)
    #expect(warm.flops == without.flops && warm.promptCache?.written == 0)
    #expect(run.errors.contains("prompt cache: 10 hits, 0 misses"), "\(run.errors)")
    // A schedule with other answers.
    let schedule = ["--layer-list", "2,4", "--image-token-ratio-list", "0.5,0.1"]
    let other = options + schedule
    let output = batch.folder.path("schedule.jsonl")
    _ = try ProgramRun(batch.arguments(["--precision", precision] + schedule, output: output))
    let cached = batch.folder.path("schedule-cached.jsonl")
    for _ in 0..<2 {
      let run = try ProgramRun(batch.arguments(other + ["--overwrite"], output: cached))
      #expect(!run.errors.contains("warning"), "\(run.errors)")
      #expect(try batch.bytes(cached) == batch.bytes(output))
    }
  }

  @Test func `a dry run does not create it`() throws {
    let run = try ProgramRun(batch.arguments(["--dry-run", "--prompt-cache", cache]))
    #expect(run.status == 0)
    #expect(!FileManager.default.fileExists(atPath: cache))
  }

  /// A file size limit stands in for a full disk.
  @Test func `warns once if it is not writable or the disk is full, and answers`() throws {
    let file = try batch.folder.write("file", "x")
    for (options, limit) in [(["--prompt-cache", file], nil), (["--prompt-cache", cache], "ulimit -f 100")] {
      let (run, report) = try expectSame(options, before: limit)
      #expect(run.errorLines.count { $0.hasPrefix("warning: prompt cache: ") } == 1, "\(run.errors)")
      #expect(run.errorLines.count { $0.hasPrefix("warning") } == 1, "\(run.errors)")
      #expect(report.promptCache?.written == 0)
    }
    #expect(try files().isEmpty)
  }

  @Test func `a process that is killed while it writes leaves no damaged file`() throws {
    let options = ["--prompt-cache", cache, "--precision", "int8"]
    _ = try ProgramRun(batch.arguments(["--precision", "int8"]))
    var generator = SeededGenerator(7)
    var (killCount, partialCount) = (0, 0)
    for attempt in 0..<12 {
      let process = try ProgramRun.start(
        batch.arguments(options + ["--overwrite"], output: batch.folder.path("killed-\(attempt)")),
        input: .nullDevice, output: .nullDevice, errors: .nullDevice)
      // Half of the processes are killed as soon as they write a file.
      let deadline = Date(timeIntervalSinceNow: .random(in: 0.1...0.8, using: &generator))
      while Date() < deadline, attempt % 2 == 0 || !((try? files()) ?? []).contains(where: { $0.hasSuffix("partial") })
      {
        usleep(200)
      }
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
      if process.terminationReason == .uncaughtSignal { killCount += 1 }
      let names = (try? files()) ?? []
      if names.contains(where: { $0.hasSuffix("partial") }) { partialCount += 1 }
      // Every other one starts from nothing.
      if attempt % 4 == 3 { try? FileManager.default.removeItem(atPath: cache) }
    }
    #expect(killCount > 0, "\(partialCount) partial files")
    for _ in 0..<2 {
      let (run, report) = try expectSame(options)
      #expect(!run.errors.contains("warning"), "\(run.errors)")
      #expect(report.promptCache?.damaged == 0)
    }
    #expect(try files().allSatisfy { $0.hasSuffix(".safetensors") })
  }

  @Test func `serves concurrent processes within its size limit`() async throws {
    let expected = try ProgramRun(batch.arguments())
    #expect(expected.status == 1)
    for size in ["1GiB", "8MiB"] {
      let arguments = (0..<4).map { index in
        batch.arguments(
          ["--overwrite", "--prompt-cache", cache, "--prompt-cache-size", size],
          output: batch.folder.path("answers-\(index)"))
      }
      let runs = try await withThrowingTaskGroup(of: ProgramRun.self) { group in
        for arguments in arguments { group.addTask { try ProgramRun(arguments) } }
        return try await group.reduce(into: []) { $0.append($1) }
      }
      for run in runs { #expect(run.status == 1 && !run.errors.contains("warning"), "\(run.errors)") }
      for index in 0..<4 { #expect(try batch.bytes(batch.folder.path("answers-\(index)")) == batch.bytes()) }
      #expect(try files().allSatisfy { $0.hasSuffix(".safetensors") })
    }
    _ = try expectSame(["--prompt-cache", cache])
  }

  @Test func `serves a single question and a chat`() throws {
    let image = BatchFolder.samples + "/bike.png"
    let question = ["-t", "1", "-n", "4", "--image", image, "--precision", "int8"]
    let more = ["-p", BatchFolder.question]
    let plain = try ProgramRun(question + more)
    for words in ["0 hits, 1 misses, 0 prefix hits, 2 written", "1 hits, 0 misses, 0 prefix hits, 0 written"] {
      let run = try ProgramRun(question + more + ["--prompt-cache", cache, "-v"])
      #expect(run.status == 0 && run.output == plain.output)
      #expect(run.errors.contains("prompt cache: \(words)"), "\(run.errors)")
    }
    let turns = BatchFolder.question + "\nWhat colour is it?\n"
    let plainChat = try ProgramRun(question + ["-i"], input: turns)
    for words in ["1 hits, 1 misses, 1 prefix hits, 1 written", "2 hits, 0 misses, 0 prefix hits, 0 written"] {
      let chat = try ProgramRun(question + ["-i", "-v", "--prompt-cache", cache], input: turns)
      #expect(chat.status == 0 && chat.output == plainChat.output)
      #expect(chat.errors.contains("prompt cache: \(words)"), "\(chat.errors)")
    }
    // Files of another process's model are neither used nor damaged.
    let other = try ProgramRun(question + more + ["--precision", "f32", "--prompt-cache", cache, "-v"])
    #expect(other.status == 0 && other.errors.contains("prompt cache: 0 hits, 1 misses"), "\(other.errors)")
  }
}
