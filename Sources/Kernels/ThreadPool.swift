import Dispatch
import Storage
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The thread pool of the process: worker threads that run the tasks of one job at a time and sleep without work.
///
/// The caller of a job also runs tasks and takes them from the same counter. It waits only for worker threads that have
/// joined, so a thread that wakes late delays nothing. A worker thread without work spins for `spinTime`, which is
/// longer than the pause of decode between two kernels, and then sleeps.
///
/// `@unchecked Sendable`: `job` and `taskCount` are written by the owner of `isBusy` while no worker thread can join,
/// and read by worker threads that have joined.
@safe final class ThreadPool: @unchecked Sendable {
  static let shared = ThreadPool()

  /// How long a worker thread without work spins before it sleeps.
  private static let spinTime = Duration.microseconds(50)

  private let isBusy = Atomic(false)
  /// The tasks at work, in the memory of the caller, and their type.
  private var job: (tasks: UnsafeRawPointer, type: any Job.Type)?
  private var taskCount = 0
  private let nextTask = Atomic(0)
  /// The number of worker threads that may still join the job; also the worker index of the next one to join.
  private let openSlots = Atomic(0)
  /// The number of worker threads that have joined and finished the job.
  private let finished = Atomic(0)
  /// The number of sleeping worker threads not yet claimed by a signal of `wakeUp`.
  private let sleepers = Atomic(0)
  /// The semaphore on which worker threads sleep.
  private let wakeUp = DispatchSemaphore(value: 0)
  /// The number of worker threads of the process, and whether the system refused to start another.
  private let threads = Mutex((count: 0, isComplete: false))
  /// Thread-local worker index; 0 for threads outside the pool.
  private let workerKey: pthread_key_t

  private init() {
    var key = pthread_key_t()
    let status = unsafe pthread_key_create(&key, nil)
    precondition(status == 0, "ThreadPool: no thread-local storage (\(status))")
    workerKey = key
  }

  /// The worker index of the calling thread; 0 outside the pool.
  var currentWorker: Int { unsafe Int(bitPattern: pthread_getspecific(workerKey)) }

  /// Starts threads until there are `count` worker threads, or fewer if the system refuses more.
  ///
  /// - Returns: The number of worker threads.
  func grow(to count: Int) -> Int {
    threads.withLock { threads in
      while threads.count < count, !threads.isComplete {
        if BackgroundThread.start({ ThreadPool.shared.workerLoop() }) {
          threads.count += 1
        } else {
          threads.isComplete = true
        }
      }
      return threads.count
    }
  }

  /// Runs `count` tasks, on the calling thread and up to `workerThreads` others.
  ///
  /// - Returns: `false`, without a call, if the pool is busy with another job.
  func run<Context>(_ count: Int, of tasks: KernelTasks<Context>, workerThreads: Int) -> Bool {
    guard !isBusy.exchange(true, ordering: .acquiring) else { return false }
    let start = ThreadTrace.shared.now
    unsafe withUnsafePointer(to: tasks) { tasks in
      unsafe job = (UnsafeRawPointer(tasks), KernelTasks<Context>.self)
      taskCount = count
      nextTask.store(0, ordering: .relaxed)
      finished.store(0, ordering: .relaxed)
      // Sequentially consistent with `sleepers`: a thread about to sleep sees the open slots, or we see the sleeper.
      openSlots.store(workerThreads, ordering: .sequentiallyConsistent)
      wake(workerThreads)
      runTasks(as: 0)
      let joined = workerThreads - openSlots.exchange(0, ordering: .acquiringAndReleasing)
      spin { finished.load(ordering: .acquiring) == joined }
      unsafe job = nil
    }
    ThreadTrace.shared.addKernel(since: start)
    isBusy.store(false, ordering: .releasing)
    return true
  }

  /// Takes and runs tasks until none are left.
  private func runTasks(as worker: Int) {
    guard let job = unsafe job else { preconditionFailure("ThreadPool: no job") }
    let start = ThreadTrace.shared.now
    defer { ThreadTrace.shared.addWork(since: start) }
    while true {
      let task = nextTask.wrappingAdd(1, ordering: .relaxed).oldValue
      guard task < taskCount else { return }
      unsafe job.type.run(job.tasks, task: task, worker: worker)
    }
  }

  // MARK: - Worker threads

  /// The main loop of a worker thread.
  private func workerLoop() {
    while true {
      guard let worker = join() ?? spinAndJoin() else {
        sleep()
        continue
      }
      unsafe pthread_setspecific(workerKey, UnsafeRawPointer(bitPattern: worker))
      runTasks(as: worker)
      finished.wrappingAdd(1, ordering: .releasing)
    }
  }

  /// Joins the current job if it has an open slot.
  ///
  /// - Returns: The worker index of the thread in this job, at least 1.
  private func join() -> Int? {
    var open = openSlots.load(ordering: .relaxed)
    while open > 0 {
      let (exchanged, found) = openSlots.weakCompareExchange(
        expected: open, desired: open - 1, ordering: .acquiringAndReleasing)
      if exchanged { return open }
      open = found
    }
    return nil
  }

  /// Spins until the thread can join a job, at most for `spinTime`.
  private func spinAndJoin() -> Int? {
    let start = ContinuousClock.now
    var worker: Int?
    spin {
      worker = join()
      return worker != nil || ContinuousClock.now - start > Self.spinTime
    }
    return worker
  }

  /// Sleeps until the next `wake`.
  private func sleep() {
    sleepers.wrappingAdd(1, ordering: .sequentiallyConsistent)
    // A job has started in the meantime: stay awake, unless its caller has already claimed this thread.
    if openSlots.load(ordering: .sequentiallyConsistent) > 0, claimSleepers(1) == 1 { return }
    wakeUp.wait()
  }

  /// Wakes up to `count` sleeping worker threads.
  private func wake(_ count: Int) {
    for _ in 0..<claimSleepers(count) { wakeUp.signal() }
  }

  /// Subtracts up to `count` from the number of sleepers; returns the number subtracted.
  private func claimSleepers(_ count: Int) -> Int {
    var asleep = sleepers.load(ordering: .sequentiallyConsistent)
    while asleep > 0 {
      let claimed = min(count, asleep)
      let (exchanged, found) = sleepers.weakCompareExchange(
        expected: asleep, desired: asleep - claimed, ordering: .sequentiallyConsistent)
      if exchanged { return claimed }
      asleep = found
    }
    return 0
  }

  /// Spins until another thread makes the condition true, which is expected soon; yields the core after every 64 polls.
  private func spin(until isDone: () -> Bool) {
    while true {
      for _ in 0..<64 where isDone() { return }
      sched_yield()
    }
  }
}

/// The tasks of a kernel: a function of a context.
///
/// The function captures nothing, so that a call of the pool allocates nothing.
struct KernelTasks<Context> {
  let context: Context
  let body: (_ context: Context, _ task: Int, _ worker: Int) -> Void
}

/// Tasks of any context.
private protocol Job {
  /// Runs a task of the tasks at an address.
  static func run(_ tasks: UnsafeRawPointer, task: Int, worker: Int)
}

extension KernelTasks: Job {
  fileprivate static func run(_ tasks: UnsafeRawPointer, task: Int, worker: Int) {
    let tasks = unsafe tasks.assumingMemoryBound(to: Self.self)
    unsafe tasks.pointee.body(tasks.pointee.context, task, worker)
  }
}
