import ImageProcessing
import Kernels
import LLaVA
import ModelFormats
package import PDrop
import Storage
import TokenDropping

/// The memory limit of a batch and the bytes of its parts.
///
/// All sizes are known in advance: a record is started when its KV cache, up to the longest answer, fits next to those
/// of the active records.
struct MemoryPlan: Sendable {
  /// Bytes of the program, its libraries and their own memory, and of a small image during decoding.
  static let program = 128 << 20
  /// The part of `program` for decoding an image. A larger image is decoded when its additional bytes are free.
  static let smallImage = 64 << 20

  /// Maximum bytes of the process.
  let limit: Int
  /// Bytes of the weights.
  let weights: Int
  /// Bytes of the image cache.
  let images: Int
  private let model: VisionLanguageModel
  private let batchSize: Int

  /// - Parameter limit: Maximum bytes of the process; `nil` for most of the free memory.
  init(_ model: VisionLanguageModel, limit: Int?, batchSize: Int) {
    self.model = model
    self.batchSize = batchSize
    weights = model.llava.distinctWeightBytes
    // The addresses of weights and program are in use already.
    let addresses = AddressSpace.available.map { $0 + model.llava.distinctWeightBytes + Self.program }
    self.limit = limit ?? min(SystemMemory().defaultLimit, addresses ?? .max)
    images = max(0, min(256 << 20, (self.limit - weights - Self.program) / 16))
  }

  /// Bytes that do not depend on the requests.
  var fixed: Int { weights + Self.program + images }

  /// Maximum bytes for decoding an image while no record is active.
  var decodingLimit: Int { Self.smallImage + max(0, limit - fixed) }

  /// Bytes for decoding an image that `program` does not include.
  static func additionalBytes(decoding bytes: Int) -> Int { max(0, bytes - smallImage) }

  /// The failure of a record that could not be prepared.
  func preparationError(_ error: any Error) -> RecordFailure {
    let failure = RecordFailure(error)
    guard case RequestError.image(.tooMuchMemory(_, _, _, let byteCount, let limit)) = error, limit == decodingLimit,
      // No memory helps an image above the limit of the decoder.
      byteCount <= ImageDecoder().memoryLimit
    else { return failure }
    // A larger limit also enlarges the image cache, which gets one part of 16.
    let need = weights + Self.program + Self.additionalBytes(decoding: byteCount) / 15 * 16 + 16
    return RecordFailure(
      .outOfMemory, failure.problem, remedies: [.memoryLimit(gibibytes: GiB.roundedUp(need))])
  }

  /// Working memory for requests up to the given size.
  func workingMemory(_ size: PromptSize) -> WorkingMemory {
    WorkingMemory(
      model.llava, rows: size.rows, views: size.views, visualTokens: size.visualTokens, sequences: batchSize,
      selection: size.selectionBytes)
  }

  /// Bytes of a record's KV caches, one per answer, up to the longest answer.
  func cacheBytes(_ request: PreparedRequest) -> Int { cacheBytes(request, request.rowsPerLayer) }

  /// Bytes of the KV caches with other rows after the prompt, or of another type, than those of the plan.
  private func cacheBytes(_ request: PreparedRequest, _ rowsPerLayer: [Int], _ type: CacheType? = nil) -> Int {
    request.request.options.answerCount
      * KVCache.byteCount(
        rowsPerLayer: rowsPerLayer.map { $0 + request.maxNewTokens }, model.llava.configuration.text,
        type: type ?? model.precision.cacheType)
  }

  /// The failure of a record that does not fit even alone, with the remedies that make it fit; `nil` for one that fits.
  func memoryError(_ request: PreparedRequest) -> RecordFailure? {
    let (working, cache) = (workingMemory(PromptSize(request)).total, cacheBytes(request))
    let need = fixed + working + cache
    guard need > limit else { return nil }
    var remedies = [Remedy.memoryLimit(gibibytes: GiB.roundedUp(need))]
    let available = limit - fixed - working
    let perToken =
      request.request.options.answerCount
      * KVCache.byteCount(
        rowsPerLayer: request.rowsPerLayer.map { _ in 1 }, model.llava.configuration.text,
        type: model.precision.cacheType)
    let tokens = request.maxNewTokens - (cache - available + perToken - 1) / perToken
    if tokens > 0 { remedies.append(.maxTokens(tokens)) }
    let smaller = [CacheType.bf16, .int8].first {
      let bytes = cacheBytes(request, request.rowsPerLayer, $0)
      return bytes < cache && bytes <= available
    }
    if let smaller { remedies.append(.cacheType(smaller.rawValue)) }
    if let remedy = strongerDropping(request, available: available) { remedies.append(remedy) }
    return RecordFailure(
      .outOfMemory,
      "\(GiB.text(need)) needed, \(GiB.text(limit)) allowed: \(GiB.text(fixed)) for the model and the "
        + "program, \(GiB.text(working)) of working memory, \(GiB.text(cache)) for the KV cache of "
        + "\(request.report.sequenceLength) tokens and \(request.maxNewTokens) new ones",
      remedies: remedies)
  }

  /// A policy that drops enough for the record to fit; `nil` when none of those tried does.
  private func strongerDropping(_ request: PreparedRequest, available: Int) -> Remedy? {
    let tried: [(lambda: Double?, policy: PyramidDrop)] = [
      (nil, PyramidDrop()),
      (0.25, PyramidDrop(.geometric(lambda: 0.25))),
    ]
    let (layerCount, counts) = (model.layerCount, request.visualTokenCounts)
    let found = tried.first { _, policy in
      guard let plan = try? DropPlan(policy, layerCount: layerCount, visualTokenCounts: counts) else { return false }
      let rows = plan.rowsPerLayer(
        rowCount: request.report.sequenceLength, visualTokenCount: counts.reduce(0, +), layerCount: layerCount)
      return cacheBytes(request, rows) <= available
    }
    return found.map { .pyramidDrop(lambda: $0.lambda) }
  }
}

/// The size of a prompt, or the maximum of several in each dimension.
struct PromptSize: Sendable, Equatable {
  var rows = 0
  var views = 0
  var visualTokens = 0
  var selectionBytes = 0

  init() {}

  init(_ request: PreparedRequest) {
    rows = request.report.sequenceLength
    views = request.images.map { $0.views?.count ?? 0 }.max() ?? 0
    visualTokens = request.images.reduce(0) { $0 + $1.tokenCount }
    selectionBytes = request.selectionByteCount
  }

  /// The maximum of both in each dimension.
  func union(_ other: PromptSize) -> PromptSize {
    var union = self
    union.rows = max(rows, other.rows)
    union.views = max(views, other.views)
    union.visualTokens = max(visualTokens, other.visualTokens)
    union.selectionBytes = max(selectionBytes, other.selectionBytes)
    return union
  }
}

/// Gibibytes as text, for messages and `--ram`.
enum GiB {
  /// The nearest number of two decimals, such as `1.25 GiB`.
  static func text(_ bytes: Int) -> String { digits((Double(bytes) / Double(1 << 30) * 100).rounded()) + " GiB" }

  /// The number rounded up to two decimals, such as `1.25`.
  static func roundedUp(_ bytes: Int) -> String { digits((Double(bytes) / Double(1 << 30) * 100).rounded(.up)) }

  private static func digits(_ hundredths: Double) -> String {
    let hundredths = Int(hundredths)
    let rest = hundredths % 100
    return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest)"
  }
}

/// The memory in use by the records of a batch, kept within a plan.
struct MemoryAccount {
  let plan: MemoryPlan
  /// Maximum size of the requests so far, whose working memory is reused.
  private var largest = PromptSize()
  /// Bytes of the KV caches of active records and of the prefix cache.
  private(set) var reservedBytes = 0

  init(_ plan: MemoryPlan) { self.plan = plan }

  /// Whether a record and a number of other bytes fit next to the reserved bytes.
  func fits(_ request: PreparedRequest, and bytes: Int = 0) -> Bool {
    let working = plan.workingMemory(largest.union(PromptSize(request))).total
    return plan.fixed + working + reservedBytes + plan.cacheBytes(request) + bytes <= plan.limit
  }

  /// Whether a number of bytes fits next to the reserved ones.
  func hasCapacity(for bytes: Int) -> Bool {
    plan.fixed + plan.workingMemory(largest).total + reservedBytes + bytes <= plan.limit
  }

  /// Reserves the KV cache of a record that is started, and returns its bytes for `release`.
  mutating func begin(_ request: PreparedRequest) -> Int {
    largest = largest.union(PromptSize(request))
    let bytes = plan.cacheBytes(request)
    reserve(bytes)
    return bytes
  }

  mutating func reserve(_ bytes: Int) { reservedBytes += bytes }
  mutating func release(_ bytes: Int) { reservedBytes -= bytes }
}

/// Memory and time of a batch, estimated from its first valid record.
package struct BatchEstimate: Sendable {
  /// Consecutive layers with the same number of cached positions.
  package struct Stage: Sendable, Equatable {
    /// Numbers of the layers, from 1.
    package var layers: ClosedRange<Int>
    /// Cached positions after the prompt.
    package var positions: Int
    /// Bytes of the KV cache of these layers, up to the longest answer.
    package var bytes: Int
  }

  package var limitBytes: Int
  package var weightBytes: Int
  package var programBytes: Int
  /// Bytes of the image cache, if each record has other images.
  package var imageBytes: Int
  package var workingBytes: Int
  package var stages: [Stage] = []
  package var promptTokens: Int
  package var maxNewTokens: Int
  package var recordsAtATime: Int
  /// Measured time of preprocessing and encoding the images of a record.
  package var imageSeconds = 0.0
  /// Measured time of prefilling a record.
  package var prefillSeconds = 0.0
  /// Measured time of a decode step of `recordsAtATime` records.
  package var stepSeconds = 0.0

  /// Bytes of a record's KV cache.
  package var cacheBytes: Int { stages.reduce(0) { $0 + $1.bytes } }

  package var peakBytes: Int {
    weightBytes + programBytes + imageBytes + workingBytes + recordsAtATime * cacheBytes
  }

  /// Time per record, if every answer has the maximum length.
  package var secondsPerRecord: Double {
    imageSeconds + prefillSeconds + Double(max(0, maxNewTokens - 1)) * stepSeconds / Double(max(1, recordsAtATime))
  }
}

extension VisionLanguageModel {
  /// An estimate for a batch of records like the first valid one of these, which is measured.
  ///
  /// - Parameters:
  ///   - recordCount: Number of records in the batch.
  ///   - measures: Whether times are measured; otherwise they are zero.
  /// - Returns: `nil` if no record is valid.
  /// - Throws: `RecordFailure` when the record does not fit into memory.
  package func estimate(
    _ requests: [Request], recordCount: Int, _ options: EngineOptions, measures: Bool = true
  ) throws -> BatchEstimate? {
    let plan = MemoryPlan(self, limit: options.memoryLimit, batchSize: options.maxRowCount)
    let images = ImageCache(self, plan)
    let prepared = requests.lazy.compactMap {
      try? PreparedRequest($0, for: self, threads: options.threads, images: images)
    }.first
    guard let prepared else { return nil }
    if let memoryError = plan.memoryError(prepared) { throw memoryError }
    let working = plan.workingMemory(PromptSize(prepared)).total
    let cacheBytes = plan.cacheBytes(prepared)
    let imageBytes = prepared.images.reduce(0) { $0 + $1.byteCount(columns: llava.configuration.text.hiddenSize) }
    let (kept, overflows) = imageBytes.multipliedReportingOverflow(by: recordCount)
    var estimate = BatchEstimate(
      limitBytes: plan.limit, weightBytes: plan.weights,
      programBytes: MemoryPlan.program,
      imageBytes: overflows ? plan.images : min(kept, plan.images), workingBytes: working,
      promptTokens: prepared.report.sequenceLength, maxNewTokens: prepared.maxNewTokens,
      recordsAtATime: min(options.batchSize, (plan.limit - plan.fixed - working) / cacheBytes))
    estimate.stages = stages(prepared)
    // A large image waits until its bytes are free, so that the sum keeps the limit.
    let decoding = MemoryPlan.additionalBytes(decoding: images.largestDecoding)
    estimate.programBytes += min(decoding, max(0, plan.limit - estimate.peakBytes))
    if measures { try measure(prepared, &estimate, plan, threads: options.threads) }
    return estimate
  }

  private func stages(_ prepared: PreparedRequest) -> [BatchEstimate.Stage] {
    var stages: [BatchEstimate.Stage] = []
    for (layer, positions) in prepared.rowsPerLayer.enumerated() {
      let bytes = KVCache.byteCount(
        rowsPerLayer: [positions + prepared.maxNewTokens], llava.configuration.text, type: precision.cacheType)
      if let last = stages.last, last.positions == positions {
        stages[stages.count - 1].layers = last.layers.lowerBound...layer + 1
        stages[stages.count - 1].bytes += bytes
      } else {
        stages.append(.init(layers: layer + 1...layer + 1, positions: positions, bytes: bytes))
      }
    }
    return stages
  }

  /// Measures two prefills of the prompt, as the first one loads weights from disk, and decode steps of copies of it.
  private func measure(
    _ prepared: PreparedRequest, _ estimate: inout BatchEstimate, _ plan: MemoryPlan, threads: Int
  ) throws {
    let steps = 3
    var prefiller = Prefiller(self, plan, threads: threads)
    func generation() throws -> GenerationState {
      guard let begun = try prefiller.prefill(prepared, next: []) else { preconditionFailure("nothing cancels it") }
      return begun.prefilled.generation
    }
    let first = try generation().report.timings
    estimate.imageSeconds = (first.decodeImage + first.preprocess + first.encode + first.project) / 1e3
    let second = try generation()
    estimate.prefillSeconds = (second.report.timings.prefill + second.report.timings.rank) / 1e3

    let rows = estimate.promptTokens + steps + 1
    let caches = (0..<estimate.recordsAtATime).map { _ in second.cache.copy(rows: rows) }
    let tokens = Array(repeating: 0, count: caches.count)
    var start = ContinuousClock.now
    for step in 0...steps {
      if step == 1 { start = ContinuousClock.now }
      _ = prefiller.generator.decode(tokens, caches)
    }
    estimate.stepSeconds = (ContinuousClock.now - start).milliseconds / 1e3 / Double(steps)
  }
}
