import BatchInference
import Foundation
import ImageProcessing
import Kernels
import ModelTestSupport
import PDrop
import Synchronization
import TestSupport
import Testing
import TokenDropping

/// Answers with the prompt cache, which equal those without it bit for bit.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) final class PromptCacheTests {
  let folder: TemporaryFolder
  private let warnings = Warnings()

  /// The warnings of a cache, one line each.
  private final class Warnings: Sendable {
    private let state = Mutex<[String]>([])
    var lines: [String] { state.withLock { $0 } }
    func add(_ line: String) { state.withLock { $0.append(line) } }
  }

  init() throws { folder = try TemporaryFolder() }

  private var cache: String { folder.path("cache") }
  private func names(_ kind: String = "") throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: cache).filter { $0.hasPrefix("pdrop-\(kind)") }.sorted()
  }

  /// Loads a golden model, by default in int8 and with a prompt cache.
  private func load(
    _ name: String = "tiny-llava-1.5", _ directory: String? = nil, isCached: Bool = true, limit: Int = 1 << 30,
    change: (inout VisionLanguageModel.Options) -> Void = { _ in }
  ) throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    options.precision = .int8
    if isCached {
      options.promptCache = PromptCacheOptions(directory: cache, byteLimit: limit) { [warnings] in warnings.add($0) }
    }
    change(&options)
    return try VisionLanguageModel(directory: directory ?? Goldens.path("models/\(name)"), options: options)
  }

  private static let images = ["shapes_640x480.png", "gray_300x400.png", "scene_500x375_420.jpg"]
    .map { Goldens.path("images/\($0)") }
  private static let policy = PyramidDrop(.listed(layers: [1, 2], ratios: [0.5, 0.25]))

  private func request(
    _ images: [Request.Image], question: String = "What is this?", policy: any TokenDroppingPolicy = policy
  ) -> Request {
    let marks = images.map { _ in "<image>" }.joined(separator: "\n")
    var request = Request(
      prompt: .rendered("USER: \(marks)\n\(question) ASSISTANT:"), images: images, policy: policy)
    request.options.maxTokens = 3
    request.options.ignoresEOS = true
    request.options.contextLength = 8192
    return request
  }

  /// The logits of every token and the report of every answer, without times.
  private func answer(
    _ model: VisionLanguageModel, _ request: Request, speculation: Speculation = .off
  ) throws -> [String] {
    var session = try Session(model, request, threads: 2, speculation: speculation)
    var results: [String] = []
    repeat {
      repeat { results.append("\(session.logits.map(\.bitPattern).hashValue)") } while try session.next() != nil
      var report = session.report
      (report.timings, report.peakResidentBytes) = (RunReport.Timings(), 0)
      let encoder = JSONEncoder()
      encoder.outputFormatting = .sortedKeys
      results.append(String(decoding: try encoder.encode(report), as: UTF8.self))
    } while session.startNextAnswer()
    return results
  }

  private func answer(
    _ model: VisionLanguageModel, question: String = "What is this?", policy: any TokenDroppingPolicy = policy
  ) throws -> [String] {
    try answer(model, request([.file(Self.images[0])], question: question, policy: policy))
  }

  @Test(
    arguments: [Precision.f32, .bf16, .int8, .int4], ["tiny-llava-1.5", "tiny-llava-next-vicuna"])
  func `answers equal those without it when it is written and when it is read`(
    precision: Precision, name: String
  ) throws {
    func load(_ isCached: Bool) throws -> VisionLanguageModel {
      try self.load(name, isCached: isCached) { $0.precision = precision }
    }
    let images = Self.images.map { Request.Image.file($0) }
    let (first, other) = (request(images), request(images, question: "What else can be seen in them?"))
    let without = try load(false)
    #expect(without.promptCacheStatistics == nil)
    let (expected, expectedOther) = (try answer(without, first), try answer(without, other))
    let writer = try load(true)
    #expect(try answer(writer, first) == expected)
    var statistics = try #require(writer.promptCacheStatistics)
    let keepsPrefixes = try !names("prefix").isEmpty
    // In int4 some matrices of the golden models are too small for blocks.
    #expect(keepsPrefixes || precision != .int8)
    #expect(precision != .f32 || !keepsPrefixes)
    #expect(statistics.hits == 0 && statistics.misses == 1 && statistics.prefixHits == 0)
    #expect(statistics.written == (keepsPrefixes ? 2 : 1) && statistics.flopsSaved == 0)
    // Read by the model that wrote it, and after loading the model again.
    for model in [writer, try load(true)] { #expect(try answer(model, first) == expected) }
    let reader = try load(true)
    #expect(try answer(reader, first) == expected)
    #expect(try answer(reader, other) == expectedOther)
    statistics = try #require(reader.promptCacheStatistics)
    #expect(statistics.hits == 1 && statistics.misses == 1 && statistics.prefixHits == (keepsPrefixes ? 1 : 0))
    #expect(statistics.written == 1 && statistics.bytesRead > 0 && statistics.flopsSaved > 0)
    #expect(warnings.lines.isEmpty)
  }

  @Test func `a hit does not run the vision encoder`() throws {
    func timings(_ question: String) throws -> (RunReport.Timings, RunReport.Flops) {
      var session = try Session(load(), request([.file(Self.images[0])], question: question), threads: 1)
      while try session.next() != nil {}
      return (session.report.timings, session.report.flops)
    }
    let (cold, flops) = try timings("What is it?")
    #expect(cold.encode > 0 && flops.encode > 0)
    for question in ["What is it?", "What else is in it?"] {
      let (warm, sameFlops) = try timings(question)
      #expect(warm.encode == 0 && warm.project == 0 && sameFlops.encode == flops.encode)
    }
  }

  @Test(arguments: [CachePrecision.f32, .bf16, .int8])
  func `every policy gives the same answers, and none uses the file of another`(cache: CachePrecision) throws {
    let policies: [any TokenDroppingPolicy] = [
      NoDropping(), Self.policy, PyramidDrop(.listed(layers: [1, 2], ratios: [0.5, 0.2])),
      PyramidDrop(.listed(layers: [1, 2], ratios: [0.5, 0.25]), positions: .original),
      PyramidDrop(.listed(layers: [1, 2], ratios: [0.5, 0.25]), ranking: .keyNorm), FastV(k: 1, r: 0.75),
      RandomDrop(.listed(layers: [1, 2], ratios: [0.5, 0.25]), seed: 1),
      RandomDrop(.listed(layers: [1, 2], ratios: [0.5, 0.25]), seed: 2),
    ]
    let (without, model) = (
      try load(isCached: false) { $0.cachePrecision = cache }, try load { $0.cachePrecision = cache }
    )
    for policy in policies {
      let expected = try answer(without, policy: policy)
      for _ in 0..<2 { #expect(try answer(model, policy: policy) == expected, "\(policy)") }
    }
    let statistics = try #require(model.promptCacheStatistics)
    #expect(statistics.hits == policies.count && statistics.misses == policies.count)
    // Prefixes depend only on the number of layers before the first drop: all, or one.
    #expect(try names("prefix").count == 2 && statistics.prefixHits == policies.count - 2)
    #expect(warnings.lines.isEmpty)
  }

  @Test func `several answers, log-probabilities, choices, penalties and drafts follow a hit as a prefill`() throws {
    var asked = request([.file(Self.images[0])])
    asked.options.maxTokens = 12
    asked.options.answerCount = 3
    asked.options.temperature = 1
    asked.options.seed = 5
    asked.options.logprobs = 4
    asked.options.repeatPenalty = 1.2
    asked.options.scoredChoices = ["Yes", "No"]
    let model = try load()
    for speculation in [Speculation.off, .fixed(4), .off] {
      let expected = try answer(load(isCached: false), asked, speculation: speculation)
      #expect(try answer(model, asked, speculation: speculation) == expected)
    }
    // Options of generation are no part of the key.
    asked.options = request([]).options
    #expect(try answer(model, asked) == answer(load(isCached: false), asked))
    #expect(model.promptCacheStatistics?.hits == 3)
  }

  @Test func `questions without an image and images that are encoded before the request use the cache`() throws {
    let text = Request(prompt: .rendered("USER: Hello ASSISTANT:"))
    let without = try load(isCached: false)
    let encoded = try load().encode(.file(Self.images[0]), threads: 2)
    #expect(encoded.tokenCount > 0)
    let expected = try answer(without, request([.features(without.encode(.file(Self.images[0]), threads: 2))]))
    for (hits, misses) in [(0, 2), (2, 0)] {
      let model = try load()
      #expect(try answer(model, text) == answer(without, text))
      let image = Request.Image.features(try model.encode(.file(Self.images[0]), threads: 2))
      // Their cost is reported where they are encoded.
      #expect(try answer(model, request([image])) == expected)
      #expect(model.promptCacheStatistics?.hits == hits && model.promptCacheStatistics?.misses == misses)
    }
    // The file has the cost of the image, for questions with its path.
    let model = try load()
    #expect(try answer(model) == answer(without))
    #expect(model.promptCacheStatistics?.hits == 1)
    // Decoded pixels have no identity.
    let pixels = Request.Image.decoded(try ImageDecoder().decode(contentsOfFile: Self.images[0]))
    for _ in 0..<2 { #expect(try answer(model, request([pixels])) == answer(without, request([pixels]))) }
    #expect(model.promptCacheStatistics?.hits == 1 && model.promptCacheStatistics?.misses == 0)
  }

  @Test(arguments: [Precision.f32, .int8])
  func `a batch writes the same bytes without a cache, with an empty and with a full one`(
    precision: Precision
  ) throws {
    let fixture = try BatchFixture()
    let questions = (0..<8).map { i in
      #"{"question_id": \#(i), "image": "\#(Self.images[i / 2 % 3])", "text": "What is it, \#(i)?"}"#
    }
    var base = Request(prompt: .messages([]))
    base.options.maxTokens = 3
    func run(isCached: Bool, batchSize: Int, _ questions: [String]) throws -> (BatchReport, VisionLanguageModel) {
      let model = try load(isCached: isCached) { $0.precision = precision }
      let engine = model.batchEngine(EngineOptions(threads: 2, batchSize: batchSize))
      return (try fixture.run(questions, like: base, existingOutput: .overwrite, engine: engine), model)
    }
    let others = questions.map { $0.replacing("What is it", with: "What else is it") }
    let (without, _) = try run(isCached: false, batchSize: 4, questions)
    let expected = try fixture.bytes()
    _ = try run(isCached: false, batchSize: 4, others)
    let expectedOthers = try fixture.bytes()
    for (batchSize, hits) in [(4, 0), (1, 8), (16, 8)] {
      let (report, model) = try run(isCached: true, batchSize: batchSize, questions)
      #expect(try fixture.bytes() == expected)
      #expect(report.flops.encode == without.flops.encode && report.images.requested == 8)
      #expect(report.images.encoded == (hits == 0 ? 3 : 0))
      let cache = try #require(model.promptCacheStatistics)
      #expect(cache.hits == hits && cache.misses == 8 - hits)
      #expect(report.flopsShared >= cache.flopsSaved)
    }
    let (report, model) = try run(isCached: true, batchSize: 4, others)
    #expect(try fixture.bytes() == expectedOthers)
    let cache = try #require(model.promptCacheStatistics)
    #expect(cache.hits == 0 && cache.misses == 8)
    #expect(precision == .f32 ? cache.prefixHits == 0 : cache.prefixHits > 0)
    #expect(report.images.encoded == (precision == .f32 ? 3 : 0))
    #expect(warnings.lines.isEmpty)
  }

  @Test func `a memory limit that has no space for a file prevents no answer`() throws {
    let fixture = try BatchFixture()
    let questions = (0..<3).map {
      #"{"question_id": \#($0), "image": "\#(Self.images[$0])", "text": "What is it?"}"#
    }
    var base = Request(prompt: .messages([]))
    base.options.maxTokens = 3
    func run(_ model: VisionLanguageModel, limit: Int?) throws -> BatchReport {
      var options = EngineOptions(threads: 1, batchSize: 1)
      options.memoryLimit = limit
      return try fixture.run(
        questions, like: base, existingOutput: .overwrite, engine: model.batchEngine(options))
    }
    _ = try run(load(), limit: nil)
    let expected = try fixture.bytes()
    // Steps of 1 MiB: too little for a record, then for the file next to it, then enough.
    var hits: [Int] = []
    for mebibytes in 128..<260 where hits.last != 3 {
      let model = try load()
      guard try run(model, limit: mebibytes << 20).answered == 3 else { continue }
      #expect(try fixture.bytes() == expected)
      hits.append(model.promptCacheStatistics?.hits ?? 0)
    }
    #expect(hits.last == 3, "\(hits)")
  }

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
