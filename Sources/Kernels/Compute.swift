internal import COpenBLAS

/// What one request computes with: the workers, their scratch memory, the cost ledger and the clock of its phases.
///
/// One owner at a time; several requests have one each. All matrix kernels are its methods.
@safe package final class Compute {
  package let workers: Workers
  package var ledger = CostLedger()
  /// Wall time of each phase, without the phases inside it.
  package private(set) var durations: [Phase: Duration] = [:]
  private var scratch: [WorkerScratch]

  package init(workers: Workers) {
    openblas_set_num_threads(1)
    self.workers = workers
    scratch = (0..<workers.count).map { _ in WorkerScratch() }
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
    unsafe scratch[worker].floats(count)
  }
}

/// Scratch memory of one worker, which only grows.
@safe private final class WorkerScratch {
  private var capacity = 0
  private var base: UnsafeMutablePointer<Float>?

  func floats(_ count: Int) -> UnsafeMutablePointer<Float> {
    if let base = unsafe base, count <= capacity { return unsafe base }
    unsafe base?.deallocate()
    let grown = unsafe allocateFloats(count)
    unsafe base = grown
    capacity = count
    return unsafe grown
  }

  deinit { unsafe base?.deallocate() }
}
