internal import Dispatch
internal import Synchronization

/// Prepares requests on a thread of its own while the model works, one after the other.
final class RequestPreparation: Sendable {
  typealias Outcome = Result<PreparedRequest, RecordFailure>

  /// A record whose request is being prepared.
  final class Item: Sendable {
    let question: BatchJob.Question
    private let outcome = Mutex<Outcome?>(nil)
    private let isPrepared = DispatchGroup()

    fileprivate init(_ question: BatchJob.Question) {
      self.question = question
      isPrepared.enter()
    }

    fileprivate func complete(_ outcome: Outcome) {
      self.outcome.withLock { $0 = outcome }
      isPrepared.leave()
    }

    /// What came of it, if that is known yet.
    var present: Outcome? { outcome.withLock { $0 } }

    /// What came of it; waits until that is known.
    func wait() -> Outcome {
      isPrepared.wait()
      guard let present else { preconditionFailure("a request is prepared before anybody is told") }
      return present
    }
  }

  private let queue = DispatchQueue(label: "pdrop.preparation")
  private let prepare: @Sendable (Request) throws -> PreparedRequest

  init(_ prepare: @escaping @Sendable (Request) throws -> PreparedRequest) { self.prepare = prepare }

  func begin(_ question: BatchJob.Question) -> Item {
    let item = Item(question)
    queue.async { [prepare] in
      item.complete(Result { try prepare(question.request) }.mapError(RecordFailure.init))
    }
    return item
  }
}
