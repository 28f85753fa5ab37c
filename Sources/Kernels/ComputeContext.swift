import Storage

/// What one request computes with: the workers, their scratch memory, the cost ledger and the clock of its phases.
///
/// One owner at a time; several requests have one each. All matrix kernels are its methods.
@safe package final class ComputeContext {
  package let workers: Workers
  /// What products may use.
  package let processor: Processor
  package var ledger = CostLedger()
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
    unsafe scratch[worker].reserve(count * MemoryLayout<Float>.stride).bindMemory(to: Float.self, capacity: count)
  }

  /// A worker's own integers, apart from its floats, holding anything.
  func integerScratch(_ worker: Int, count: Int) -> UnsafeMutablePointer<Int32> {
    unsafe integers[worker].reserve(count * MemoryLayout<Int32>.stride).bindMemory(to: Int32.self, capacity: count)
  }

  /// Bytes that all workers may read, on a boundary of 64 bytes, until they are asked for again.
  func sharedScratch(byteCount: Int) -> UnsafeMutableRawPointer { unsafe shared.reserve(byteCount) }
}

/// Scratch memory, which only grows.
@safe private final class Scratch {
  private var capacity = 0
  private var base: UnsafeMutableRawPointer?

  func reserve(_ byteCount: Int) -> UnsafeMutableRawPointer {
    if let base = unsafe base, byteCount <= capacity { return unsafe base }
    unsafe base?.deallocate()
    let grown = unsafe allocateBytes(byteCount)
    unsafe base = grown
    capacity = byteCount
    return unsafe grown
  }

  deinit { unsafe base?.deallocate() }
}

/// The threads that share the work of one product or kernel: the calling one and helpers from the process's pool.
///
/// Work is cut into tasks by its shape alone, never by the number of threads, so results do not depend on that number.
/// Libraries are called single-threaded from within a task.
package struct Workers: Sendable {
  /// How many threads work at a time.
  package let count: Int

  /// - Precondition: `count` is at least 1.
  package init(count: Int) {
    precondition(count >= 1, "Workers: \(count) threads")
    self.count = count
    ThreadPool.shared.grow(to: count - 1)
  }

  /// Calls `body` once for every task, from up to `count` threads, and returns when all are done.
  ///
  /// The helpers serve one call at a time. A call that finds them busy, because another request computes or because it comes
  /// from within a task, does all of its tasks itself: nobody waits, and a task may use kernels.
  ///
  /// - Parameter body: Receives the task, `0..<tasks`, and the worker that runs it, `0..<count`; no two calls at the same
  ///   time have the same worker. Must be safe to call from several threads, writing to disjoint memory in each task.
  package func run(tasks: Int, _ body: (_ task: Int, _ worker: Int) -> Void) {
    let helpers = min(count, tasks) - 1
    if helpers > 0, ThreadPool.shared.run(tasks: tasks, helpers: helpers, body) { return }
    let worker = ThreadPool.shared.currentWorker
    for task in 0..<tasks { body(task, worker) }
  }

  /// The results of `body` for every task, in the order of the tasks, computed in parallel.
  package func map<Result>(tasks: Int, _ body: (_ task: Int) -> Result) -> [Result] {
    unsafe [Result](unsafeUninitializedCapacity: tasks) { buffer, initialized in
      if let results = buffer.baseAddress {
        run(tasks: tasks) { task, _ in unsafe (results + task).initialize(to: body(task)) }
      }
      initialized = tasks
    }
  }

  /// Calls `body` with disjoint blocks of the rows of `matrix`, in parallel when that pays.
  ///
  /// - Parameter body: Receives the first row of its block, the number of rows, and the block.
  func forEachBlock(
    of matrix: inout Matrix, _ body: (_ firstRow: Int, _ rowCount: Int, _ block: inout MutableSpan<Float>) -> Void
  ) {
    let (rows, columns) = (matrix.rows, matrix.columns)
    let blockRows = max(1, 16_384 / columns)
    let base = unsafe matrix.base
    run(tasks: (rows + blockRows - 1) / blockRows) { task, _ in
      let first = task * blockRows
      let rowCount = min(blockRows, rows - first)
      let buffer = unsafe UnsafeMutableBufferPointer(start: base + first * columns, count: rowCount * columns)
      var block = unsafe buffer.mutableSpan
      body(first, rowCount, &block)
    }
  }
}
