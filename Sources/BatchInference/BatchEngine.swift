import Kernels
import LLaVA
import ModelFormats
public import PDrop
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
  private var drafter: Drafter

  init(_ model: VisionLanguageModel, _ options: EngineOptions) {
    batchSize = min(max(options.batchSize, 1), EngineOptions.maxBatchSize)
    drafter = Drafter(options.speculation)
    let plan = MemoryPlan(model, limit: options.memoryLimit, batchSize: options.maxRowCount)
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
          let begun = try prefiller.prefill(request, next: others)
          active += ActiveSequence.answers(to: next.question, request, begun)
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

  /// Decodes one token of every active answer.
  private mutating func step() {
    let text = prefiller.generator.model.llava.configuration.text
    // A record may have more answers than the batch size.
    for first in stride(from: 0, to: active.count, by: batchSize) {
      let rows = first..<min(first + batchSize, active.count)
      // Of a record's answers, some may be complete.
      let rest = rows.filter { !active[$0].isComplete }
      guard !rest.isEmpty else { continue }
      let drafts = drafter.drafts(
        for: rest.map { (active[$0].text, active[$0].generation.draftLimit) }, rowLimit: EngineOptions.maxBatchSize)
      var (tokens, caches): ([Int], [KVCache]) = ([], [])
      for (index, draft) in zip(rest, drafts) {
        tokens += [active[index].lastToken] + draft.tokens
        caches += Array(repeating: active[index].generation.cache, count: 1 + draft.tokens.count)
      }
      let start = ContinuousClock.now
      let logits = prefiller.generator.decode(tokens, caches)
      let milliseconds = (ContinuousClock.now - start).milliseconds
      drafter.record(rows: tokens.count, milliseconds: milliseconds)
      var row = 0
      for (index, draft) in zip(rest, drafts) {
        let first = row
        row += 1 + draft.tokens.count
        let accepted = active[index].accept(draft.tokens) { logits.rowValues(first + $0) }
        active[index].addSteps(1 + accepted, milliseconds: milliseconds / Double(rest.count), text)
        drafter.record(draft, accepted: accepted)
        if active[index].isComplete { drafter.add(answer: active[index].generation.report.tokens) }
      }
    }
  }

  /// Removes the records whose answers are complete and writes them.
  private mutating func finishComplete(_ job: inout BatchJob) throws(BatchError) {
    let unfinished = Set(active.filter { !$0.isComplete }.map(\.question.index))
    let complete = active.filter { !unfinished.contains($0.question.index) }
    guard !complete.isEmpty else { return }
    active.removeAll { !unfinished.contains($0.question.index) }
    for sequence in complete { prefiller.memory.release(sequence.reservedBytes) }
    job.tally.speculation = drafter.statistics
    let peak = Storage.peakResidentBytes()
    // The answers to a record follow each other.
    var results: [(question: BatchJob.Question, result: Result<RunReport, RecordFailure>)] = []
    for sequence in complete {
      let result = sequence.result(peakResidentBytes: peak)
      if let last = results.last, last.question.index == sequence.question.index {
        results[results.count - 1].result = last.result.flatMap { report in
          result.map { other in
            var report = report
            report.add(other)
            return report
          }
        }
      } else {
        results.append((sequence.question, result))
      }
    }
    try job.finish(results.map { ($0.question, $0.result) })
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
    reuse.imagesRequested += request.images.count
    let savedPrompt = generator.begin(
      request, usesPromptCache: readsPromptCache(request), reservedRows: request.maxNewTokens)
    if let savedPrompt {
      reuse.flops += savedPrompt.generation.report.flops.total
      return (savedPrompt, memory.begin(request))
    }

    let cached = request.images.map(\.knownFlops)
    let key = PrefixKey(request, generator.model)
    let last = prefixCache.key
    var prefix: CachedPrefix?
    if let key { prefix = prefixCache.prefix(key, of: request, memory: &memory, &generator) }
    if prefix == nil { reuse.imagesEncoded += cached.count { $0 == nil } }
    let prompt = try generator.embed(request, after: prefix)
    let reservedBytes = memory.begin(request)
    reuse.flops += cached.reduce(0) { $0 + ($1?.total ?? 0) }
    if let prefix {
      if prefix.key == last { reuse.prefixCacheHits += 1 }
      reuse.flops += 2 * prefix.entry.multiplyAdds
      for (index, image) in request.images.enumerated() where cached[index] == nil {
        reuse.flops += image.charged(prefix.imageFlops[index]).total
      }
    } else if let key {
      prefix = prefixCache.computed(key, of: request, next: next, memory: &memory, &generator)
    }
    return (generator.prefill(prompt, after: prefix, reservedRows: request.maxNewTokens), reservedBytes)
  }

  /// Whether memory suffices for a file of the prompt cache next to the record's KV cache.
  private func readsPromptCache(_ request: PreparedRequest) -> Bool {
    guard let cache = generator.model.promptCache(for: request) else { return false }
    return memory.fits(request, and: cache.byteCount(request, generator.model))
  }
}

/// An answer to a record that is being decoded.
struct ActiveSequence {
  let question: BatchJob.Question
  /// Bytes that are reserved for its KV cache, up to its maximum length.
  let reservedBytes: Int
  private(set) var generation: GenerationState
  /// Prompt and answer, for drafts.
  private(set) var text: NGramText
  /// The reason why decoding cannot continue.
  private var failure: RecordFailure?

  private init(_ question: BatchJob.Question, _ generation: GenerationState, reservedBytes: Int, _ logits: [Float]) {
    self.question = question
    self.reservedBytes = reservedBytes
    self.generation = generation
    text = NGramText(generation.report.promptTokens)
    _ = accept([]) { _ in logits }
  }

  /// All answers to a record, after their first token.
  static func answers(
    to question: BatchJob.Question, _ request: PreparedRequest, _ begun: Prefiller.Begun
  ) -> [ActiveSequence] {
    let (first, count) = (begun.prefilled.generation, request.request.options.answerCount)
    let rows = (first.cache.lengths.max() ?? 0) + request.maxNewTokens
    return (0..<count).map { index in
      var generation = first
      if index > 0 {
        generation = first.another(index, first.cache.copy(rows: rows))
        // The first answer has the costs of the prompt.
        (generation.report.flops, generation.report.timings) = (RunReport.Flops(), RunReport.Timings())
      }
      let reservedBytes = begun.reservedBytes / count + (index == 0 ? begun.reservedBytes % count : 0)
      return ActiveSequence(question, generation, reservedBytes: reservedBytes, begun.prefilled.logits)
    }
  }

  var isComplete: Bool { failure != nil || generation.isComplete }

  /// The input of the next decode step.
  ///
  /// - Precondition: The sequence is not complete.
  var lastToken: Int {
    guard let token = generation.lastToken else { preconditionFailure("the prefill's logits give the first token") }
    return token
  }

  /// Chooses the next tokens by the logits after the last token and after each drafted one.
  ///
  /// - Returns: The number of drafted tokens that were chosen.
  mutating func accept(_ draft: ArraySlice<Int>, logits: (Int) -> [Float]) -> Int {
    guard !isComplete else { return 0 }
    let count = generation.report.tokens.count
    do {
      let accepted = try generation.accept(draft: draft, logits: logits).accepted
      for token in generation.report.tokens[count...] { text.append(token) }
      return accepted
    } catch {
      failure = RecordFailure(error)
      return 0
    }
  }

  /// Charges decode steps, each of which has added a row to the cache; rejected drafts are not charged.
  ///
  /// - Parameter milliseconds: The time of the step with all its rows, divided by the number of its sequences.
  mutating func addSteps(_ count: Int, milliseconds: Double, _ configuration: TextConfiguration) {
    for step in 0..<count {
      generation.report.flops.decode +=
        2 * decodeMultiplyAdds(rowsPerLayer: generation.cache.lengths.map { $0 - (count - 1 - step) }, configuration)
    }
    generation.report.flops.head += 2 * count * headMultiplyAdds(configuration)
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
  /// Drafting of tokens; answers do not depend on it.
  public var speculation = Speculation.off

  public init(threads: Int, batchSize: Int = Self.maxBatchSize) {
    self.threads = threads
    self.batchSize = batchSize
  }

  /// Maximum rows of a decode step: one per record, and drafts.
  var maxRowCount: Int { speculation == .off ? batchSize : Self.maxBatchSize }
}
