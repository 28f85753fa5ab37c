import Foundation
import ModelTestSupport
import PDrop
import TestSupport
import Testing
import TokenDropping

/// Answers with the weights cache, which equal those without it bit for bit.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct WeightsCacheTests {
  private func load(
    _ directory: String, _ precision: Precision, vision: Precision = .auto, cacheIn folder: String?
  ) throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    (options.precision, options.visionPrecision, options.weightsCache) = (precision, vision, folder)
    options.threads = 2
    return try VisionLanguageModel(directory: directory, options: options)
  }

  private func trace(_ model: VisionLanguageModel) throws -> Trace {
    var request = Request(
      prompt: .rendered("USER: <image>\nWhat is this? ASSISTANT:"),
      images: [.file(Goldens.path("images/gray_300x400.png"))], policy: PyramidDrop())
    request.options.maxTokens = 4
    request.options.ignoresEOS = true
    request.recordsTensors = true
    return try Trace(of: request, model)
  }

  private func expectEqual(_ a: Trace, _ b: Trace) throws {
    #expect(a.report.tokens == b.report.tokens)
    #expect(a.tensors.names == b.tensors.names)
    for name in a.tensors.names { #expect(try a.tensors.bytes(name) == b.tensors.bytes(name), "\(name)") }
  }

  @Test(arguments: [
    ("tiny-llava-1.5", Precision.int8, Precision.auto), ("tiny-llava-1.5", .int8, .int8),
    ("tiny-llava-1.5-bf16", .int8, .auto), ("tiny-llava-next-mistral", .int8, .auto),
    ("tiny-llava-1.5", .int4, .auto), ("tiny-llava-next-mistral", .int4, .int8),
    ("../gguf/models/mistral-256/ggml-model-q4_k_m.gguf", .int4, .auto),
    ("../gguf/models/mistral-256/ggml-model-q2_k.gguf", .int4, .int8),
    ("../gguf/models/next-mistral-64/ggml-model-q8_0.gguf", .int8, .auto),
    ("../gguf/models/qwen2-64", .int4, .auto),
  ])
  func `answers equal those without it when it is written and when it is read`(
    name: String, precision: Precision, vision: Precision
  ) throws {
    let folder = try TemporaryFolder()
    let directory = Goldens.path("models/\(name)")
    let without = try load(directory, precision, vision: vision, cacheIn: nil)
    #expect(without.weightsCache == nil)
    let expected = try trace(without)
    for isUsed in [false, true] {
      let model = try load(directory, precision, vision: vision, cacheIn: folder.path("cache"))
      let report = try #require(model.weightsCache)
      #expect(report.wasUsed == isUsed && !report.hasFailed, "\(report)")
      #expect(model.weightBytes == without.weightBytes)
      #expect(model.unusedTensors == without.unusedTensors)
      try expectEqual(trace(model), expected)
    }
  }

  /// Files with blocks in a directory share a folder.
  @Test func `each file and precision of a directory has a cache of its own`() throws {
    let folder = try TemporaryFolder()
    let cache = folder.path("cache")
    let models = ["q4_k_m", "q2_k"].map { Goldens.path("gguf/models/mistral-256/ggml-model-\($0).gguf") }
    let cases = models.flatMap { model in [Precision.int4, .int8].map { (model, $0) } }
    for isUsed in [false, true] {
      for (model, precision) in cases {
        #expect(try load(model, precision, cacheIn: cache).weightsCache?.wasUsed == isUsed, "\(model) \(precision)")
      }
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: cache).count == cases.count)
  }

  @Test func `is rebuilt if the file of the vision encoder has changed`() throws {
    let folder = try TemporaryFolder()
    for name in ["ggml-model-q4_k_m.gguf", "mmproj-model-f16.gguf"] {
      try FileManager.default.copyItem(
        atPath: Goldens.path("gguf/models/mistral-256/\(name)"), toPath: folder.path(name))
    }
    let cache = folder.path("cache")
    #expect(try load(folder.path, .int4, cacheIn: cache).weightsCache?.wasUsed == false)
    #expect(try load(folder.path, .int4, cacheIn: cache).weightsCache?.wasUsed == true)
    try FileManager.default.setAttributes(
      [.modificationDate: Date(timeIntervalSince1970: 1)], ofItemAtPath: folder.path("mmproj-model-f16.gguf"))
    let changed = try #require(try load(folder.path, .int4, cacheIn: cache).weightsCache)
    #expect(changed.description.hasSuffix("because the model's weights have changed"), "\(changed)")
  }

  @Test func `includes a vision encoder from another directory`() throws {
    let folder = try TemporaryFolder()
    let directory = try OriginalLayout("tiny-llava-1.5").write(into: folder.url, visionTower: .directory("clip-tiny"))
      .path
    let cache = folder.path("cache")
    #expect(try load(directory, .int8, vision: .int8, cacheIn: cache).weightsCache?.wasUsed == false)
    let model = try load(directory, .int8, vision: .int8, cacheIn: cache)
    #expect(model.weightsCache?.wasUsed == true)
    try expectEqual(trace(model), trace(load(directory, .int8, vision: .int8, cacheIn: nil)))
    let visionTower = try #require(model.visionTower)
    let weights = visionTower + "/model.safetensors"
    try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSince1970: 1)], ofItemAtPath: weights)
    let changed = try #require(try load(directory, .int8, vision: .int8, cacheIn: cache).weightsCache)
    #expect(changed.description.hasSuffix("because the model's weights have changed"), "\(changed)")
  }

  @Test func `answers need no cache where it cannot be written`() throws {
    let directory = Goldens.path("models/tiny-llava-1.5")
    let model = try load(directory, .int8, cacheIn: directory + "/config.json")
    #expect(model.weightsCache?.hasFailed == true)
    try expectEqual(trace(model), trace(load(directory, .int8, cacheIn: nil)))
  }
}
