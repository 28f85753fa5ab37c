/// What one request computes with: the workers, their scratch memory, the cost ledger and the clock of its phases.
///
/// One owner at a time; several requests have one each. All matrix kernels are its methods.
@safe package final class Compute {
  package let workers: Workers
  /// What products may use.
  package let processor: Processor
  package var ledger = CostLedger()
  /// Whether rows are part of a larger product that is done in pieces: then few of them are multiplied as many are, to the same
  /// bits.
  package var isPartOfMany = false
  /// Wall time of each phase, without the phases inside it.
  package private(set) var durations: [Phase: Duration] = [:]
  private let scratch: [Scratch]
  private let integers: [Scratch]
  private let shared = Scratch()

  package init(workers: Workers, processor: Processor = .current) {
    OpenBLAS.prepare
    self.workers = workers
    self.processor = processor
    scratch = (0..<workers.count).map { _ in Scratch() }
    integers = (0..<workers.count).map { _ in Scratch() }
  }

  /// Runs `body` as part of a phase: its multiply-adds and its time are booked there.
  package func during<Result: ~Copyable, Failure: Error>(
    _ phase: Phase, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let inner = durations.values.reduce(.zero, +)
    let start = ContinuousClock.now
    defer {
      let nested = durations.values.reduce(.zero, +) - inner
      durations[phase, default: .zero] += ContinuousClock.now - start - nested
    }
    return try counting(as: phase, body)
  }

  /// Forgets what has been counted and timed, for the next request.
  package func beginRequest() {
    ledger = CostLedger()
    durations.removeAll(keepingCapacity: true)
  }

  /// Books the multiply-adds of `body`, but not its time, on a phase.
  package func counting<Result: ~Copyable, Failure: Error>(
    as phase: Phase, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let outer = ledger.phase
    ledger.phase = phase
    defer { ledger.phase = outer }
    return try body()
  }

  /// A worker's own floats, at least `count` of them, holding anything.
  func scratch(_ worker: Int, count: Int) -> UnsafeMutablePointer<Float> {
    unsafe scratch[worker].room(count * MemoryLayout<Float>.stride).bindMemory(to: Float.self, capacity: count)
  }

  /// A worker's own whole numbers, apart from its floats, holding anything.
  func integerScratch(_ worker: Int, count: Int) -> UnsafeMutablePointer<Int32> {
    unsafe integers[worker].room(count * MemoryLayout<Int32>.stride).bindMemory(to: Int32.self, capacity: count)
  }

  /// Bytes that all workers may read, on a boundary of 64 bytes, until they are asked for again.
  func sharedScratch(byteCount: Int) -> UnsafeMutableRawPointer { unsafe shared.room(byteCount) }
}

/// Scratch memory, which only grows.
@safe private final class Scratch {
  private var capacity = 0
  private var base: UnsafeMutableRawPointer?

  func room(_ byteCount: Int) -> UnsafeMutableRawPointer {
    if let base = unsafe base, byteCount <= capacity { return unsafe base }
    unsafe base?.deallocate()
    let grown = unsafe allocateBytes(byteCount)
    unsafe base = grown
    capacity = byteCount
    return unsafe grown
  }

  deinit { unsafe base?.deallocate() }
}
