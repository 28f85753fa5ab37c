import Foundation
import ImageProcessing
import Kernels
import ModelTestSupport
import PDrop
import TestSupport
import Testing

/// The files of the prompt cache: which prompts they are for, and what happens to damaged and too many ones.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) final class PromptCacheFileTests: PromptCacheFixture {
  // MARK: - Keys

  @Test func `prompts are not shared between precisions, modes, orientations, models or images`() throws {
    let exif = Fixtures.url("images/exif_6.jpg").path
    var variants: [(name: String, upright: Bool, change: (inout VisionLanguageModel.Options) -> Void)] = [
      ("tiny-llava-1.5", false, { $0.imageMode = .pad }), ("tiny-llava-1.5", false, { $0.imageMode = .crop }),
      ("tiny-llava-1.5", true, { $0.imageMode = .crop }), ("tiny-llava-1.5", false, { $0.visionPrecision = .f32 }),
      ("tiny-llava-1.5", false, { $0.precision = .f32 }), ("tiny-llava-1.5", false, { $0.precision = .int4 }),
      ("tiny-llava-1.5", false, { $0.cachePrecision = .f32 }), ("tiny-llava-next-vicuna", false, { _ in }),
      ("tiny-llava-next-mistral", false, { _ in }), ("tiny-llava-1.5-bf16", false, { _ in }),
    ]
    if InstructionSet.avx512BF16.isAvailable {
      for scores in [ScorePrecision.float, .int8] {
        variants.append(("tiny-llava-1.5", false, { ($0.visionPrecision, $0.scorePrecision) = (.bf16, scores) }))
      }
    }
    for (index, variant) in variants.enumerated() {
      var asked = request([.file(exif)])
      asked.appliesOrientation = variant.upright
      let expected = try answer(load(variant.name, isCached: false, change: variant.change), asked)
      let model = try load(variant.name, change: variant.change)
      #expect(try answer(model, asked) == expected, "\(index)")
      #expect(model.promptCacheStatistics?.hits == 0 && model.promptCacheStatistics?.prefixHits == 0, "\(index)")
    }
    // Threads change no result.
    let model = try load { ($0.imageMode, $0.threads) = (.crop, 1) }
    let expected = try answer(load(isCached: false) { $0.imageMode = .crop }, request([.file(exif)]))
    #expect(try answer(model, request([.file(exif)])) == expected)
    #expect(model.promptCacheStatistics?.hits == 1)
    // The same prompt with another image.
    let other = try load()
    let different = request([.file(Self.images[1])])
    #expect(try answer(other, different) == answer(load(isCached: false), different))
    #expect(other.promptCacheStatistics?.hits == 0 && other.promptCacheStatistics?.prefixHits == 0)
    #expect(warnings.lines.isEmpty)
  }

  @Test func `prompts are not shared between directories with different weights or settings`() throws {
    let model = try ChangedModel()
    func hits() throws -> Int? {
      let loaded = try load("", model.directory)
      _ = try answer(loaded)
      #expect(loaded.promptCacheStatistics?.prefixHits == 0)
      return loaded.promptCacheStatistics?.hits
    }
    #expect(try hits() == 0)
    #expect(try hits() == 1)
    try model.changeJSON("\(model.name)/config.json") { $0["vision_feature_layer"] = -1 }
    #expect(try hits() == 0)
    try model.add(0.5, to: "language_model.model.norm.weight")
    #expect(try hits() == 0)
    #expect(try hits() == 1)
  }

  // MARK: - Unusable files

  @Test func `damaged files are rebuilt, with one warning`() throws {
    let expected = try answer(load(isCached: false))
    _ = try answer(load())
    let files = try names().map { ($0, [UInt8](try Data(contentsOf: URL(filePath: cache + "/" + $0)))) }
    #expect(files.count == 2)
    func flipped(_ bytes: [UInt8], at index: Int) -> [UInt8] {
      var changed = bytes
      changed[index] ^= 1
      return changed
    }
    let damages: [([UInt8]) -> [UInt8]] = [
      { flipped($0, at: $0.count / 2) }, { flipped($0, at: 100) }, { Array($0.dropLast()) }, { _ in [] }, { $0 + [0] },
    ]
    for (index, damage) in damages.enumerated() {
      for (name, bytes) in files { try folder.write("cache/" + name, damage(bytes)) }
      let model = try load()
      #expect(try answer(model) == expected)
      let statistics = try #require(model.promptCacheStatistics)
      #expect(statistics.hits == 0 && statistics.damaged == 2 && statistics.written == 2, "\(index)")
      #expect(warnings.lines.count == index + 1, "\(warnings.lines)")
      #expect(warnings.lines.last?.hasPrefix("prompt cache: \(cache)/pdrop-prompt-") == true, "\(warnings.lines)")
      for (name, bytes) in files {
        #expect(try Data(contentsOf: URL(filePath: cache + "/" + name)) == Data(bytes))
      }
    }
  }

  @Test func `a file under the name of another prompt is not used`() throws {
    _ = try answer(load())
    let first = try #require(try names("prompt").first)
    _ = try answer(load(), question: "What is it?")
    let second = try #require(try names("prompt").first { $0 != first })
    try FileManager.default.removeItem(atPath: cache + "/" + second)
    try FileManager.default.copyItem(atPath: cache + "/" + first, toPath: cache + "/" + second)
    #expect(try answer(load(), question: "What is it?") == answer(load(isCached: false), question: "What is it?"))
    #expect(warnings.lines.count == 1 && warnings.lines[0].contains("of another prompt"), "\(warnings.lines)")
  }

  @Test func `a file in place of the folder prevents no answer`() throws {
    let expected = try answer(load(isCached: false))
    try folder.write("cache", "x")
    let model = try load()
    for _ in 0..<2 { #expect(try answer(model) == expected) }
    #expect(warnings.lines.count == 1, "\(warnings.lines)")
    #expect(warnings.lines.allSatisfy { $0.contains("continuing without storing more prompts") })
    #expect(model.promptCacheStatistics?.written == 0)
  }

  // MARK: - Byte limit and traces

  @Test func `the most recently used prompts are kept`() throws {
    func ask(_ question: String, limit: Int = 1 << 30) throws -> PromptCacheStatistics {
      let model = try load(limit: limit) { $0.precision = .f32 }
      _ = try answer(model, question: question)
      return try #require(model.promptCacheStatistics)
    }
    _ = try ask("A?")
    let first = try #require(try names().first)
    let size = try Data(contentsOf: URL(filePath: cache + "/" + first)).count
    for question in ["B?", "C?"] { _ = try ask(question) }
    try folder.write("cache/notes.txt", [UInt8](repeating: 0, count: 4 * size))
    for name in try names() {
      try FileManager.default.setAttributes(
        [.modificationDate: Date(timeIntervalSince1970: 1000)], ofItemAtPath: cache + "/" + name)
    }
    #expect(try ask("A?").hits == 1)
    // The hit made it the most recently used file.
    let statistics = try ask("D?", limit: Int(Double(size) * 2.5))
    #expect(statistics.written == 1 && statistics.removed == 2)
    #expect(try names().contains(first) && names().count == 2)
    #expect(FileManager.default.fileExists(atPath: cache + "/notes.txt"))
    #expect(warnings.lines.isEmpty)
  }

  @Test func `a limit below one prompt keeps none and warns once`() throws {
    let model = try load(limit: 1000)
    for question in ["A?", "B?"] { _ = try answer(model, question: question) }
    #expect(warnings.lines.count == 1, "\(warnings.lines)")
    #expect(try names().isEmpty)
  }

  @Test func `a trace computes its prompt even if the cache has it`() throws {
    _ = try answer(load())
    let model = try load()
    var request = request([.file(Self.images[0])])
    request.recordsTensors = true
    let trace = try Trace(of: request, model)
    #expect(trace.tensors.names.contains("features"))
    #expect(trace.report.timings.encode > 0)
    #expect(model.promptCacheStatistics == PromptCacheStatistics())
  }
}
