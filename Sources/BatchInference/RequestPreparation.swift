import Dispatch
import LLaVA
import ModelFormats
import PDrop
import Storage
import Synchronization

/// Tokenization and image preprocessing of requests, one after the other on a thread of its own while the model
/// computes.
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

    /// The result, if ready.
    var present: Outcome? { outcome.withLock { $0 } }

    /// The result, once it is ready.
    func wait() -> Outcome {
      isPrepared.wait()
      guard let present else { preconditionFailure("RequestPreparation: no result after the wait") }
      return present
    }
  }

  private let queue = BackgroundQueue()
  private let model: VisionLanguageModel
  private let images: ImageCache
  private let threads: Int

  /// - Parameter threads: The thread count of the reports.
  init(_ model: VisionLanguageModel, _ images: ImageCache, threads: Int) {
    (self.model, self.images, self.threads) = (model, images, threads)
  }

  func begin(_ question: BatchJob.Question) -> Item {
    let item = Item(question)
    queue.add { [model, images, threads] in
      item.complete(
        Result { try PreparedRequest(question.request, for: model, threads: threads, images: images) }
          .mapError(RecordFailure.init))
    }
    return item
  }
}

/// The most recently requested images of a batch, so that questions about the same image decode and encode it once.
///
/// Images are identified by their bytes. The model's feature cache is searched once for each.
final class ImageCache: ImageSource {
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

  /// - Parameter capacity: Maximum number of bytes of images that no active record uses.
  init(_ model: VisionLanguageModel, capacity: Int) {
    self.model = model
    self.capacity = capacity
  }

  /// Called by one thread at a time.
  func input(
    of image: Request.Image, in request: Request, _ timings: inout RunReport.Timings
  ) throws(RequestError) -> ImageInput {
    do {
      if let file = try ImageFile(image, &timings) {
        let digest = ImageDigest(file.bytes, appliesOrientation: request.appliesOrientation)
        if let cached = cached(digest) { return cached }
        let input = try model.input(of: file, digest, &timings)
        keep(input, digest)
        return input
      }
    } catch {
      throw .image(error)
    }
    return try model.input(of: image, in: request, &timings)
  }

  private func cached(_ digest: ImageDigest) -> ImageInput? {
    state.withLock { state in
      state.uses += 1
      state.entries[digest]?.lastUse = state.uses
      return state.entries[digest]?.image
    }
  }

  /// Adds an image, and evicts the least recently used ones.
  private func keep(_ image: ImageInput, _ digest: ImageDigest) {
    let byteCount = image.byteCount(columns: model.llava.configuration.text.hiddenSize)
    state.withLock { state in
      state.entries[digest] = Entry(image: image, byteCount: byteCount, lastUse: state.uses)
      state.byteCount += byteCount
      while state.byteCount > capacity, let oldest = state.entries.min(by: { $0.value.lastUse < $1.value.lastUse }) {
        state.entries[oldest.key] = nil
        state.byteCount -= oldest.value.byteCount
      }
    }
  }
}
