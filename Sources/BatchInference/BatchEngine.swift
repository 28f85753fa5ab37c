import Kernels
import LLaVA
import ModelFormats
package import PDrop
import Storage

/// Continuous batching: decodes many requests together, and starts a new one whenever one ends.
///
/// Images of the next requests are read, decoded and preprocessed on a thread of their own. Prompts are prefilled one by
/// one, as the rows of one fill a matmul; then every step decodes one token of each active request, so that weights are
/// read once for all. Results are batch-invariant: they do not depend on the other requests.
struct BatchEngine: ~Copyable {
  /// Number of requests that are prepared ahead of the model; they are still answered when a run is stopped.
  private static let lookAhead = 4

  private let batchSize: Int
  private let prefillShare: Double?
  private let preparation: RequestPreparation
  private var prefiller: Prefiller
  private var decoding: Decoding
  private var pending: [RequestPreparation.Item] = []

  init(_ model: VisionLanguageModel, _ options: EngineOptions) {
    batchSize = min(max(options.batchSize, 1), EngineOptions.maxBatchSize)
    prefillShare = options.prefillShare
    let plan = MemoryPlan(model, limit: options.memoryLimit, batchSize: options.maxRowCount)
    prefiller = Prefiller(model, plan, threads: options.threads, prefixLimit: options.prefixLimit)
    decoding = Decoding(model, options, batchSize: batchSize)
    preparation = RequestPreparation(model, plan, threads: options.threads)
  }

  deinit {
    for item in pending { item.abandon() }
  }

  /// Answers requests until there are no more.
  mutating func run<Job: EngineJob>(_ job: inout Job) throws(Job.Failure) {
    while true {
      removeCancelled(&job)
      let isAtEnd = try prepareMore(&job)
      try beginReady(&job)
      guard !decoding.isEmpty else {
        if pending.isEmpty, isAtEnd { return }
        continue
      }
      decoding.step(&job)
      try finishComplete(&job)
    }
  }

  /// Takes requests to prepare; waits for one only when there is nothing else to do.
  ///
  /// - Returns: Whether no more will come.
  @discardableResult
  private mutating func prepareMore<Job: EngineJob>(_ job: inout Job) throws(Job.Failure) -> Bool {
    while pending.count < Self.lookAhead {
      switch try job.take(waits: pending.isEmpty && decoding.isEmpty) {
      case .ready(let request): pending.append(preparation.begin(request))
      case .pending: return false
      case .finished: return true
      }
    }
    return false
  }

  /// Prefills the prompts of prepared requests while memory suffices; waits for one only when nothing is active.
  private mutating func beginReady<Job: EngineJob>(_ job: inout Job) throws(Job.Failure) {
    while decoding.count < batchSize, let next = pending.first {
      guard let outcome = outcome(of: next) else { return }
      switch outcome.flatMap({ prefiller.checked($0) }) {
      case .success(let request):
        guard prefiller.ensureCapacity(for: request, isAlone: decoding.isEmpty) else { return }
        pending.removeFirst()
        try begin(next.request, request, &job)
        job.statistics.reuse = prefiller.reuse
      case .failure(let failure):
        pending.removeFirst()
        try job.finish([(next.request, .failure(failure))])
      }
      try finishComplete(&job)
      removeCancelled(&job)
      try prepareMore(&job)
    }
  }

  /// Prefills the prompt of a request, and begins its answers.
  private mutating func begin<Job: EngineJob>(
    _ request: EngineRequest, _ prepared: PreparedRequest, _ job: inout Job
  ) throws(Job.Failure) {
    let others = pending.compactMap { try? $0.present?.get() }
    var pause = PrefillPause<Job>(share: prefillShare.map { $0 + (isBurst ? 0.75 * (1 - $0) : 0) })
    let begun: Prefiller.Begun?
    do {
      begun = try Self.prefill(request, prepared, next: others, &prefiller, &decoding, &job, &pause)
    } catch {
      return try job.finish([(request, .failure(RecordFailure(error)))])
    }
    if let failure = pause.failure { throw failure }
    guard let begun else { return job.didCancel(request) }
    job.didPrefill(
      request,
      FinishedPrefill(
        request: prepared, selected: begun.prefilled.selected, drops: begun.prefilled.drops,
        cachedTokens: begun.cachedTokens))
    decoding.add(ActiveSequence.answers(to: request, prepared, begun), &job)
  }

  /// Whether more requests wait than the one that is about to begin, and the batch has room for them.
  ///
  /// Decode steps of few answers cost almost as much as those of a full batch, so it is filled first.
  private var isBurst: Bool { !pending.isEmpty && decoding.count + 1 < batchSize }

  /// The prefill of a request, between whose layers the answers to others continue; `nil` if it was cancelled.
  private static func prefill<Job: EngineJob>(
    _ request: EngineRequest, _ prepared: PreparedRequest, next: [PreparedRequest], _ prefiller: inout Prefiller,
    _ decoding: inout Decoding, _ job: inout Job, _ pause: inout PrefillPause<Job>
  ) throws(SequenceError) -> Prefiller.Begun? {
    let compute = prefiller.generator.compute
    return try prefiller.prefill(prepared, next: next) {
      job.willRun(PrefillLayer(compute.ledger), of: request)
      pause(&decoding, &job)
      return pause.failure == nil && !job.isCancelled(request)
    }
  }

  /// The prepared request of an item; `nil` if it is not ready, or needs memory, while others are active.
  ///
  /// While a large image is decoded, no request is started, so that its memory stays free; answers continue.
  private mutating func outcome(of item: RequestPreparation.Item) -> RequestPreparation.Outcome? {
    var state = decoding.isEmpty ? item.wait() : item.state
    while case .needsMemory(let bytes) = state {
      guard prefiller.ensureCapacity(for: bytes, isAlone: decoding.isEmpty) else { return nil }
      item.grantMemory()
      state = decoding.isEmpty ? item.wait() : item.state
    }
    if case .done(let outcome) = state { return outcome }
    return nil
  }

  private mutating func removeCancelled(_ job: inout some EngineJob) {
    pending = pending.filter { item in
      guard job.isCancelled(item.request) else { return true }
      item.abandon()
      job.didCancel(item.request)
      return false
    }
    decoding.removeCancelled(&job)
    prefiller.memory.release(decoding.takeFreedBytes())
  }

  /// Removes the requests whose answers are complete.
  private mutating func finishComplete<Job: EngineJob>(_ job: inout Job) throws(Job.Failure) {
    try decoding.finishComplete(&job)
    prefiller.memory.release(decoding.takeFreedBytes())
  }
}

/// Decode steps between the layers of a prefill, so that answers continue while a long prompt is read.
private struct PrefillPause<Job: EngineJob> {
  /// The fraction of the time for the prefill; `nil` for all of it.
  let share: Double?
  /// The error that ends the engine.
  private(set) var failure: Job.Failure?
  private var layerStart = ContinuousClock.now
  /// Time that decode steps are short of their share of all time. Steps count with their usual time, so that answers
  /// keep this share of their token rate.
  private var owed = Duration.zero

  init(share: Double?) { self.share = share }

  /// Decodes until the answers have had their share of the time.
  mutating func callAsFunction(_ decoding: inout Decoding, _ job: inout Job) {
    guard let share else { return }
    owed += (ContinuousClock.now - layerStart) * (1 - share)
    while owed > .zero, failure == nil {
      decoding.removeCancelled(&job)
      guard !decoding.isEmpty else { break }
      let start = ContinuousClock.now
      decoding.step(&job, isDuringPrefill: true)
      let elapsed = ContinuousClock.now - start
      let usual = min(elapsed, decoding.usualStepTime ?? elapsed)
      // The prompt makes progress, however slow the steps are.
      owed -= max(usual - elapsed * (1 - share), elapsed * (share / 4))
      do { try decoding.finishComplete(&job) } catch { failure = error }
    }
    if decoding.isEmpty { owed = .zero }
    layerStart = .now
  }
}

extension PrefillLayer {
  fileprivate init(_ ledger: CostLedger) {
    self.init(isVisionEncoder: ledger.phase == .encode, layer: ledger.layer, stage: ledger.stage)
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

  /// Answers the requests of a job until no more will come.
  ///
  /// - Throws: The error of the job.
  package func answer<Job: EngineJob>(_ job: inout Job, _ options: EngineOptions) throws(Job.Failure) {
    var engine = BatchEngine(self, options)
    try engine.run(&job)
  }
}
