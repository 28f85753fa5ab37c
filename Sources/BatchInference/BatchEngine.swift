import Kernels
import LLaVA
import ModelFormats
import PDrop
import Storage

/// Answers many records at a time.
///
/// Images of the next records are read, decoded and cut into views on a thread of its own. Prompts are read one by one, as
/// their rows fill the products by themselves; then all answers grow together, a token of each in a step, so that weights are
/// read once for all. A record that ends makes room for the next at once. What a record is answered does not depend on which
/// others there are.
struct BatchEngine: ~Copyable {
  /// How many records are prepared ahead of the model; when a run is stopped they are answered still.
  private static let lookAhead = 4

  private let model: VisionLanguageModel
  private let batchSize: Int
  private let compute: ComputeContext
  private let preparation: RequestPreparation
  private var reader: Prefiller
  private var pending: [RequestPreparation.Item] = []
  private var active: [ActiveSequence] = []

  init(_ model: VisionLanguageModel, _ options: EngineOptions) {
    self.model = model
    batchSize = min(max(options.batchSize, 1), EngineOptions.largestBatchSize)
    compute = ComputeContext(workers: Workers(count: options.threads))
    let plan = MemoryPlan(model, limit: options.memoryLimit, batchSize: batchSize)
    reader = Prefiller(model, plan)
    let images = ImageCache(model, capacity: plan.images)
    preparation = RequestPreparation { [threads = options.threads] request in
      try PreparedRequest(request, for: model, threads: threads) { image, timings in
        try images.image(image, appliesOrientation: request.appliesOrientation, &timings)
      }
    }
  }

  /// Answers records until there are no more.
  mutating func run(_ job: inout BatchJob) throws {
    while true {
      try prepareMore(&job)
      try beginReady(&job)
      guard !active.isEmpty else {
        if pending.isEmpty { return }
        continue
      }
      step()
      try finishComplete(&job)
    }
  }

  /// Takes records to prepare; waits for one only when there is nothing else to do.
  private mutating func prepareMore(_ job: inout BatchJob) throws {
    while pending.count < Self.lookAhead {
      guard case .value(let question) = try job.take(waits: pending.isEmpty && active.isEmpty) else { return }
      pending.append(preparation.begin(question))
    }
  }

  /// Reads the prompts of records that are prepared, as long as there is room; waits for one only when nothing is active.
  private mutating func beginReady(_ job: inout BatchJob) throws {
    while active.count < batchSize, let next = pending.first {
      guard let outcome = active.isEmpty ? next.wait() : next.present else { return }
      switch outcome.flatMap({ refusing($0) }) {
      case .success(let request):
        guard reader.ensureCapacity(for: request, isAlone: active.isEmpty) else { return }
        pending.removeFirst()
        do { active.append(try read(request, for: next.question)) } catch {
          try job.finish([(next.question, .failure(RecordFailure(error)))])
        }
        job.tally.sharing = reader.sharing
      case .failure(let failure):
        pending.removeFirst()
        try job.finish([(next.question, .failure(failure))])
      }
      try finishComplete(&job)
      try prepareMore(&job)
    }
  }

  /// A request that fits into memory, at least alone.
  private func refusing(_ request: PreparedRequest) -> RequestPreparation.Outcome {
    reader.memory.plan.refusal(request).map(Result.failure) ?? .success(request)
  }

  private mutating func read(_ request: PreparedRequest, for question: BatchJob.Question) throws -> ActiveSequence {
    try reader.read(
      request, for: question, before: { [pending] in pending.compactMap { try? $0.present?.get() } }, on: compute)
  }

  /// Adds a token to every active answer.
  private mutating func step() {
    let start = ContinuousClock.now
    let languageModel = model.llava.languageModel
    languageModel.embed(active.map(\.nextInput), into: &reader.state.hidden)
    languageModel.decode(&reader.state, active.map(\.cache), on: compute)
    let logits = languageModel.logits(reader.state.hidden, on: compute)
    let milliseconds = (ContinuousClock.now - start).milliseconds / Double(active.count)
    for row in active.indices {
      active[row].addStep(milliseconds: milliseconds, model.llava.configuration.text)
      active[row].grow(by: logits.rowValues(row))
    }
  }

  /// Gives out the answers that are complete, which makes room for others.
  private mutating func finishComplete(_ job: inout BatchJob) throws {
    let complete = active.filter(\.isComplete)
    guard !complete.isEmpty else { return }
    active.removeAll(where: \.isComplete)
    for answer in complete { reader.release(answer) }
    let peak = Storage.peakResidentBytes()
    try job.finish(complete.map { ($0.question, $0.outcome(peakResidentBytes: peak)) })
  }
}

extension VisionLanguageModel {
  /// The engine that answers many records at a time.
  package func batchEngine(_ options: EngineOptions) -> Batch.Engine {
    { job in
      var engine = BatchEngine(self, options)
      try engine.run(&job)
    }
  }
}

/// A record whose prompt the model has read, while its answer grows.
struct ActiveSequence {
  let question: BatchJob.Question
  /// Keys and values.
  let cache: KVCache
  /// What is reserved for them, to the longest answer.
  let reservedBytes: Int
  private var answer: GenerationState
  /// What the decoding steps cost, and the record's share of the time that they took.
  private var flops = RunReport.Flops()
  private var milliseconds = 0.0
  /// Why it cannot go on.
  private var failure: RecordFailure?

  init(_ question: BatchJob.Question, _ answer: GenerationState, _ cache: KVCache, reservedBytes: Int) {
    self.question = question
    self.answer = answer
    self.cache = cache
    self.reservedBytes = reservedBytes
  }

  var isComplete: Bool { failure != nil || answer.isComplete }

  /// The token that the model reads next.
  ///
  /// - Precondition: The answer is not complete.
  var nextInput: Int {
    guard let token = answer.lastToken else { preconditionFailure("an answer begins with the prompt's logits") }
    return token
  }

  /// Takes the logits after everything so far.
  mutating func grow(by logits: [Float]) {
    guard !isComplete else { return }
    do { _ = try answer.grow(by: logits) } catch { failure = RecordFailure(error) }
  }

  /// Books a decoding step, which has added a row to the cache.
  ///
  /// - Parameter milliseconds: The record's share of the time.
  mutating func addStep(milliseconds: Double, _ configuration: TextConfiguration) {
    flops.decode += 2 * decodeMultiplyAdds(rowsPerLayer: cache.lengths, configuration)
    flops.head += 2 * headMultiplyAdds(configuration)
    self.milliseconds += milliseconds
  }

  /// What there is to be written.
  func outcome(peakResidentBytes: Int) -> Result<RunReport, RecordFailure> {
    if let failure { return .failure(failure) }
    var report = answer.record
    report.cacheLengthsAtEnd = cache.lengths
    report.cacheBytes = cache.byteCount
    report.peakResidentBytes = peakResidentBytes
    report.flops += flops
    report.milliseconds.decode += milliseconds
    report.milliseconds.total = report.milliseconds.sumOfPhases
    return .success(report)
  }
}

/// How a batch is answered.
package struct EngineOptions: Sendable {
  /// Most records that are decoded together: beyond it a row's bits would depend on how many rows there are.
  package static let largestBatchSize = 16

  package var threads: Int
  /// How many records are decoded together at most, 1 to `largestBatchSize`; fewer where memory is short.
  package var batchSize: Int
  /// Bytes that the process may hold in all; `nil` for most of what is free.
  package var memoryLimit: Int?

  package init(threads: Int, batchSize: Int = Self.largestBatchSize) {
    self.threads = threads
    self.batchSize = batchSize
  }
}
