import Dispatch
import ImageProcessing
import LLaVA
import ModelFormats
import PDrop
import Storage
import Synchronization
import TokenDropping

/// Tokenization and image preprocessing of requests, one after the other on a thread of its own while the model
/// computes.
final class RequestPreparation: Sendable {
  typealias Outcome = Result<PreparedRequest, RecordFailure>

  /// A request that is being prepared.
  final class Item: Sendable {
    enum State {
      case preparing
      /// A large image is decoded when its bytes are free.
      case needsMemory(Int)
      case done(Outcome)
    }

    let request: EngineRequest
    private let current = Mutex(State.preparing)
    private let isGivenUp = Atomic(false)
    private let change = DispatchSemaphore(value: 0)
    private let permission = DispatchSemaphore(value: 0)

    fileprivate init(_ request: EngineRequest) { self.request = request }

    fileprivate func complete(_ outcome: Outcome) { set(.done(outcome)) }

    /// Waits until the memory for a large image is granted, or the item is abandoned.
    fileprivate func waitForMemory(_ bytes: Int) {
      guard !isAbandoned else { return }
      set(.needsMemory(bytes))
      permission.wait()
    }

    /// Whether the result is not used any more.
    fileprivate var isAbandoned: Bool { isGivenUp.load(ordering: .acquiring) }

    private func set(_ state: State) {
      current.withLock { $0 = state }
      change.signal()
    }

    var state: State { current.withLock { $0 } }

    /// The result, if ready.
    var present: Outcome? {
      if case .done(let outcome) = state { outcome } else { nil }
    }

    /// The state, once the item has a result or needs memory.
    func wait() -> State {
      while true {
        if case .preparing = state { change.wait() } else { return state }
      }
    }

    /// Grants the memory that the item needs.
    func grantMemory() {
      current.withLock { $0 = .preparing }
      permission.signal()
    }

    /// Ends the preparation at the next image, as the result is not used any more.
    func abandon() {
      isGivenUp.store(true, ordering: .releasing)
      permission.signal()
    }
  }

  private let queue = BackgroundQueue()
  private let model: VisionLanguageModel
  private let images: ImageCache
  private let plan: MemoryPlan
  private let threads: Int

  /// - Parameter threads: The thread count of the reports.
  init(_ model: VisionLanguageModel, _ plan: MemoryPlan, threads: Int) {
    (self.model, self.plan, self.threads) = (model, plan, threads)
    images = ImageCache(model, plan)
  }

  func begin(_ request: EngineRequest) -> Item {
    let item = Item(request)
    queue.add { [model, images, plan, threads] in
      item.complete(
        Result {
          try PreparedRequest(
            request.request, for: model, threads: threads, images: ItemImages(cache: images, item: item))
        }
        .mapError(plan.preparationError))
    }
    return item
  }

  /// The images of an item, whose large ones wait for memory.
  private struct ItemImages: ImageSource {
    let cache: ImageCache
    let item: Item

    func input(
      of image: Request.Image, in request: Request, _ timings: inout RunReport.Timings
    ) throws(RequestError) -> ImageInput {
      // The result of an abandoned item is not read.
      guard !item.isAbandoned else { throw .sequence(.empty) }
      return try cache.input(of: image, in: request, &timings) { byteCount throws(ImageError) in
        let bytes = MemoryPlan.additionalBytes(decoding: byteCount)
        if bytes > 0 { item.waitForMemory(bytes) }
        guard !item.isAbandoned else { throw .emptyFile(name: "") }
      }
    }
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
    var largestDecoding = 0
  }

  private let model: VisionLanguageModel
  /// Maximum number of bytes of images that no active record uses.
  private let capacity: Int
  private let decodingLimit: Int
  private let state = Mutex(State())

  init(_ model: VisionLanguageModel, _ plan: MemoryPlan) {
    self.model = model
    (capacity, decodingLimit) = (plan.images, plan.decodingLimit)
  }

  /// Maximum bytes that decoding an image took.
  var largestDecoding: Int { state.withLock { $0.largestDecoding } }

  func input(
    of image: Request.Image, in request: Request, _ timings: inout RunReport.Timings
  ) throws(RequestError) -> ImageInput {
    try input(of: image, in: request, &timings) { _ in }
  }

  /// Called by one thread at a time.
  ///
  /// - Parameter willDecode: Called with the bytes that decoding takes, before they are allocated; may refuse them.
  func input(
    of image: Request.Image, in request: Request, _ timings: inout RunReport.Timings,
    willDecode: (Int) throws(ImageError) -> Void
  ) throws(RequestError) -> ImageInput {
    do {
      if let file = try ImageFile(image, &timings) {
        let digest = ImageDigest(file.bytes, request.handling(by: model))
        let forSelection = request.policy.preselection != nil
        if let cached = cached(digest), cached.views != nil || !request.needsPixels,
          !forSelection || cached.hasSelectionInputs
        {
          return cached
        }
        let input = try model.input(
          of: file, digest, &timings, memoryLimit: decodingLimit, needsPixels: request.needsPixels,
          forSelection: forSelection
        ) { byteCount throws(ImageError) in
          state.withLock { $0.largestDecoding = max($0.largestDecoding, byteCount) }
          try willDecode(byteCount)
        }
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
      state.byteCount -= state.entries[digest]?.byteCount ?? 0
      state.entries[digest] = Entry(image: image, byteCount: byteCount, lastUse: state.uses)
      state.byteCount += byteCount
      while state.byteCount > capacity, let oldest = state.entries.min(by: { $0.value.lastUse < $1.value.lastUse }) {
        state.entries[oldest.key] = nil
        state.byteCount -= oldest.value.byteCount
      }
    }
  }
}
