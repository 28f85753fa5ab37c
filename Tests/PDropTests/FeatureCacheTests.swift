import BatchInference
import Foundation
import ImageProcessing
import Kernels
import ModelTestSupport
import PDrop
import Synchronization
import TestSupport
import Testing

/// Answers with the feature cache, which equal those without it bit for bit.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) final class FeatureCacheTests {
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
  private func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: cache).sorted() }

  /// Loads a golden model, by default with a feature cache.
  private func load(
    _ name: String = "tiny-llava-1.5", _ directory: String? = nil, isCached: Bool = true, limit: Int = 1 << 30,
    change: (inout VisionLanguageModel.Options) -> Void = { _ in }
  ) throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    options.precision = .f32
    if isCached {
      options.featureCache = FeatureCacheOptions(directory: cache, byteLimit: limit) { [warnings] in warnings.add($0) }
    }
    change(&options)
    return try VisionLanguageModel(directory: directory ?? Goldens.path("models/\(name)"), options: options)
  }

  private static let images = ["shapes_640x480.png", "gray_300x400.png", "scene_500x375_420.jpg"]
    .map { Goldens.path("images/\($0)") }

  /// The results of a run, without timings.
  private struct Computed: Equatable {
    var logits: [UInt32]
    var tokens: [Int]
    var text: String
    var imageSpans: [[Int]]
    var stages: [RunReport.Stage]
    var cacheLengths: [Int]
    var flops: RunReport.Flops
  }

  private func answer(
    _ model: VisionLanguageModel, _ images: [Request.Image] = [.file(FeatureCacheTests.images[0])],
    upright: Bool = false
  ) throws -> Computed {
    let marks = images.map { _ in "<image>" }.joined(separator: "\n")
    var request = Request(prompt: .rendered("USER: \(marks)\nWhat is this? ASSISTANT:"), images: images)
    request.options.maxTokens = 3
    request.options.ignoresEOS = true
    request.options.contextLength = 8192
    request.appliesOrientation = upright
    var session = try Session(model, request, threads: 2)
    while try session.next() != nil {}
    let report = session.report
    return Computed(
      logits: session.logits.map(\.bitPattern), tokens: report.tokens, text: report.text,
      imageSpans: report.imageSpans, stages: report.stages, cacheLengths: report.cacheLengthsAtEnd, flops: report.flops)
  }

  @Test(arguments: [Precision.f32, .bf16, .int8], ["tiny-llava-1.5", "tiny-llava-next-vicuna"])
  func `answers equal those without it when it is written and when it is read`(
    precision: Precision, name: String
  ) throws {
    func load(_ isCached: Bool) throws -> VisionLanguageModel {
      try self.load(name, isCached: isCached) { $0.precision = precision }
    }
    let images = Self.images.map { Request.Image.file($0) }
    let without = try load(false)
    #expect(without.featureCacheStatistics == nil)
    let expected = try answer(without, images)
    let first = try load(true)
    #expect(try answer(first, images) == expected)
    var report = try #require(first.featureCacheStatistics)
    #expect(report.hits == 0 && report.misses == 3 && report.written == 3 && report.bytesRead == 0)
    #expect(report.flopsSaved == 0)
    // Read by the model that wrote them, and after loading the model again.
    #expect(try answer(first, images) == expected)
    let second = try load(true)
    #expect(try answer(second, images) == expected)
    report = try #require(second.featureCacheStatistics)
    #expect(report.hits == 3 && report.misses == 0 && report.written == 0 && report.bytesWritten == 0)
    #expect(report.bytesRead > 0 && report.flopsSaved > 0)
    // The bytes of the same image instead of its path.
    let bytes = [UInt8](try Data(contentsOf: URL(filePath: Self.images[0])))
    #expect(try answer(second, [.encoded(bytes, name: "x")]) == answer(without))
    #expect(second.featureCacheStatistics?.hits == 4)
    #expect(warnings.lines.isEmpty)
  }

  @Test func `images that are encoded before the request use the cache`() throws {
    let without = try load(isCached: false)
    let expected = try without.encode(.file(Self.images[0]), threads: 1)
    let first = try load()
    _ = try first.encode(.file(Self.images[0]), threads: 1)
    let model = try load()
    let image = try model.encode(.file(Self.images[0]), threads: 2)
    #expect(model.featureCacheStatistics?.hits == 1)
    #expect(image.tokenCount == expected.tokenCount && image.flops == expected.flops)
    #expect(image.timings.encode == 0 && image.timings.preprocess == 0)
    #expect(try answer(model, [.features(image)]) == answer(without, [.features(expected)]))
    // An image of another model is refused, as without the cache.
    #expect(throws: RequestError.generation(.foreignImage)) { try answer(without, [.features(image)]) }
  }

  @Test(arguments: [Precision.f32, .bf16])
  func `a batch writes the same bytes without a cache, with an empty and with a full one`(
    precision: Precision
  ) throws {
    let fixture = try BatchFixture()
    let questions = (0..<8).map { i in
      #"{"question_id": \#(i), "image": "\#(Self.images[i / 2 % 3])", "text": "What is it, \#(i)?"}"#
    }
    var base = Request(prompt: .messages([]))
    base.options.maxTokens = 3
    func run(isCached: Bool, batchSize: Int) throws -> (BatchReport, VisionLanguageModel) {
      let model = try load(isCached: isCached) { $0.precision = precision }
      let engine = model.batchEngine(EngineOptions(threads: 2, batchSize: batchSize))
      return (try fixture.run(questions, like: base, existingOutput: .overwrite, engine: engine), model)
    }
    let (without, _) = try run(isCached: false, batchSize: 4)
    #expect(without.answered == 8 && without.images.encoded == 3)
    let expected = try fixture.bytes()
    for (batchSize, encoded) in [(4, 3), (1, 0), (16, 0)] {
      let (report, model) = try run(isCached: true, batchSize: batchSize)
      #expect(try fixture.bytes() == expected)
      #expect(report.images.requested == 8 && report.images.encoded == encoded)
      #expect(report.flops.encode == without.flops.encode)
      let cache = try #require(model.featureCacheStatistics)
      // The number of prefix cache hits depends on which records are ready in time; the FLOPs that files saved do not.
      #expect((cache.flopsSaved > 0) == (encoded == 0) && report.flopsShared >= cache.flopsSaved)
      // Later questions about an image do not read its file.
      #expect(cache.hits == 3 - encoded && cache.misses == encoded && cache.written == encoded)
    }
  }

  // MARK: - Keys

  @Test func `features are not shared between image modes, orientations, precisions or models`() throws {
    let exif = Fixtures.url("images/exif_6.jpg").path
    var variants: [(name: String, upright: Bool, change: (inout VisionLanguageModel.Options) -> Void)] = [
      ("tiny-llava-1.5", false, { $0.imageMode = .pad }), ("tiny-llava-1.5", false, { $0.imageMode = .crop }),
      ("tiny-llava-1.5", true, { $0.imageMode = .crop }), ("tiny-llava-1.5", false, { $0.visionPrecision = .int8 }),
      ("tiny-llava-next-vicuna", false, { _ in }), ("tiny-llava-next-vicuna", false, { $0.imageMode = .pad }),
      ("tiny-llava-next-mistral", false, { _ in }), ("tiny-llava-1.5-bf16", false, { _ in }),
    ]
    if InstructionSet.avx512BF16.isAvailable {
      for scores in [ScorePrecision.float, .int8] {
        variants.append(("tiny-llava-1.5", false, { ($0.visionPrecision, $0.scorePrecision) = (.bf16, scores) }))
      }
    }
    for (index, variant) in variants.enumerated() {
      let expected = try answer(
        load(variant.name, isCached: false, change: variant.change), [.file(exif)], upright: variant.upright)
      let model = try load(variant.name, change: variant.change)
      #expect(try answer(model, [.file(exif)], upright: variant.upright) == expected, "\(index)")
      #expect(model.featureCacheStatistics?.hits == 0 && model.featureCacheStatistics?.written == 1, "\(index)")
    }
    #expect(try names().count == variants.count)
    // Options that do not change features share them.
    let model = try load { ($0.imageMode, $0.cachePrecision, $0.threads) = (.crop, .bf16, 1) }
    _ = try answer(model, [.file(exif)])
    #expect(model.featureCacheStatistics?.hits == 1)
    #expect(warnings.lines.isEmpty)
  }

  @Test func `features are not shared between directories with different weights or settings`() throws {
    let model = try ChangedModel()
    func hits() throws -> Int? {
      let loaded = try load("", model.directory)
      _ = try answer(loaded)
      return loaded.featureCacheStatistics?.hits
    }
    #expect(try hits() == 0)
    #expect(try hits() == 1)
    let copy = try ChangedModel()
    #expect(try load("", copy.directory).featureCacheStatistics?.hits == 0)
    try model.changeJSON("\(model.name)/preprocessor_config.json") { $0["image_mean"] = [0.5, 0.5, 0.5] }
    #expect(try hits() == 0)
    try model.changeJSON("\(model.name)/config.json") { $0["vision_feature_layer"] = -1 }
    #expect(try hits() == 0)
    try model.add(0.5, to: "multi_modal_projector.linear_2.bias")
    #expect(try hits() == 0)
    #expect(try hits() == 1)
  }

  // MARK: - Unusable files

  @Test func `a damaged file is rebuilt, with a warning`() throws {
    let expected = try answer(load(isCached: false))
    _ = try answer(load())
    let name = try #require(try names().first)
    let bytes = [UInt8](try Data(contentsOf: URL(filePath: cache + "/" + name)))
    var changed = bytes
    changed[bytes.count / 2] ^= 1
    for (index, damage) in [changed, Array(bytes.dropLast()), [], Array(bytes + [0])].enumerated() {
      try folder.write("cache/" + name, damage)
      let model = try load()
      #expect(try answer(model) == expected)
      let report = try #require(model.featureCacheStatistics)
      #expect(report.hits == 0 && report.misses == 1 && report.damaged == 1 && report.written == 1, "\(index)")
      #expect(warnings.lines.count == index + 1)
      #expect(warnings.lines.last?.hasPrefix("feature cache: \(cache)/\(name): ") == true, "\(warnings.lines)")
      #expect(try Data(contentsOf: URL(filePath: cache + "/" + name)) == Data(bytes))
    }
  }

  @Test func `a file under the name of another image is not used`() throws {
    _ = try answer(load())
    let first = try #require(try names().first)
    _ = try answer(load(), [.file(Self.images[1])])
    let second = try #require(try names().first { $0 != first })
    try FileManager.default.removeItem(atPath: cache + "/" + second)
    try FileManager.default.copyItem(atPath: cache + "/" + first, toPath: cache + "/" + second)
    let expected = try answer(load(isCached: false), [.file(Self.images[1])])
    #expect(try answer(load(), [.file(Self.images[1])]) == expected)
    #expect(warnings.lines.count == 1 && warnings.lines[0].contains("of another image"), "\(warnings.lines)")
  }

  @Test func `a folder in place of a file, or a file in place of the folder, prevents no answer`() throws {
    let expected = try answer(load(isCached: false))
    _ = try answer(load())
    let name = try #require(try names().first)
    try FileManager.default.removeItem(atPath: cache + "/" + name)
    try FileManager.default.createDirectory(atPath: cache + "/" + name + "/x", withIntermediateDirectories: true)
    #expect(try answer(load()) == expected)
    // It can neither be read nor replaced.
    #expect(warnings.lines.count == 2, "\(warnings.lines)")
    try FileManager.default.removeItem(atPath: cache)
    try folder.write("cache", "x")
    let model = try load()
    for image in Self.images { _ = try answer(model, [.file(image)]) }
    #expect(try answer(model) == expected)
    #expect(warnings.lines.count { $0.contains("continuing without storing more features") } == 2, "\(warnings.lines)")
    #expect(model.featureCacheStatistics?.written == 0)
  }

  @Test func `an unreadable image is an error and leaves no file`() throws {
    let text = try folder.write("text.png", "no image")
    let model = try load()
    #expect(throws: RequestError.self) { try answer(model, [.file(text)]) }
    #expect(throws: RequestError.image(.missingFile(name: "none.png"))) { try answer(model, [.file("none.png")]) }
    #expect(!FileManager.default.fileExists(atPath: cache))
  }

  // MARK: - Byte limit and traces

  @Test func `the most recently used images are kept`() throws {
    _ = try answer(load())
    let size = try Data(contentsOf: URL(filePath: cache + "/" + #require(names().first))).count
    // Three files fit, as a tenth of the limit stays free.
    let limit = 3 * size + size / 2
    func ask(_ image: Int) throws -> FeatureCacheStatistics {
      let model = try load(limit: limit)
      _ = try answer(model, [.file(Self.images[image])])
      return try #require(model.featureCacheStatistics)
    }
    func age(_ names: [String]) throws {
      for name in names {
        try FileManager.default.setAttributes(
          [.modificationDate: Date(timeIntervalSince1970: 1000)], ofItemAtPath: cache + "/" + name)
      }
    }
    try folder.write("cache/notes.txt", [UInt8](repeating: 0, count: 4 * size))
    try age(names())
    let first = try #require(try names().first { $0 != "notes.txt" })
    _ = try ask(1)
    _ = try ask(2)
    try age(names().filter { $0 != first })
    #expect(try ask(0).hits == 1)
    // The hit made it the most recently used file.
    let small = Int(Double(size) * 2.4)
    let model = try load(limit: small)
    _ = try answer(model, [.file(Goldens.path("images/rgba_360x360.png"))])
    #expect(model.featureCacheStatistics?.written == 1 && model.featureCacheStatistics?.removed == 2)
    #expect(try names().contains(first) && names().contains("notes.txt") && names().count == 3)
    #expect(warnings.lines.isEmpty)
  }

  @Test func `a limit below one image keeps none and warns once`() throws {
    let model = try load(limit: 1000)
    for image in Self.images { _ = try answer(model, [.file(image)]) }
    #expect(warnings.lines.count == 1, "\(warnings.lines)")
    #expect(try names().isEmpty)
  }

  @Test func `a trace encodes its image even if the cache has it`() throws {
    _ = try answer(load())
    let model = try load()
    var request = Request(question: "What is this?", images: [.file(Self.images[0])])
    request.options.maxTokens = 1
    request.recordsTensors = true
    let trace = try Trace(of: request, model)
    #expect(trace.tensors.names.contains("pixels_u8") && trace.tensors.names.contains("features"))
    #expect(trace.report.timings.encode > 0)
    #expect(model.featureCacheStatistics?.hits == 0)
  }
}
