import BatchInference
import NIOCore
import Serving
import Synchronization

/// The events of a request, with its time limit.
final class ServedRun: Sendable {
  /// An event of the service, or a time without one.
  enum Item: Sendable {
    case event(InferenceService.Event)
    case ping
  }

  private let ticket: InferenceService.Ticket
  private let service: InferenceService
  /// The body and its images stay in memory as long as the connection is watched.
  private let memory: [BodyMemory.Reservation]
  private let timeout: Int
  private let isLate = Atomic(false)
  private let timer: Task<Void, Never>

  /// - Parameter channel: The connection, which is closed some time after the limit if the client does not read.
  init(
    _ ticket: InferenceService.Ticket, _ service: InferenceService, memory: [BodyMemory.Reservation], timeout: Int,
    _ channel: any Channel
  ) {
    (self.ticket, self.service, self.memory, self.timeout) = (ticket, service, memory, timeout)
    let late = WeakRun()
    timer = Task {
      do { try await Task.sleep(for: .seconds(timeout)) } catch { return }
      late.run.withLock { $0.run }?.expire()
      do { try await Task.sleep(for: .seconds(30)) } catch { return }
      channel.close(promise: nil)
    }
    late.run.withLock { $0.run = self }
  }

  private final class WeakRun: Sendable {
    struct Reference { weak var run: ServedRun? }
    let run = Mutex(Reference())
  }

  deinit {
    timer.cancel()
    service.cancel(ticket)
  }

  func cancel() { service.cancel(ticket) }

  private func expire() {
    isLate.store(true, ordering: .relaxed)
    service.cancel(ticket)
  }

  var events: AsyncStream<InferenceService.Event> { ticket.events }

  /// The reason why the events ended before the answer.
  var interruption: any Error {
    isLate.load(ordering: .relaxed) ? APIError.timeout(seconds: timeout) : CancellationError()
  }

  /// The events, and a ping whenever there is none for a while.
  func items(firstPing: Double, pingSeconds: Double) -> AsyncStream<Item> {
    let (items, continuation) = AsyncStream<Item>.makeStream()
    let watch = SharedInstant()
    let pings = Task {
      var seconds = firstPing
      while !Task.isCancelled {
        do { try await Task.sleep(for: .seconds(seconds)) } catch { return }
        if ContinuousClock.now - watch.value >= .seconds(seconds) { continuation.yield(.ping) }
        seconds = pingSeconds
      }
    }
    Task { [events] in
      for await event in events {
        if Self.isSent(event) { watch.set(.now) }
        continuation.yield(.event(event))
      }
      pings.cancel()
      continuation.finish()
    }
    return items
  }

  /// Whether an event usually sends something to the client.
  private static func isSent(_ event: InferenceService.Event) -> Bool {
    switch event {
    case .progress, .prefilled: false
    case .text(let text): !text.text.isEmpty
    case .finished: true
    }
  }
}

/// An instant that tasks share.
private final class SharedInstant: Sendable {
  private let instant = Mutex(ContinuousClock.now)

  var value: ContinuousClock.Instant { instant.withLock { $0 } }
  func set(_ value: ContinuousClock.Instant) { instant.withLock { $0 = value } }
}
