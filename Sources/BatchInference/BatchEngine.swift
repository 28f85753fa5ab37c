import Kernels
import LLaVA
import ModelFormats
import PDrop
import Storage

/// Continuous batching: decodes many records together, and starts a new one whenever one ends.
///
/// Images of the next records are read, decoded and preprocessed on a thread of their own. Prompts are prefilled one by
/// one, as the rows of one fill a matmul; then every step decodes one token of each active record, so that weights are
/// read once for all. Results are batch-invariant: they do not depend on the other records.
struct BatchEngine: ~Copyable {
  /// Number of records that are prepared ahead of the model; they are still answered when a run is stopped.
  private static let lookAhead = 4

  private let batchSize: Int
  private let preparation: RequestPreparation
  private var prefiller: Prefiller
  private var pending: [RequestPreparation.Item] = []
  private var active: [ActiveSequence] = []

  init(_ model: VisionLanguageModel, _ options: EngineOptions) {
    batchSize = min(max(options.batchSize, 1), EngineOptions.maxBatchSize)
    let plan = MemoryPlan(model, limit: options.memoryLimit, batchSize: batchSize)
    prefiller = Prefiller(model, plan, threads: options.threads)
    preparation = RequestPreparation(model, plan, threads: options.threads)
  }

  deinit {
    for item in pending { item.abandon() }
  }

  /// Answers records until there are no more.
  mutating func run(_ job: inout BatchJob) throws(BatchError) {
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
  private mutating func prepareMore(_ job: inout BatchJob) throws(BatchError) {
    while pending.count < Self.lookAhead {
      guard case .ready(let question) = try job.take(waits: pending.isEmpty && active.isEmpty) else { return }
      pending.append(preparation.begin(question))
    }
  }

  /// Prefills the prompts of prepared records while memory suffices; waits for one only when nothing is active.
  private mutating func beginReady(_ job: inout BatchJob) throws(BatchError) {
    while active.count < batchSize, let next = pending.first {
      guard let outcome = outcome(of: next) else { return }
      switch outcome.flatMap({ prefiller.checked($0) }) {
      case .success(let request):
        guard prefiller.ensureCapacity(for: request, isAlone: active.isEmpty) else { return }
        pending.removeFirst()
        do {
          let others = pending.compactMap { try? $0.present?.get() }
          active.append(ActiveSequence(next.question, try prefiller.prefill(request, next: others)))
        } catch {
          try job.finish([(next.question, .failure(RecordFailure(error)))])
        }
        job.tally.reuse = prefiller.reuse
      case .failure(let failure):
        pending.removeFirst()
        try job.finish([(next.question, .failure(failure))])
      }
      try finishComplete(&job)
      try prepareMore(&job)
    }
  }

  /// The prepared request of a record; `nil` if it is not ready, or needs memory, while others are active.
  ///
  /// While a large image is decoded, no record is started, so that its memory stays free.
  private mutating func outcome(of item: RequestPreparation.Item) -> RequestPreparation.Outcome? {
    var state = active.isEmpty ? item.wait() : item.state
    while case .needsMemory(let bytes) = state {
      guard prefiller.ensureCapacity(for: bytes, isAlone: active.isEmpty) else { return nil }
      item.grantMemory()
      state = item.wait()
    }
    if case .done(let outcome) = state { return outcome }
    return nil
  }

  /// Decodes one token of every active record.
  private mutating func step() {
    let start = ContinuousClock.now
    let logits = prefiller.generator.decode(active.map(\.lastToken), active.map(\.generation.cache))
    let milliseconds = (ContinuousClock.now - start).milliseconds / Double(active.count)
    let text = prefiller.generator.model.llava.configuration.text
    for row in active.indices {
      active[row].addStep(milliseconds: milliseconds, text)
      active[row].accept(logits.rowValues(row))
    }
  }

  /// Removes the records that are complete and writes their answers.
  private mutating func finishComplete(_ job: inout BatchJob) throws(BatchError) {
    let complete = active.filter(\.isComplete)
    guard !complete.isEmpty else { return }
    active.removeAll(where: \.isComplete)
    for sequence in complete { prefiller.memory.release(sequence.reservedBytes) }
    let peak = Storage.peakResidentBytes()
    try job.finish(complete.map { ($0.question, $0.result(peakResidentBytes: peak)) })
  }
}

extension VisionLanguageModel {
  /// The batch engine of this model.
  package func batchEngine(_ options: EngineOptions) -> Batch.Engine {
    { job in
      var engine = BatchEngine(self, options)
      try engine.run(&job)
    }
  }
}

/// Prefill of the records of a batch: a generator within a memory plan, with a prefix cache.
struct Prefiller: ~Copyable {
  var generator: Generator
  var memory: MemoryAccount
  private(set) var reuse = ReuseStatistics()
  private var prefixCache = PrefixCache()

  init(_ model: VisionLanguageModel, _ plan: MemoryPlan, threads: Int) {
    generator = Generator(model, threads: threads)
    memory = MemoryAccount(plan)
  }

  /// The request, or the failure of one that does not fit into memory even alone.
  func checked(_ request: PreparedRequest) -> RequestPreparation.Outcome {
    memory.plan.memoryError(request).map(Result.failure) ?? .success(request)
  }

  /// Whether memory suffices for a record; frees what can be computed again if it does not.
  ///
  /// - Parameter isAlone: Whether no other record is active; then every record that the plan accepts fits.
  mutating func ensureCapacity(for request: PreparedRequest, isAlone: Bool) -> Bool {
    if memory.fits(request) { return true }
    memory.release(prefixCache.byteCount)
    prefixCache.removeAll()
    if memory.fits(request) { return true }
    guard isAlone else { return false }
    generator.releaseMemory()
    memory = MemoryAccount(memory.plan)
    return true
  }

  /// Whether a number of bytes that the plan accepts is free; frees what can be computed again if it is not.
  mutating func ensureCapacity(for bytes: Int, isAlone: Bool) -> Bool {
    if memory.hasCapacity(for: bytes) { return true }
    memory.release(prefixCache.byteCount)
    prefixCache.removeAll()
    if memory.hasCapacity(for: bytes) { return true }
    guard isAlone else { return false }
    generator.releaseMemory()
    memory = MemoryAccount(memory.plan)
    return true
  }

  /// The prefill of a request and the bytes that are reserved for its KV cache, up to the longest answer.
  typealias Begun = (prefilled: Prefilled, reservedBytes: Int)

  /// Prefills the prompt of a request.
  ///
  /// - Parameter next: The requests that come next, which may share its prefix.
  /// - Throws: `SequenceError` for a token outside the vocabulary.
  mutating func prefill(_ request: PreparedRequest, next: [PreparedRequest]) throws(SequenceError) -> Begun {
    let cached = request.images.compactMap(\.knownFlops)
    reuse.imagesRequested += request.images.count
    reuse.imagesEncoded += request.images.count - cached.count
    reuse.flops += cached.reduce(0) { $0 + $1.total }

    let prompt = try generator.embed(request)
    let reservedBytes = memory.begin(request)
    let prefix = prefixCache.prefix(of: prompt, next: next, memory: &memory, reuse: &reuse, &generator)
    return (generator.prefill(prompt, after: prefix, reservedRows: request.maxNewTokens), reservedBytes)
  }
}

/// A record that is being decoded.
struct ActiveSequence {
  let question: BatchJob.Question
  /// Bytes that are reserved for its KV cache, up to the longest answer.
  let reservedBytes: Int
  private(set) var generation: GenerationState
  /// The reason why decoding cannot continue.
  private var failure: RecordFailure?

  init(_ question: BatchJob.Question, _ begun: Prefiller.Begun) {
    self.question = question
    reservedBytes = begun.reservedBytes
    generation = begun.prefilled.generation
    accept(begun.prefilled.logits)
  }

  var isComplete: Bool { failure != nil || generation.isComplete }

  /// The input of the next decode step.
  ///
  /// - Precondition: The sequence is not complete.
  var lastToken: Int {
    guard let token = generation.lastToken else { preconditionFailure("the prefill's logits give the first token") }
    return token
  }

  /// Samples the next token by the logits after all rows so far.
  mutating func accept(_ logits: [Float]) {
    guard !isComplete else { return }
    do { _ = try generation.accept(logits) } catch { failure = RecordFailure(error) }
  }

  /// Charges a decode step, which has added a row to the cache.
  ///
  /// - Parameter milliseconds: The step's time divided by the number of its sequences.
  mutating func addStep(milliseconds: Double, _ configuration: TextConfiguration) {
    generation.report.flops.decode +=
      2 * decodeMultiplyAdds(rowsPerLayer: generation.cache.lengths, configuration)
    generation.report.flops.head += 2 * headMultiplyAdds(configuration)
    generation.report.timings.decode += milliseconds
  }

  /// The finished report, or the failure.
  func result(peakResidentBytes: Int) -> Result<RunReport, RecordFailure> {
    if let failure { return .failure(failure) }
    var report = generation.report
    report.cacheLengthsAtEnd = generation.cache.lengths
    report.cacheBytes = generation.cache.byteCount
    report.peakResidentBytes = peakResidentBytes
    report.timings.total = report.timings.sumOfPhases
    return .success(report)
  }
}

/// Options of the batch engine: threads, batch size and memory limit.
public struct EngineOptions: Sendable {
  /// Largest batch size, 16; results of more rows would not be batch-invariant.
  public static let maxBatchSize = 16

  /// Number of threads; answers do not depend on it.
  public var threads: Int
  /// Maximum number of records that are decoded together, 1 to `maxBatchSize`; fewer if memory is short. Answers do
  /// not depend on it.
  public var batchSize: Int
  /// Maximum bytes of the process; `nil` for most of the free memory.
  public var memoryLimit: Int?

  public init(threads: Int, batchSize: Int = Self.maxBatchSize) {
    self.threads = threads
    self.batchSize = batchSize
  }
}
