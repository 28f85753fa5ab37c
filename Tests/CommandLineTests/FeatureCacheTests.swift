import Foundation
import TestSupport
import Testing

/// The feature cache, from the command line.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) final class FeatureCacheTests {
  private struct Report: Decodable {
    struct Cache: Decodable {
      var hits: Int
      var misses: Int
      var written: Int
      var bytes_read: Int
      var flops_saved: Int
    }
    struct Images: Decodable { var encoded: Int }

    var feature_cache: Cache?
    var images: Images
    var flops: [String: Int]
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

  @Test(arguments: ["f32", "bf16"])
  func `writes the same answers, and encodes no image twice`(precision: String) throws {
    _ = try ProgramRun(batch.arguments(["--precision", precision]))
    let without = try expectSame(["--precision", precision]).report
    #expect(without.feature_cache == nil && without.images.encoded == 3)
    let options = ["--precision", precision, "--feature-cache", cache, "--feature-cache-size", "1GiB"]
    let cold = try expectSame(options).report
    // Three images, and a file that is not an image.
    #expect(cold.feature_cache?.misses == 4 && cold.feature_cache?.written == 3 && cold.images.encoded == 3)
    let (run, warm) = try expectSame(options + ["-b", "2"])
    #expect(warm.feature_cache?.hits == 3 && warm.feature_cache?.misses == 1 && warm.images.encoded == 0)
    #expect(warm.flops == without.flops && (warm.feature_cache?.flops_saved ?? 0) > 0)
    #expect(run.errors.contains("feature cache: 3 hits, 1 misses"), "\(run.errors)")
    #expect(try files().count == 3)
  }

  @Test func `a dry run does not create it`() throws {
    let run = try ProgramRun(batch.arguments(["--dry-run", "--feature-cache", cache]))
    #expect(run.status == 0)
    #expect(!FileManager.default.fileExists(atPath: cache))
  }

  @Test func `warns once if it is not writable, and answers`() throws {
    let file = try batch.folder.write("file", "x")
    let (run, report) = try expectSame(["--feature-cache", file])
    #expect(run.errorLines.count { $0.hasPrefix("warning: feature cache: \(file)") } == 1, "\(run.errors)")
    #expect(run.errorLines.count { $0.hasPrefix("warning") } == 1, "\(run.errors)")
    #expect(report.feature_cache?.written == 0)
  }

  /// A file size limit stands in for a full disk.
  @Test func `warns if the disk is full, leaves no file, and answers`() throws {
    let (run, report) = try expectSame(["--feature-cache", cache], before: "ulimit -f 100")
    #expect(run.errorLines.count { $0.hasPrefix("warning: feature cache: ") } == 1, "\(run.errors)")
    #expect(report.feature_cache?.written == 0 && report.feature_cache?.misses == 4)
    #expect(try files().isEmpty)
  }

  @Test func `serves concurrent processes within its size limit`() async throws {
    let expected = try ProgramRun(batch.arguments())
    #expect(expected.status == 1)
    // Two of the three images fit.
    let arguments = (0..<4).map { index in
      batch.arguments(
        ["--feature-cache", cache, "--feature-cache-size", "600KiB"], output: batch.folder.path("answers-\(index)"))
    }
    let runs = try await withThrowingTaskGroup(of: ProgramRun.self) { group in
      for arguments in arguments { group.addTask { try ProgramRun(arguments) } }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    for run in runs { #expect(run.status == 1 && !run.errors.contains("warning"), "\(run.errors)") }
    for index in 0..<4 { #expect(try batch.bytes(batch.folder.path("answers-\(index)")) == batch.bytes()) }
    #expect(try files().allSatisfy { $0.hasSuffix(".safetensors") })
    _ = try expectSame(["--feature-cache", cache])
  }

  @Test func `serves a single question and a chat`() throws {
    let image = BatchFolder.samples + "/bike.png"
    let question = ["-t", "1", "-n", "4", "--image", image]
    let plain = try ProgramRun(question + ["-p", BatchFolder.question])
    for words in ["0 hits, 1 misses, 1 written", "1 hits, 0 misses, 0 written"] {
      let run = try ProgramRun(question + ["-p", BatchFolder.question, "--feature-cache", cache, "-v"])
      #expect(run.status == 0 && run.output == plain.output)
      #expect(run.errors.contains("feature cache: \(words)"), "\(run.errors)")
    }
    let chat = try ProgramRun(question + ["-i", "-v", "--feature-cache", cache], input: BatchFolder.question + "\n")
    #expect(chat.status == 0 && chat.output == plain.output)
    #expect(chat.errors.contains("feature cache: 1 hits"), "\(chat.errors)")
  }
}
