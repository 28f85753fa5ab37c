import Dispatch
import LLaVA
import ModelFormats
import PDrop
import Synchronization

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

/// The images that were asked about last, so that each is decoded and encoded once for all who ask about it, and looked for
/// in the model's feature cache once.
final class ImageCache: Sendable {
  private struct Entry {
    var image: ImageInput
    var byteCount: Int
    var lastUse: Int
  }

  private struct State {
    var entries: [ImageDigest: Entry] = [:]
    var byteCount = 0
    var uses = 0
  }

  private let model: VisionLanguageModel
  private let capacity: Int
  private let state = Mutex(State())

  /// - Parameter capacity: Bytes that images may take which nobody is asking about.
  init(_ model: VisionLanguageModel, capacity: Int) {
    self.model = model
    self.capacity = capacity
  }

  /// An image, known or made ready now; called by one thread at a time.
  ///
  /// - Throws: `ImageError`.
  func image(
    _ image: Request.Image, appliesOrientation: Bool, _ timings: inout RunReport.Timings
  ) throws -> ImageInput {
    guard let file = try ImageFile(image, &timings) else {
      return try model.prepared(image, appliesOrientation: appliesOrientation, &timings)
    }
    let content = ImageDigest(file.bytes, appliesOrientation: appliesOrientation)
    if let known = known(content) { return known }
    let prepared = try model.prepared(file, content, &timings)
    keep(prepared, content)
    return prepared
  }

  private func known(_ content: ImageDigest) -> ImageInput? {
    state.withLock { state in
      state.uses += 1
      state.entries[content]?.lastUse = state.uses
      return state.entries[content]?.image
    }
  }

  /// Keeps an image, and lets go of those that were not asked about for the longest time.
  private func keep(_ image: ImageInput, _ content: ImageDigest) {
    let byteCount = image.byteCount(columns: model.llava.configuration.text.hiddenSize)
    state.withLock { state in
      state.entries[content] = Entry(image: image, byteCount: byteCount, lastUse: state.uses)
      state.byteCount += byteCount
      while state.byteCount > capacity, let oldest = state.entries.min(by: { $0.value.lastUse < $1.value.lastUse }) {
        state.entries[oldest.key] = nil
        state.byteCount -= oldest.value.byteCount
      }
    }
  }
}
