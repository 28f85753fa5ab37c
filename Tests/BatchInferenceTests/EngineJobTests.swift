import LLaVA
import ModelFormats
import PDrop
import TestSupport
import Testing
import TokenDropping

@testable import BatchInference

@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct EngineJobTests {
  /// A job that takes note of what the engine does, in order.
  private struct Log: EngineJob {
    enum Entry: Equatable {
      case layer(PrefillLayer, of: Int)
      case prefilled(Int)
      case text(of: Int)
      case finished(Int)
      case cancelled(Int)
    }

    var requests: [Request]
    /// Whether a request is cancelled, by what has happened so far.
    var cancels: (Int, [Entry]) -> Bool = { _, _ in false }
    var entries: [Entry] = []
    var reports: [Int: RunReport] = [:]
    var statistics = EngineStatistics()
    private var taken = 0

    init(_ requests: [Request]) { self.requests = requests }

    mutating func take(waits: Bool) -> Poll<EngineRequest> {
      guard taken < requests.count else { return .finished }
      taken += 1
      return .ready(EngineRequest(requests[taken - 1], index: taken - 1))
    }

    func isCancelled(_ request: EngineRequest) -> Bool { cancels(request.index, entries) }
    mutating func willRun(_ layer: PrefillLayer, of request: EngineRequest) {
      entries.append(.layer(layer, of: request.index))
    }
    mutating func didPrefill(_ request: EngineRequest, _: FinishedPrefill) { entries.append(.prefilled(request.index)) }
    mutating func didGenerate(_: GeneratedText, for request: EngineRequest) { entries.append(.text(of: request.index)) }
    mutating func finish(_ results: [(EngineRequest, Result<RunReport, RecordFailure>)]) {
      for (request, result) in results {
        entries.append(.finished(request.index))
        reports[request.index] = try? result.get()
      }
    }
    mutating func didCancel(_ request: EngineRequest) { entries.append(.cancelled(request.index)) }

    func index(_ entry: Entry) -> Int? { entries.firstIndex(of: entry) }
  }

  private let model: VisionLanguageModel

  init() throws { model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5")) }

  private func request(_ question: String, tokens: Int) -> Request {
    var request = Request(question: question, images: [.file(Goldens.path("images/rgba_360x360.png"))])
    request.options.maxTokens = tokens
    request.options.ignoresEOS = true
    return request
  }

  private func run(_ job: inout Log, prefillShare: Double?) {
    var options = EngineOptions(threads: 2)
    options.prefillShare = prefillShare
    model.answer(&job, options)
  }

  @Test func `with a share, answers continue between the layers of a prefill`() throws {
    let requests = [request("What is it?", tokens: 200), request("Which colour?", tokens: 3)]
    var (shared, whole) = (Log(requests), Log(requests))
    run(&shared, prefillShare: 0.5)
    run(&whole, prefillShare: nil)
    func texts(_ log: Log) throws -> Int {
      let start = try #require(log.entries.firstIndex { if case .layer(_, of: 1) = $0 { true } else { false } })
      return log.entries[start..<(try #require(log.index(.prefilled(1))))].count { $0 == .text(of: 0) }
    }
    #expect(try texts(shared) > 0)
    #expect(try texts(whole) == 0)
    for index in 0...1 { #expect(shared.reports[index]?.tokens == whole.reports[index]?.tokens) }
  }

  @Test func `a prefill is given up between two layers`() throws {
    var job = Log([request("Never mind", tokens: 50), request("What is it?", tokens: 4)])
    job.cancels = { index, entries in
      index == 0 && entries.contains(.layer(PrefillLayer(isVisionEncoder: false, layer: 9, stage: 1), of: 0))
    }
    run(&job, prefillShare: 0.5)
    let cancelled = try #require(job.index(.cancelled(0)))
    #expect(job.index(.prefilled(0)) == nil && job.index(.finished(0)) == nil)
    #expect(job.entries[cancelled - 1] == .layer(PrefillLayer(isVisionEncoder: false, layer: 9, stage: 1), of: 0))
    // The image was encoded before, and what was computed in vain changes nothing.
    #expect(job.reports[1]?.tokens == alone(request("What is it?", tokens: 4)))
  }

  @Test func `an image that was given up is encoded for the next request`() throws {
    var job = Log([request("Never mind", tokens: 50), request("What is it?", tokens: 4)])
    job.cancels = { index, entries in
      index == 0 && entries.contains(.layer(PrefillLayer(isVisionEncoder: true, layer: 1, stage: 0), of: 0))
    }
    run(&job, prefillShare: nil)
    #expect(job.index(.cancelled(0)) != nil)
    #expect(job.reports[1]?.tokens == alone(request("What is it?", tokens: 4)))
  }

  @Test func `an answer is given up between two tokens, and its memory is free`() throws {
    var job = Log([request("Never mind", tokens: 1400), request("What is it?", tokens: 4)])
    job.cancels = { index, entries in index == 0 && entries.count { $0 == .text(of: 0) } > 3 }
    run(&job, prefillShare: 0.5)
    #expect(job.entries.count { $0 == .text(of: 0) } < 20 && job.index(.cancelled(0)) != nil)
    #expect(job.reports[1]?.tokens == alone(request("What is it?", tokens: 4)))
  }

  @Test(arguments: [(true, 0), (true, 1), (false, 0), (false, 5), (false, 9), (false, 31)])
  func `no cache keeps what was given up`(isVisionEncoder: Bool, layer: Int) throws {
    let folder = try TemporaryFolder()
    func model(_ caches: Bool) throws -> VisionLanguageModel {
      var options = VisionLanguageModel.Options.int8
      if caches {
        options.featureCache = FeatureCacheOptions(directory: folder.path("features")) { Issue.record("\($0)") }
        options.promptCache = PromptCacheOptions(directory: folder.path("prompts")) { Issue.record("\($0)") }
      }
      return try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"), options: options)
    }
    let question = request("What is it?", tokens: 6)
    var session = try Session(try model(false), question, threads: 2)
    while try session.next() != nil {}

    var job = Log([question, question])
    job.cancels = { index, entries in
      index == 0
        && entries.contains {
          if case .layer(let last, of: 0) = $0 {
            last.isVisionEncoder == isVisionEncoder && last.layer == layer
          } else {
            false
          }
        }
    }
    var options = EngineOptions(threads: 2)
    (options.prefixLimit, options.prefillShare) = (4, 0.5)
    try model(true).answer(&job, options)
    #expect(job.index(.cancelled(0)) != nil && job.reports[1]?.tokens == session.report.tokens)
    // By another process, from the files.
    var again = Log([question])
    try model(true).answer(&again, options)
    #expect(again.reports[0]?.tokens == session.report.tokens)
    #expect(again.reports[0]?.flops.total == session.report.flops.total)
  }

  @Test func `answers between the layers of a prefill change no costs`() throws {
    let requests = [request("What is it?", tokens: 60), request("Which colour?", tokens: 3)]
    var (shared, whole) = (Log(requests), Log(requests))
    run(&shared, prefillShare: 0.5)
    let start = ContinuousClock.now
    run(&whole, prefillShare: nil)
    let wall = (ContinuousClock.now - start).milliseconds
    for index in 0...1 {
      let (a, b) = (try #require(shared.reports[index]), try #require(whole.reports[index]))
      #expect(a.flops.total == b.flops.total && a.cacheLengthsAtEnd == b.cacheLengthsAtEnd)
      #expect(b.timings.prefill <= wall)
    }
  }

  @Test func `the memory of several prefixes includes their images, and is given back`() throws {
    let int8 = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"), options: .int8)
    var prefiller = Prefiller(int8, MemoryPlan(int8, limit: nil, batchSize: 1), threads: 2, prefixLimit: 4)
    let prepared = try PreparedRequest(request("What is it?", tokens: 4), for: int8, threads: 2, images: int8)
    let prefilled = try prefiller.prefill(prepared, next: [])
    let begun = try #require(prefilled)
    prefiller.memory.release(begun.reservedBytes)
    let image = prepared.images[0].byteCount(columns: int8.hiddenSize)
    let key = try #require(PrefixKey(prepared, int8))
    let reserved = prefiller.memory.reservedBytes
    #expect(reserved > image + 4 * key.rowCount * int8.hiddenSize)
    let fits = prefiller.ensureCapacity(for: .max / 4, isAlone: false)
    let rest = prefiller.memory.reservedBytes
    #expect(!fits && rest == 0)
  }

  @Test func `several prefixes are kept, and change no answer`() throws {
    var requests: [Request] = []
    for question in ["What is it?", "Which colour?"] {
      for name in ["rgba_360x360.png", "gray_300x400.png"] {
        var request = request(question, tokens: 4)
        request.images = [.file(Goldens.path("images/" + name))]
        requests.append(request)
      }
    }
    let int8 = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"), options: .int8)
    var options = EngineOptions(threads: 2)
    options.prefixLimit = 4
    var job = Log(requests)
    int8.answer(&job, options)
    for (index, request) in requests.enumerated() {
      var session = try Session(int8, request, threads: 2)
      while try session.next() != nil {}
      #expect(job.reports[index]?.tokens == session.report.tokens)
    }
    #expect(job.statistics.reuse.prefixCacheHits == 2 && job.statistics.reuse.imagesEncoded == 2)
  }

  private func alone(_ request: Request) -> [Int]? {
    var job = Log([request])
    run(&job, prefillShare: nil)
    return job.reports[0]?.tokens
  }
}

extension VisionLanguageModel {
  fileprivate var hiddenSize: Int { llava.configuration.text.hiddenSize }
}

extension VisionLanguageModel.Options {
  fileprivate static var int8: Self {
    var options = Self()
    options.precision = .int8
    return options
  }
}
