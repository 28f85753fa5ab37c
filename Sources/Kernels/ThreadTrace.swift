import Synchronization

/// A trace of the thread pool: how long threads wait during the phases of a request.
///
/// A thread waits while the calling thread works outside of kernels, while a kernel has no task for it, and from its
/// last task until the kernel ends. The trace is off unless a benchmark turns it on. Like the pool it is one for the
/// process, and measures one request at a time.
package final class ThreadTrace: Sendable {
  package static let shared = ThreadTrace()

  /// A time summed over threads.
  fileprivate struct ThreadTime {
    /// Wall time multiplied by the number of threads.
    var total = Duration.zero
    /// The part in which threads waited.
    var waiting = Duration.zero
  }

  /// The state of the trace when a phase begins.
  struct Mark {
    fileprivate let start: ContinuousClock.Instant
    fileprivate let saved: Int
    fileprivate let phases: ThreadTime
  }

  private let isOn = Atomic(false)
  /// Time that threads worked on kernels minus the wall time of these kernels, in nanoseconds.
  private let saved = Atomic(0)
  /// The time of the phases that have ended.
  private let phases = Mutex(ThreadTime())

  package func turnOn() { isOn.store(true, ordering: .relaxed) }

  /// The share of thread time in which threads waited, 0 to 1, in the phases since the last call; NaN without a phase.
  package func takeWaitingShare() -> Double {
    phases.withLock { phases in
      defer { phases = ThreadTime() }
      return phases.waiting / phases.total
    }
  }

  // MARK: - Recording

  /// The current time; `nil` if the trace is off.
  var now: ContinuousClock.Instant? { isOn.load(ordering: .relaxed) ? ContinuousClock.now : nil }

  /// Counts the wall time of a kernel since `start`.
  func addKernel(since start: ContinuousClock.Instant?) {
    guard let start else { return }
    saved.wrappingSubtract(Self.nanoseconds(since: start), ordering: .relaxed)
  }

  /// Counts the time since `start` as work of one thread on a kernel.
  func addWork(since start: ContinuousClock.Instant?) {
    guard let start else { return }
    saved.wrappingAdd(Self.nanoseconds(since: start), ordering: .relaxed)
  }

  /// The mark of a phase that begins now; `nil` if the trace is off.
  func beginPhase() -> Mark? {
    guard let now else { return nil }
    return Mark(start: now, saved: saved.load(ordering: .relaxed), phases: phases.withLock { $0 })
  }

  /// Counts the time of a phase on up to `threads` threads; it replaces that of the phases within it.
  func endPhase(_ mark: Mark?, threads: Int) {
    guard let mark else { return }
    let wall = ContinuousClock.now - mark.start
    // Outside of kernels one thread works.
    let work = wall + .nanoseconds(saved.load(ordering: .relaxed) - mark.saved)
    phases.withLock { phases in
      phases = mark.phases
      phases.total += wall * threads
      phases.waiting += wall * threads - work
    }
  }

  private static func nanoseconds(since start: ContinuousClock.Instant) -> Int {
    let time = (ContinuousClock.now - start).components
    return Int(time.seconds) * 1_000_000_000 + Int(time.attoseconds / 1_000_000_000)
  }
}
