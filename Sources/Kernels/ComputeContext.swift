import Storage

/// Compute resources of one request: workers, scratch memory, cost ledger and phase timings.
///
/// A context has one owner at a time; concurrent requests use one each. All matrix kernels are methods of it.
@safe package final class ComputeContext {
  package let workers: Workers
  /// The instructions and libraries available to matmuls.
  package let processor: Processor
  package var ledger = CostLedger()
  /// Wall time of each phase, excluding nested phases.
  package private(set) var durations: [Phase: Duration] = [:]
  /// Called between the layers of the vision encoder and of a prefill, for other work; returns false to cancel the
  /// computation.
  package var checkpoint: (() -> Bool)?
  /// Whether the computation is cancelled; its results must then not be used.
  package private(set) var isCancelled = false
  /// Time in `checkpoint`, which belongs to no phase.
  private var pausedTime = Duration.zero
  /// The keys and values that each row of `cachedAttention` sees, which its tasks read.
  var visibleRows: [StoredKeyValues] = []
  private let scratch: [Scratch]
  private let integers: [Scratch]
  private let weights: [Scratch]
  private let shared = Scratch()

  package init(workers: Workers, processor: Processor = .current) {
    self.workers = workers
    self.processor = processor
    scratch = (0..<workers.count).map { _ in Scratch() }
    integers = (0..<workers.count).map { _ in Scratch() }
    weights = (0..<workers.count).map { _ in Scratch() }
  }

  /// Runs `body` as part of a phase and charges its multiply-adds and its time to the phase.
  package func during<Result: ~Copyable, Failure: Error>(
    _ phase: Phase, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let inner = durations.values.reduce(pausedTime, +)
    let (start, mark) = (ContinuousClock.now, ThreadTrace.shared.beginPhase())
    defer {
      ThreadTrace.shared.endPhase(mark, threads: workers.count)
      let nested = durations.values.reduce(pausedTime, +) - inner
      durations[phase, default: .zero] += ContinuousClock.now - start - nested
    }
    return try counting(as: phase, body)
  }

  /// Resets the ledger and the timings for the next request.
  package func beginRequest() {
    ledger = CostLedger()
    durations.removeAll(keepingCapacity: true)
    (isCancelled, pausedTime) = (false, .zero)
  }

  /// Begins a layer: calls `checkpoint`, whose time is not charged to the phase.
  ///
  /// - Returns: False if the computation is cancelled; the caller then returns at once, with any result.
  package func begins(layer: Int) -> Bool {
    ledger.layer = layer
    guard let checkpoint, !isCancelled else { return !isCancelled }
    let start = ContinuousClock.now
    isCancelled = !checkpoint()
    pausedTime += ContinuousClock.now - start
    return !isCancelled
  }

  /// Charges the multiply-adds of `body`, but not its time, to a phase.
  package func counting<Result: ~Copyable, Failure: Error>(
    as phase: Phase, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let outer = ledger.phase
    ledger.phase = phase
    defer { ledger.phase = outer }
    return try body()
  }

  /// Scratch memory of a worker: at least `count` uninitialized floats.
  func scratch(_ worker: Int, count: Int) -> UnsafeMutablePointer<Float> {
    unsafe scratch[worker].reserve(count * MemoryLayout<Float>.stride).bindMemory(to: Float.self, capacity: count)
  }

  /// Scratch memory of a worker: at least `count` uninitialized 32-bit integers, separate from its floats.
  func integerScratch(_ worker: Int, count: Int) -> UnsafeMutablePointer<Int32> {
    unsafe integers[worker].reserve(count * MemoryLayout<Int32>.stride).bindMemory(to: Int32.self, capacity: count)
  }

  /// Scratch memory of a worker for the weights of a panel in another type, 64-byte aligned.
  func weightScratch(_ worker: Int, byteCount: Int) -> UnsafeMutableRawPointer {
    unsafe weights[worker].reserve(byteCount)
  }

  /// Scratch memory shared by all workers, 64-byte aligned; valid until the next call.
  func sharedScratch(byteCount: Int) -> UnsafeMutableRawPointer { unsafe shared.reserve(byteCount) }
}

/// A scratch buffer that only grows.
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

/// The threads that run the tasks of a kernel: the calling thread and worker threads of the process's thread pool.
///
/// The split into tasks depends only on the shape, never on the number of threads, so results do not depend on that
/// number. Tasks call libraries single-threaded.
package struct Workers: Sendable {
  /// The maximum number of threads of a call, the calling thread included.
  package let count: Int

  /// At most `count` threads: fewer if there are fewer processors, or if the system refuses to start them.
  ///
  /// More threads than processors would only take turns and wait for each other.
  ///
  /// - Precondition: `count` is at least 1.
  package init(count: Int, processors: Int = SystemProcessors.available) {
    precondition(count >= 1 && processors >= 1, "Workers: \(count) threads, \(processors) processors")
    let wanted = min(count, processors) - 1
    self.count = 1 + min(wanted, ThreadPool.shared.grow(to: wanted))
  }

  /// Calls `body` once for every task, from up to `count` threads, and returns when all tasks are finished.
  ///
  /// The pool runs one job at a time. If it is busy, with another request or with the job of an enclosing task, the
  /// call runs all of its tasks on the calling thread. So no call waits for another, and a task may call kernels.
  ///
  /// - Parameter body: Receives the task, `0..<tasks`, and the index of the worker that runs it, `0..<count`.
  ///   Concurrent calls have different workers. Must be safe to call from several threads and write to disjoint memory
  ///   per task.
  package func run(tasks: Int, _ body: (_ task: Int, _ worker: Int) -> Void) {
    withoutActuallyEscaping(body) { body in
      run(tasks: tasks, Closure(body: body)) { closure, task, worker in closure.body(task, worker) }
    }
  }

  /// A closure as a context.
  private struct Closure { let body: (_ task: Int, _ worker: Int) -> Void }

  /// As with a closure, but `body` has what it needs in a context and captures nothing. Allocates nothing, so kernels in
  /// the loop over layers use it.
  func run<Context>(
    tasks: Int, _ context: Context, _ body: @escaping (_ context: Context, _ task: Int, _ worker: Int) -> Void
  ) {
    let workerThreads = min(count, tasks) - 1
    if workerThreads > 0,
      ThreadPool.shared.run(tasks, of: KernelTasks(context: context, body: body), workerThreads: workerThreads)
    {
      return
    }
    let worker = ThreadPool.shared.currentWorker
    for task in 0..<tasks { body(context, task, worker) }
  }

  /// The results of `body` for all tasks, in task order, computed in parallel.
  package func map<Result>(tasks: Int, _ body: (_ task: Int) -> Result) -> [Result] {
    unsafe [Result](unsafeUninitializedCapacity: tasks) { buffer, initialized in
      if let results = buffer.baseAddress {
        run(tasks: tasks) { task, _ in unsafe (results + task).initialize(to: body(task)) }
      }
      initialized = tasks
    }
  }

  /// Calls `body` with disjoint blocks of the rows of `matrix`; large matrices have several blocks, run in parallel.
  ///
  /// - Parameters:
  ///   - matrix: The matrix whose rows are written.
  ///   - context: What `body` needs besides its block.
  ///   - body: Receives the context, the first row of its block, the number of rows, and the block, `[rowCount, columns]`.
  func forEachBlock<Context>(
    of matrix: inout Matrix, _ context: Context, _ body: @escaping BlockTasks<Context>.Body
  ) {
    let blocks = unsafe BlockTasks(
      context: context, body: body, base: matrix.base, rows: matrix.rows, columns: matrix.columns)
    run(tasks: blocks.count, blocks) { blocks, task, _ in blocks.run(task) }
  }
}

/// The blocks of rows of a matrix, and a function of each.
@safe struct BlockTasks<Context> {
  typealias Body = (_ context: Context, _ firstRow: Int, _ rowCount: Int, _ block: inout MutableSpan<Float>) -> Void

  let context: Context
  let body: Body
  let base: UnsafeMutablePointer<Float>
  let rows: Int
  let columns: Int

  private var blockRows: Int { max(1, 16_384 / columns) }
  var count: Int { (rows + blockRows - 1) / blockRows }

  func run(_ index: Int) {
    let first = index * blockRows
    let rowCount = min(blockRows, rows - first)
    let buffer = unsafe UnsafeMutableBufferPointer(start: base + first * columns, count: rowCount * columns)
    var block = unsafe buffer.mutableSpan
    body(context, first, rowCount, &block)
  }
}
