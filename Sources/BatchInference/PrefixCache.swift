import Kernels
import LLaVA
import ModelFormats
import PDrop

/// The prefix cache of an engine: the entries of the prefixes that were used last.
///
/// A prefix reaches up to and including the last image of a prompt. A cache of one entry computes a prefix by itself only
/// when one of the next requests has the same one, or for the prompt cache; a cache of several always does.
struct PrefixCache {
  private let limit: Int
  private let hiddenSize: Int
  /// The one that was used last is the last.
  private var entries: [CachedPrefix] = []

  /// - Parameters:
  ///   - limit: Maximum number of entries.
  ///   - hiddenSize: Values of a visual token.
  init(limit: Int, hiddenSize: Int) { (self.limit, self.hiddenSize) = (max(1, limit), hiddenSize) }

  private var holdsSeveral: Bool { limit > 1 }

  /// Removes the entry whose last use is the longest ago; returns whether there was one.
  mutating func removeOldest(_ memory: inout MemoryAccount) -> Bool {
    guard let oldest = entries.first else { return false }
    memory.release(byteCount(oldest))
    entries.removeFirst()
    return true
  }

  /// Whether a prefix is in memory.
  func contains(_ key: PrefixKey) -> Bool { entries.contains { $0.key == key } }

  /// The prefix of a request that is in memory or in the prompt cache.
  ///
  /// - Parameter memory: Charged for a new entry.
  mutating func prefix(
    _ key: PrefixKey, of request: PreparedRequest, memory: inout MemoryAccount, _ generator: inout Generator
  ) -> CachedPrefix? {
    if let index = entries.firstIndex(where: { $0.key == key }) {
      let entry = entries.remove(at: index)
      entries.append(entry)
      return entry
    }
    while entries.count >= limit, removeOldest(&memory) {}
    // The file is in memory next to the entry that is read from it.
    guard let cache = generator.model.promptCache(for: request),
      memory.fits(request, and: 2 * cache.byteCount(key, generator.model)),
      let saved = generator.savedPrefix(key, of: request)
    else { return nil }
    keep(saved, &memory)
    return saved
  }

  /// The prefix of an embedded prompt, computed for the requests to come or for the prompt cache; the generator's rows
  /// are then those after it.
  ///
  /// - Parameters:
  ///   - selected: The tokens of each image that are embedded; `nil` for all.
  ///   - next: The requests that come next.
  ///   - memory: Charged for a new entry.
  /// - Returns: `nil` when the prompt shares no prefix.
  mutating func computed(
    _ key: PrefixKey, of request: PreparedRequest, _ selected: [ImageInput.Selected]?, next: [PreparedRequest],
    memory: inout MemoryAccount, _ generator: inout Generator
  ) -> CachedPrefix? {
    let model = generator.model
    let isStored = model.promptCache(for: request) != nil
    // The hidden states are copied to be stored.
    let copied = isStored ? Self.hiddenBytes(key, model) : 0
    guard isStored || holdsSeveral || next.contains(where: { PrefixKey($0, model) == key }) else { return nil }
    let bytes = Self.byteCount(key, model) + imageBytes(key) + copied
    while !memory.hasCapacity(for: bytes), removeOldest(&memory) {}
    guard memory.hasCapacity(for: bytes),
      let prefix = generator.takePrefix(key, of: request, selected)
    else { return nil }
    keep(prefix, &memory)
    return prefix
  }

  private mutating func keep(_ prefix: CachedPrefix, _ memory: inout MemoryAccount) {
    memory.reserve(byteCount(prefix))
    entries.append(prefix)
  }

  private func byteCount(_ prefix: CachedPrefix) -> Int {
    prefix.entry.byteCount + imageBytes(prefix.key)
  }

  /// Bytes of the images of a prefix. With several entries, most are not in the image cache any more.
  private func imageBytes(_ key: PrefixKey) -> Int {
    holdsSeveral ? key.images.reduce(0) { $0 + $1.byteCount(columns: hiddenSize) } : 0
  }

  private static func byteCount(_ key: PrefixKey, _ model: VisionLanguageModel) -> Int {
    let text = model.llava.configuration.text
    return KVCache.byteCount(
      rowsPerLayer: Array(repeating: key.rowCount, count: key.depth), text, type: model.precision.cacheType)
      + hiddenBytes(key, model)
  }

  private static func hiddenBytes(_ key: PrefixKey, _ model: VisionLanguageModel) -> Int {
    key.rowCount * model.llava.configuration.text.hiddenSize * ElementType.f32.byteCount
  }
}

/// Work that records of a batch share, or that the feature cache and the prompt cache made unnecessary.
package struct ReuseStatistics: Sendable, Equatable {
  /// Images of all records.
  package var imagesRequested = 0
  /// Images that were encoded.
  package var imagesEncoded = 0
  /// Records whose prompt prefix was in the prefix cache, in memory.
  package var prefixCacheHits = 0
  /// Operations that records report and that were not repeated.
  package var flops = 0
}
