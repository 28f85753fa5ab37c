package import BatchInference
import Dispatch
package import PDrop
import Storage
import Synchronization

/// The batch engine for requests that arrive at any time, from any thread, and that may be cancelled.
///
/// Requests wait in a queue in the order of their arrival and are answered together. The answer to a request does not
/// depend on the others.
package final class InferenceService: Sendable {
  /// Options of a service.
  package struct Options: Sendable {
    package var engine: EngineOptions
    /// Maximum number of requests that wait while no slot is free.
    package var queueLimit = 64

    package init(engine: EngineOptions) { self.engine = engine }
  }

  /// What happens to a request, in this order; a cancelled request has no further events.
  package enum Event: Sendable {
    /// A layer of its prompt is about to be computed.
    case progress(PrefillProgress)
    case prefilled(FinishedPrefill)
    case text(GeneratedText)
    /// The last event.
    case finished(Result<RunReport, RecordFailure>, ServedTimes)
  }

  /// A request that the service has accepted.
  package struct Ticket: Sendable {
    package let index: Int
    package let events: AsyncStream<Event>
  }

  /// The reason why a request is not accepted.
  package enum Refusal: Error, Equatable {
    /// The queue is full; try again after a number of seconds.
    case full(limit: Int, retryAfter: Int)
    /// The service finishes what it has accepted, and ends.
    case stopping
  }

  package let model: VisionLanguageModel
  package let metrics = ServiceMetrics()
  package let options: Options
  private let queue: RequestQueue
  private let ended = DispatchSemaphore(value: 0)

  /// Starts the engine on a thread of its own.
  ///
  /// - Throws: `ServiceError.noThread` if the system refuses the thread.
  package init(_ model: VisionLanguageModel, _ options: Options) throws(ServiceError) {
    self.model = model
    self.options = options
    queue = RequestQueue(limit: options.queueLimit, slotCount: options.engine.batchSize, metrics)
    let isStarted = BackgroundThread.start { [queue, ended] in
      var job = ServedJob(queue)
      model.answer(&job, options.engine)
      ended.signal()
    }
    guard isStarted else { throw .noThread }
  }

  /// Accepts a request.
  ///
  /// - Throws: `Refusal`.
  package func submit(_ request: Request) throws(Refusal) -> Ticket { try queue.add(request) }

  /// Gives up a request whose answer is not needed any more; finished ones are left alone.
  package func cancel(_ ticket: Ticket) { queue.cancel(ticket.index) }

  /// Refuses new requests; the engine ends when the accepted ones are answered.
  package func stop() { queue.stop() }

  /// Waits until the engine has ended, which `stop` asks for.
  package func waitUntilEnded() {
    ended.wait()
    ended.signal()
  }

  /// The state of each slot, of which there is one per sequence at once.
  package var slots: [Slot] { queue.slots }

  /// Numbers of requests that are being answered and that wait.
  package var load: (processing: Int, waiting: Int) { queue.load }
}

/// A request that is being answered.
package struct Slot: Sendable, Equatable {
  /// The number of its request; `nil` for a free slot.
  package var request: Int?
  package var promptTokens = 0
  package var generatedTokens = 0
  package var maxNewTokens = 0

  package init() {}
}

/// The progress of a prefill.
package struct PrefillProgress: Sendable, Equatable {
  package var layer: PrefillLayer
  /// Seconds since the prefill began.
  package var seconds: Double
}

/// Times of a request in seconds, from its arrival on.
package struct ServedTimes: Sendable, Equatable {
  /// When its prefill began.
  package var queue = 0.0
  /// When its first token was chosen.
  package var firstToken = 0.0
  /// When it ended.
  package var end = 0.0
}

/// An error that prevents a service.
package enum ServiceError: UserFacingError {
  case noThread

  package var category: ErrorCategory { .resource }
  package var problem: String {
    "the system refuses a thread for the engine; raise its limits (ulimit -v, ulimit -u)"
  }
}
