internal import LLaVA
internal import ModelFormats
internal import Synchronization

/// The pictures that were asked about last, so that each is decoded and encoded once for all who ask about it, and looked for
/// in the model's feature cache once.
final class PictureCache: Sendable {
  private struct Entry {
    var picture: PreparedPicture
    var byteCount: Int
    var lastUse: Int
  }

  private struct State {
    var entries: [PictureContent: Entry] = [:]
    var byteCount = 0
    var uses = 0
  }

  private let model: VisionLanguageModel
  private let capacity: Int
  private let state = Mutex(State())

  /// - Parameter capacity: Bytes that pictures may take which nobody is asking about.
  init(_ model: VisionLanguageModel, capacity: Int) {
    self.model = model
    self.capacity = capacity
  }

  /// A picture, known or made ready now; called by one thread at a time.
  ///
  /// - Throws: `ImageError`.
  func picture(
    _ picture: Request.Picture, appliesOrientation: Bool, _ timings: inout RunReport.Timings
  ) throws -> PreparedPicture {
    guard let file = try PictureFile(picture, &timings) else {
      return try model.prepared(picture, appliesOrientation: appliesOrientation, &timings)
    }
    let content = PictureContent(file.bytes, appliesOrientation: appliesOrientation)
    if let known = known(content) { return known }
    let prepared = try model.prepared(file, content, &timings)
    keep(prepared, content)
    return prepared
  }

  private func known(_ content: PictureContent) -> PreparedPicture? {
    state.withLock { state in
      state.uses += 1
      state.entries[content]?.lastUse = state.uses
      return state.entries[content]?.picture
    }
  }

  /// Keeps a picture, and lets go of those that were not asked about for the longest time.
  private func keep(_ picture: PreparedPicture, _ content: PictureContent) {
    let byteCount = picture.byteCount(columns: model.llava.configuration.text.hiddenSize)
    state.withLock { state in
      state.entries[content] = Entry(picture: picture, byteCount: byteCount, lastUse: state.uses)
      state.byteCount += byteCount
      while state.byteCount > capacity, let oldest = state.entries.min(by: { $0.value.lastUse < $1.value.lastUse }) {
        state.entries[oldest.key] = nil
        state.byteCount -= oldest.value.byteCount
      }
    }
  }
}
