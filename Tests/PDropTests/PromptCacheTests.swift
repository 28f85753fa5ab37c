import BatchInference
import ImageProcessing
import ModelTestSupport
import PDrop
import TestSupport
import Testing
import TokenDropping

/// Answers with the prompt cache, which equal those without it bit for bit.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) final class PromptCacheTests: PromptCacheFixture {
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
}
