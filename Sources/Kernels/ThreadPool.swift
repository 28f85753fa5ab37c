import Dispatch
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The threads of the process that help callers with their work; they sleep while there is none.
///
/// One job at a time. Its caller works on it too and takes tasks from the same counter, so a helper that wakes late costs
/// nothing: the caller waits only for helpers that have joined. A helper that has run out of work looks for more for some
/// tens of microseconds, longer than a decoder pauses between two kernels, and then goes to sleep.
///
/// `@unchecked Sendable`: `body` and `taskCount` are written by the owner of `isTaken` while no helper can join, and read by
/// helpers that have joined.
@safe final class ThreadPool: @unchecked Sendable {
  static let shared = ThreadPool()

  typealias Body = (_ task: Int, _ worker: Int) -> Void

  /// How long a helper without work stays awake.
  private static let patience = Duration.microseconds(50)

  private let isTaken = Atomic(false)
  private var body: UnsafePointer<Body>?
  private var taskCount = 0
  private let nextTask = Atomic(0)
  /// How many more helpers may join the present job; the next one to join is the worker of that number.
  private let openings = Atomic(0)
  /// How many helpers have joined the present job and done with it.
  private let finished = Atomic(0)
  private let sleepers = Atomic(0)
  private let bell = DispatchSemaphore(value: 0)
  private let helpers = Mutex(0)
  /// The number of the worker that a thread is, plus nothing for threads that are not of the pool: worker 0.
  private let workerKey: pthread_key_t

  private init() {
    var key = pthread_key_t()
    let status = unsafe pthread_key_create(&key, nil)
    precondition(status == 0, "ThreadPool: no thread-local storage (\(status))")
    workerKey = key
  }

  /// The number of the worker that the calling thread is: 0 unless it runs a task as a helper.
  var currentWorker: Int { unsafe Int(bitPattern: pthread_getspecific(workerKey)) }

  /// Makes threads until there are `count` helpers, or as many as the system lets us have.
  func grow(to count: Int) {
    helpers.withLock { helpers in
      while helpers < count, startHelper() { helpers += 1 }
    }
  }

  /// Calls `body` for every task, from the calling thread and up to `helpers` others.
  ///
  /// - Returns: Whether it did: the pool serves one job at a time.
  func run(tasks: Int, helpers: Int, _ body: Body) -> Bool {
    guard !isTaken.exchange(true, ordering: .acquiring) else { return false }
    withoutActuallyEscaping(body) { body in
      unsafe withUnsafePointer(to: body) { body in
        unsafe self.body = body
        taskCount = tasks
        nextTask.store(0, ordering: .relaxed)
        finished.store(0, ordering: .relaxed)
        // In one order with `sleepers`: a helper about to sleep sees the openings, or we see the sleeper.
        openings.store(helpers, ordering: .sequentiallyConsistent)
        wake(helpers)
        workThrough(as: 0)
        let joined = helpers - openings.exchange(0, ordering: .acquiringAndReleasing)
        wait { finished.load(ordering: .acquiring) == joined }
        unsafe self.body = nil
      }
    }
    isTaken.store(false, ordering: .releasing)
    return true
  }

  /// Takes tasks until there are none.
  private func workThrough(as worker: Int) {
    guard let body = unsafe body else { preconditionFailure("ThreadPool: no job") }
    while true {
      let task = nextTask.wrappingAdd(1, ordering: .relaxed).oldValue
      guard task < taskCount else { return }
      unsafe body.pointee(task, worker)
    }
  }

  // MARK: - Helpers

  private func startHelper() -> Bool {
    #if canImport(Glibc)
      var thread = pthread_t()
    #else
      var thread: pthread_t?
    #endif
    let status = unsafe pthread_create(
      &thread, nil,
      { _ in
        ThreadPool.shared.help()
        return nil
      }, nil)
    return status == 0
  }

  /// The life of a helper.
  private func help() {
    while true {
      guard let worker = join() ?? joinWithPatience() else {
        sleep()
        continue
      }
      unsafe pthread_setspecific(workerKey, UnsafeRawPointer(bitPattern: worker))
      workThrough(as: worker)
      finished.wrappingAdd(1, ordering: .releasing)
    }
  }

  /// Joins the present job if it has an opening.
  ///
  /// - Returns: Which worker the thread is from now on, 1 at least.
  private func join() -> Int? {
    var open = openings.load(ordering: .relaxed)
    while open > 0 {
      let (exchanged, found) = openings.weakCompareExchange(
        expected: open, desired: open - 1, ordering: .acquiringAndReleasing)
      if exchanged { return open }
      open = found
    }
    return nil
  }

  private func joinWithPatience() -> Int? {
    let start = ContinuousClock.now
    var worker: Int?
    wait {
      worker = join()
      return worker != nil || ContinuousClock.now - start > Self.patience
    }
    return worker
  }

  /// Sleeps until `wake`.
  private func sleep() {
    sleepers.wrappingAdd(1, ordering: .sequentiallyConsistent)
    // Too late to sleep: unless somebody has already counted on waking us, stay awake.
    if openings.load(ordering: .sequentiallyConsistent) > 0, takeSleepers(1) == 1 { return }
    bell.wait()
  }

  /// Wakes up to `count` sleeping helpers.
  private func wake(_ count: Int) {
    for _ in 0..<takeSleepers(count) { bell.signal() }
  }

  /// Takes up to `count` off the number of sleepers, and says how many.
  private func takeSleepers(_ count: Int) -> Int {
    var asleep = sleepers.load(ordering: .sequentiallyConsistent)
    while asleep > 0 {
      let taken = min(count, asleep)
      let (exchanged, found) = sleepers.weakCompareExchange(
        expected: asleep, desired: asleep - taken, ordering: .sequentiallyConsistent)
      if exchanged { return taken }
      asleep = found
    }
    return 0
  }

  /// Waits for something that another thread does soon: looks often, and now and then lets other threads have the core.
  private func wait(until isDone: () -> Bool) {
    while true {
      for _ in 0..<64 where isDone() { return }
      sched_yield()
    }
  }
}
