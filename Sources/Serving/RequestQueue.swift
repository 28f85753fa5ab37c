import BatchInference
import Dispatch
import PDrop
import Storage
import Synchronization

/// The requests of a service: those that wait, and those that the engine has taken.
final class RequestQueue: Sendable {
  private struct Entry {
    let request: EngineRequest
    let events: AsyncStream<InferenceService.Event>.Continuation
    let arrival = ContinuousClock.now
    var prefillStart: ContinuousClock.Instant?
    var times = ServedTimes()
    /// When the last token of each answer was chosen.
    var lastTokens: [Int: ContinuousClock.Instant] = [:]
    var isCancelled = false
    /// The indices of its slots, one for each answer.
    var slots: [Int] = []

    /// Whether its prefill has begun.
    var hasBegun: Bool { prefillStart != nil }
  }

  private struct State {
    /// Indices of the requests that the engine has not taken, in the order of their arrival.
    var waiting: [Int] = []
    var entries: [Int: Entry] = [:]
    var slots: [Slot]
    var nextIndex = 0
    var isStopping = false
    /// Seconds of the requests that have ended, for estimates.
    var averageSeconds = 1.0

    /// The number of requests whose prefill has begun.
    var processingCount: Int { entries.values.count { $0.hasBegun } }
    /// The number of requests whose prefill has not begun: those in `waiting`, and those that the engine prepares.
    var waitingCount: Int { entries.count - processingCount }
    var freeSlotCount: Int { slots.count { $0.request == nil } }
  }

  private let limit: Int
  private let metrics: ServiceMetrics
  private let state: Mutex<State>
  /// Counts new requests, and the wish to stop.
  private let change = DispatchSemaphore(value: 0)

  init(limit: Int, slotCount: Int, _ metrics: ServiceMetrics) {
    self.limit = limit
    self.metrics = metrics
    state = Mutex(State(slots: Array(repeating: Slot(), count: slotCount)))
  }

  // MARK: - For clients

  func add(_ request: Request) throws(InferenceService.Refusal) -> InferenceService.Ticket {
    let (events, continuation) = AsyncStream<InferenceService.Event>.makeStream()
    let added = state.withLock { state -> Result<Int, InferenceService.Refusal> in
      if state.isStopping { return .failure(.stopping) }
      // Those for which a slot is free do not wait for another request to end.
      guard state.waitingCount < limit + state.freeSlotCount else {
        return .failure(.full(limit: limit, retryAfter: max(1, Int(state.averageSeconds.rounded(.up)))))
      }
      let index = state.nextIndex
      state.nextIndex += 1
      state.entries[index] = Entry(request: EngineRequest(request, index: index), events: continuation)
      state.waiting.append(index)
      return .success(index)
    }
    let index = try added.get()
    change.signal()
    return InferenceService.Ticket(index: index, events: events)
  }

  func cancel(_ index: Int) {
    let removed = state.withLock { state -> Entry? in
      state.entries[index]?.isCancelled = true
      // The engine has not taken a request that waits.
      guard let place = state.waiting.firstIndex(of: index) else { return nil }
      state.waiting.remove(at: place)
      return state.entries.removeValue(forKey: index)
    }
    if let removed {
      removed.events.finish()
      metrics.cancelled.add(1)
    }
  }

  func stop() {
    state.withLock { $0.isStopping = true }
    change.signal()
  }

  var slots: [Slot] { state.withLock { $0.slots } }

  var load: (processing: Int, waiting: Int) {
    state.withLock { ($0.processingCount, $0.waitingCount) }
  }

  // MARK: - For the engine

  func take(waits: Bool) -> Poll<EngineRequest> {
    while true {
      let (request, isStopping) = state.withLock { state in
        let index = state.waiting.isEmpty ? nil : state.waiting.removeFirst()
        return (index.flatMap { state.entries[$0]?.request }, state.isStopping)
      }
      if let request {
        // One signal for each request.
        _ = change.wait(timeout: .now())
        return .ready(request)
      }
      if isStopping { return .finished }
      guard waits else { return .pending }
      change.wait()
    }
  }

  func update(_ statistics: EngineStatistics) { metrics.engine.withLock { $0 = statistics } }

  func isCancelled(_ index: Int) -> Bool { state.withLock { $0.entries[index]?.isCancelled ?? true } }

  func willRun(_ layer: PrefillLayer, of index: Int) {
    let now = ContinuousClock.now
    update(index) { entry, slots in
      begin(&entry, at: now, &slots)
      let elapsed = seconds(from: entry.prefillStart ?? now, to: now)
      return .progress(PrefillProgress(layer: layer, seconds: elapsed))
    }
  }

  func didPrefill(_ index: Int, _ prefill: FinishedPrefill) {
    let now = ContinuousClock.now
    metrics.add(prefill)
    update(index) { entry, slots in
      // A prompt from the prompt cache has run no layer.
      begin(&entry, at: now, &slots)
      metrics.prefillSeconds.observe(seconds(from: entry.prefillStart ?? now, to: now))
      entry.times.firstToken = seconds(from: entry.arrival, to: now)
      metrics.firstTokenSeconds.observe(entry.times.firstToken)
      for slot in entry.slots {
        slots[slot].promptTokens = prefill.request.report.sequenceLength
        slots[slot].maxNewTokens = prefill.request.maxNewTokens
      }
      return .prefilled(prefill)
    }
  }

  func didGenerate(_ generated: GeneratedText, for index: Int) {
    let now = ContinuousClock.now
    metrics.generatedTokens.add(generated.tokenCount)
    update(index) { entry, slots in
      if let last = entry.lastTokens[generated.answer], generated.tokenCount > 0 {
        metrics.interTokenSeconds.observe(seconds(from: last, to: now) / Double(generated.tokenCount))
      }
      entry.lastTokens[generated.answer] = now
      if generated.answer < entry.slots.count {
        slots[entry.slots[generated.answer]].generatedTokens += generated.tokenCount
      }
      return .text(generated)
    }
  }

  func finish(_ index: Int, _ result: Result<RunReport, RecordFailure>) {
    let now = ContinuousClock.now
    guard var entry = remove(index) else { return }
    entry.times.end = seconds(from: entry.arrival, to: now)
    metrics.add(result, seconds: entry.times.end)
    state.withLock { $0.averageSeconds += 0.1 * (entry.times.end - $0.averageSeconds) }
    entry.events.yield(.finished(result, entry.times))
    entry.events.finish()
  }

  func didCancel(_ index: Int) {
    guard let entry = remove(index) else { return }
    metrics.cancelled.add(1)
    entry.events.finish()
  }

  /// Changes an entry and sends the event that results.
  private func update(_ index: Int, _ change: (inout Entry, inout [Slot]) -> InferenceService.Event) {
    let sent = state.withLock { state -> (InferenceService.Event, AsyncStream<InferenceService.Event>.Continuation)? in
      guard var entry = state.entries[index] else { return nil }
      let event = change(&entry, &state.slots)
      state.entries[index] = entry
      return (event, entry.events)
    }
    if let (event, events) = sent { events.yield(event) }
  }

  private func remove(_ index: Int) -> Entry? {
    state.withLock { state in
      guard let entry = state.entries.removeValue(forKey: index) else { return nil }
      for slot in entry.slots { state.slots[slot] = Slot() }
      return entry
    }
  }

  /// Notes the beginning of a prefill, once, and takes slots: fewer than answers, if those of a request with several do
  /// not all fit.
  private func begin(_ entry: inout Entry, at now: ContinuousClock.Instant, _ slots: inout [Slot]) {
    guard !entry.hasBegun else { return }
    entry.prefillStart = now
    entry.times.queue = seconds(from: entry.arrival, to: now)
    metrics.queueSeconds.observe(entry.times.queue)
    let free = slots.indices.filter { slots[$0].request == nil }
    entry.slots = Array(free.prefix(entry.request.request.options.answerCount))
    for slot in entry.slots { slots[slot].request = entry.request.index }
  }

  private func seconds(from start: ContinuousClock.Instant, to end: ContinuousClock.Instant) -> Double {
    (end - start).milliseconds / 1e3
  }
}

/// The requests of a service as a job of the engine.
struct ServedJob: EngineJob {
  private let queue: RequestQueue
  var statistics = EngineStatistics()

  init(_ queue: RequestQueue) { self.queue = queue }

  mutating func take(waits: Bool) -> Poll<EngineRequest> { queue.take(waits: waits) }
  func isCancelled(_ request: EngineRequest) -> Bool { queue.isCancelled(request.index) }
  mutating func willRun(_ layer: PrefillLayer, of request: EngineRequest) { queue.willRun(layer, of: request.index) }
  mutating func didPrefill(_ request: EngineRequest, _ prefill: FinishedPrefill) {
    queue.didPrefill(request.index, prefill)
  }
  mutating func didGenerate(_ generated: GeneratedText, for request: EngineRequest) {
    queue.didGenerate(generated, for: request.index)
  }
  mutating func finish(_ results: [(EngineRequest, Result<RunReport, RecordFailure>)]) {
    queue.update(statistics)
    for (request, result) in results { queue.finish(request.index, result) }
  }
  mutating func didCancel(_ request: EngineRequest) { queue.didCancel(request.index) }
}
