import ImageProcessing
import Kernels
import LLaVA
import ModelFormats
package import PDrop
import Storage
import TokenDropping

/// What a batch may take of memory and what its parts take of that, in bytes.
///
/// Every part is known before it is there: a record is begun when its keys and values, to the longest answer that it may get,
/// fit beside all others'.
struct MemoryPlan: Sendable {
  /// The program, its libraries and their own memory, and an image while it is being decoded.
  static let program = 128 << 20

  /// All that the process may hold.
  let limit: Int
  let weights: Int
  /// For images that may be asked about again.
  let images: Int
  private let model: VisionLanguageModel
  private let batchSize: Int

  /// - Parameter limit: `nil` for most of what is free.
  init(_ model: VisionLanguageModel, limit: Int?, batchSize: Int) {
    self.model = model
    self.batchSize = batchSize
    self.limit = limit ?? SystemMemory().defaultLimit
    weights = model.llava.distinctWeightBytes
    images = max(0, min(256 << 20, (self.limit - weights - Self.program) / 16))
  }

  /// What is there whatever is asked.
  var fixed: Int { weights + Self.program + images }

  /// Working memory for requests as large as these in every way.
  func workingMemory(_ size: PromptSize) -> WorkingMemory {
    WorkingMemory(
      model.llava, rows: size.rows, views: size.views, visualTokens: size.visualTokens, sequences: batchSize)
  }

  /// Keys and values of a record, to its longest answer.
  func cacheBytes(_ request: PreparedRequest) -> Int {
    cacheBytes(request.rowsPerLayer, maxNewTokens: request.maxNewTokens, model.precision.cacheElement)
  }

  private func cacheBytes(_ rowsPerLayer: [Int], maxNewTokens: Int, _ element: ElementType) -> Int {
    KVCache.byteCount(
      rowsPerLayer: rowsPerLayer.map { $0 + maxNewTokens }, model.llava.configuration.text, element: element)
  }

  /// The failure of a record that does not fit even alone, with the remedies that make it fit; `nil` for one that fits.
  func refusal(_ request: PreparedRequest) -> RecordFailure? {
    let (working, cache) = (workingMemory(PromptSize(request)).total, cacheBytes(request))
    let need = fixed + working + cache
    guard need > limit else { return nil }
    var remedies = [Remedy.memoryLimit(gibibytes: GiB.roundedUp(need))]
    let room = limit - fixed - working
    let perToken = cacheBytes(request.rowsPerLayer.map { _ in 0 }, maxNewTokens: 1, model.precision.cacheElement)
    let tokens = request.maxNewTokens - (cache - room + perToken - 1) / perToken
    if tokens > 0 { remedies.append(.maxTokens(tokens)) }
    if model.precision.cacheElement == .f32,
      cacheBytes(request.rowsPerLayer, maxNewTokens: request.maxNewTokens, .bf16) <= room
    {
      remedies.append(.cacheInBF16)
    }
    if let remedy = strongerDropping(request, room: room) { remedies.append(remedy) }
    return RecordFailure(
      .outOfMemory,
      "\(GiB.text(need)) needed, \(GiB.text(limit)) allowed: \(GiB.text(fixed)) for the model and the "
        + "program, \(GiB.text(working)) to compute, \(GiB.text(cache)) for keys and values of "
        + "\(request.report.sequenceLength) tokens and \(request.maxNewTokens) more",
      remedies: remedies)
  }

  /// A policy that drops enough for the record to fit; `nil` when none of those tried does.
  private func strongerDropping(_ request: PreparedRequest, room: Int) -> Remedy? {
    let tried: [(lambda: Double?, policy: PyramidDrop)] = [
      (nil, PyramidDrop()),
      (0.25, PyramidDrop(.geometric(lambda: 0.25))),
    ]
    let (layerCount, counts) = (model.layerCount, request.images.map(\.tokenCount))
    let found = tried.first { _, policy in
      guard let plan = try? DropPlan(policy, layerCount: layerCount, visualTokenCounts: counts) else { return false }
      let rows = plan.rowsPerLayer(
        rowCount: request.report.sequenceLength, visualTokenCount: counts.reduce(0, +), layerCount: layerCount)
      return cacheBytes(rows, maxNewTokens: request.maxNewTokens, model.precision.cacheElement) <= room
    }
    return found.map { .pyramidDrop(lambda: $0.lambda) }
  }
}

/// How large a prompt is, or the largest of several in each way.
struct PromptSize: Sendable, Equatable {
  var rows = 0
  var views = 0
  var visualTokens = 0

  init() {}

  init(_ request: PreparedRequest) {
    rows = request.report.sequenceLength
    views = request.images.map { $0.views?.count ?? 0 }.max() ?? 0
    visualTokens = request.images.reduce(0) { $0 + $1.tokenCount }
  }

  /// At least as large as both in every way.
  func union(_ other: PromptSize) -> PromptSize {
    var union = self
    union.rows = max(rows, other.rows)
    union.views = max(views, other.views)
    union.visualTokens = max(visualTokens, other.visualTokens)
    return union
  }
}

/// Bytes in gibibytes, for people and for `--ram`.
enum GiB {
  /// Such as `1.25 GiB`.
  static func text(_ bytes: Int) -> String { digits((Double(bytes) / Double(1 << 30) * 100).rounded()) + " GiB" }

  /// The least number of two decimals that is no less.
  static func roundedUp(_ bytes: Int) -> String { digits((Double(bytes) / Double(1 << 30) * 100).rounded(.up)) }

  private static func digits(_ hundredths: Double) -> String {
    let hundredths = Int(hundredths)
    let rest = hundredths % 100
    return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest)"
  }
}

/// The memory that the records of a batch hold, kept within a plan.
struct MemoryAccount {
  let plan: MemoryPlan
  /// The largest requests so far, whose working memory is kept for those to come.
  private var largest = PromptSize()
  /// Keys and values of records that are active, and of shared prompts.
  private(set) var held = 0

  init(_ plan: MemoryPlan) { self.plan = plan }

  /// Whether a record fits beside what is held.
  func fits(_ request: PreparedRequest) -> Bool {
    let working = plan.workingMemory(largest.union(PromptSize(request))).total
    return plan.fixed + working + held + plan.cacheBytes(request) <= plan.limit
  }

  /// Whether so many bytes fit beside what is held.
  func hasCapacity(for bytes: Int) -> Bool {
    plan.fixed + plan.workingMemory(largest).total + held + bytes <= plan.limit
  }

  /// Books a record that is begun; returns what it holds until `release`.
  mutating func begin(_ request: PreparedRequest) -> Int {
    largest = largest.union(PromptSize(request))
    let bytes = plan.cacheBytes(request)
    reserve(bytes)
    return bytes
  }

  mutating func reserve(_ bytes: Int) { held += bytes }
  mutating func release(_ bytes: Int) { held -= bytes }
}

/// What a batch takes of memory and time, found on its first record that can be answered.
package struct BatchEstimate: Sendable {
  /// Layers that hold the same number of positions.
  package struct Stage: Sendable, Equatable {
    package var layers: ClosedRange<Int>
    /// After the prompt.
    package var positions: Int
    /// Keys and values of these layers, to the longest answer.
    package var bytes: Int
  }

  package var limitBytes: Int
  package var weightBytes: Int
  package var programBytes: Int
  /// Images that are kept to be asked about again, if each record has others.
  package var imageBytes: Int
  package var workingBytes: Int
  package var stages: [Stage] = []
  package var promptTokens: Int
  package var maxNewTokens: Int
  package var recordsAtATime: Int
  /// For images, the prompt, and a step of so many records, measured.
  package var imageSeconds = 0.0
  package var prefillSeconds = 0.0
  package var stepSeconds = 0.0

  /// Keys and values of a record.
  package var cacheBytes: Int { stages.reduce(0) { $0 + $1.bytes } }

  package var peakBytes: Int {
    weightBytes + programBytes + imageBytes + workingBytes + recordsAtATime * cacheBytes
  }

  /// When every answer is as long as it may be.
  package var secondsPerRecord: Double {
    imageSeconds + prefillSeconds + Double(max(0, maxNewTokens - 1)) * stepSeconds / Double(max(1, recordsAtATime))
  }
}

extension VisionLanguageModel {
  /// Plans a batch of records like the first of these that can be answered, and measures one of them.
  ///
  /// - Parameters:
  ///   - recordCount: How many records there are.
  ///   - measures: Whether times are measured; else they are zero.
  /// - Returns: `nil` when none can be answered.
  /// - Throws: `RecordFailure` when the record does not fit into memory.
  package func estimate(
    _ requests: [Request], recordCount: Int, _ options: EngineOptions, measures: Bool = true
  ) throws -> BatchEstimate? {
    let plan = MemoryPlan(self, limit: options.memoryLimit, batchSize: options.batchSize)
    let images = ImageCache(self, capacity: plan.images)
    let prepared = requests.lazy.compactMap {
      try? PreparedRequest($0, for: self, threads: options.threads, images: images)
    }.first
    guard let prepared else { return nil }
    if let refusal = plan.refusal(prepared) { throw refusal }
    let working = plan.workingMemory(PromptSize(prepared)).total
    let cacheBytes = plan.cacheBytes(prepared)
    let imageBytes = prepared.images.reduce(0) { $0 + $1.byteCount(columns: llava.configuration.text.hiddenSize) }
    let (kept, overflows) = imageBytes.multipliedReportingOverflow(by: recordCount)
    var estimate = BatchEstimate(
      limitBytes: plan.limit, weightBytes: plan.weights, programBytes: MemoryPlan.program,
      imageBytes: overflows ? plan.images : min(kept, plan.images), workingBytes: working,
      promptTokens: prepared.report.sequenceLength, maxNewTokens: prepared.maxNewTokens,
      recordsAtATime: min(options.batchSize, (plan.limit - plan.fixed - working) / cacheBytes))
    estimate.stages = stages(prepared)
    if measures { try measure(prepared, &estimate, plan, threads: options.threads) }
    return estimate
  }

  private func stages(_ prepared: PreparedRequest) -> [BatchEstimate.Stage] {
    var stages: [BatchEstimate.Stage] = []
    for (layer, positions) in prepared.rowsPerLayer.enumerated() {
      let bytes = KVCache.byteCount(
        rowsPerLayer: [positions + prepared.maxNewTokens], llava.configuration.text, element: precision.cacheElement)
      if let last = stages.last, last.positions == positions {
        stages[stages.count - 1].layers = last.layers.lowerBound...layer + 1
        stages[stages.count - 1].bytes += bytes
      } else {
        stages.append(.init(layers: layer + 1...layer + 1, positions: positions, bytes: bytes))
      }
    }
    return stages
  }

  /// Prefills the prompt twice, as the first time loads weights from disk, and decodes copies of it together.
  private func measure(
    _ prepared: PreparedRequest, _ estimate: inout BatchEstimate, _ plan: MemoryPlan, threads: Int
  ) throws {
    let steps = 3
    var prefiller = Prefiller(self, plan, threads: threads)
    let first = try prefiller.prefill(prepared, next: []).prefilled.generation.report.milliseconds
    estimate.imageSeconds = (first.decodeImage + first.preprocess + first.encode + first.project) / 1e3
    let second = try prefiller.prefill(prepared, next: []).prefilled.generation
    estimate.prefillSeconds = (second.report.milliseconds.prefill + second.report.milliseconds.rank) / 1e3

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
