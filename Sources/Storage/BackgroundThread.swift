import Dispatch
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Threads that the system may refuse, as under `ulimit -u` or `ulimit -v`.
///
/// Dispatch queues and timers instead try again for ever if the system refuses their threads.
package enum BackgroundThread {
  /// Bytes of a stack: addresses, of which few are used.
  private static let stackBytes = 2 << 20

  /// Starts a thread that runs `body`; returns whether the system allows it.
  package static func start(_ body: @escaping @Sendable () -> Void) -> Bool {
    guard AddressSpace.hasRoom(for: stackBytes) else { return false }
    var attributes = pthread_attr_t()
    guard unsafe pthread_attr_init(&attributes) == 0 else { return false }
    defer { unsafe pthread_attr_destroy(&attributes) }
    unsafe pthread_attr_setstacksize(&attributes, stackBytes)
    unsafe pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    #if canImport(Glibc)
      var thread = pthread_t()
    #else
      var thread: pthread_t?
    #endif
    let argument = unsafe Unmanaged.passRetained(Body(run: body))
    let status = unsafe pthread_create(
      &thread, &attributes,
      { argument in
        #if canImport(Glibc)
          guard let argument = unsafe argument else { return nil }
        #endif
        unsafe Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run()
        return nil
      }, argument.toOpaque())
    if status != 0 { unsafe argument.release() }
    return status == 0
  }

  private final class Body: Sendable {
    let run: @Sendable () -> Void

    init(run: @escaping @Sendable () -> Void) { self.run = run }
  }
}

/// Work that runs in order on a thread of its own, or on the caller's if the system refuses one.
package final class BackgroundQueue: Sendable {
  private final class State: Sendable {
    let work = Mutex<[@Sendable () -> Void]>([])
    /// Counts the work, and once more at the end.
    let added = DispatchSemaphore(value: 0)
  }

  private let state = State()
  private let hasThread: Bool

  package init() {
    hasThread = BackgroundThread.start { [state] in
      while true {
        state.added.wait()
        guard let body = state.work.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) else { return }
        body()
      }
    }
  }

  deinit { state.added.signal() }

  /// Runs `body` after all earlier work. Work that has been added is done even if the queue is released.
  package func add(_ body: @escaping @Sendable () -> Void) {
    guard hasThread else { return body() }
    state.work.withLock { $0.append(body) }
    state.added.signal()
  }
}
