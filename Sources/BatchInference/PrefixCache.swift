import Kernels
import LLaVA
import ModelFormats
import PDrop

/// The prefix cache of a batch: the entry of the prefix that was shared last.
///
/// A prefix reaches up to and including the last image of a prompt. It is computed by itself only when one of the next
/// requests has the same one.
struct PrefixCache {
  private var entry: (key: PrefixKey, prefix: PrefixCacheEntry)?

  /// Bytes of the entry.
  var byteCount: Int { entry?.prefix.byteCount ?? 0 }

  mutating func removeAll() { entry = nil }

  /// The prefix of an embedded prompt, from the cache or computed for the requests to come; the generator's rows are
  /// then those after it.
  ///
  /// - Parameters:
  ///   - next: The requests that come next.
  ///   - memory: Charged for a new entry.
  /// - Returns: `nil` when the prompt shares no prefix.
  mutating func prefix(
    of prompt: borrowing EmbeddedPrompt, next: [PreparedRequest], memory: inout MemoryAccount,
    reuse: inout ReuseStatistics, _ generator: inout Generator
  ) -> PrefixCacheEntry? {
    guard let key = PrefixKey(prompt.request, generator.model), let rows = prompt.layout.prefixRowCount else {
      return nil
    }
    if let entry, entry.key == key {
      reuse.prefixCacheHits += 1
      reuse.flops += 2 * entry.prefix.multiplyAdds
      generator.skipPrefix(rows: rows)
      return entry.prefix
    }
    memory.release(byteCount)
    removeAll()
    guard next.contains(where: { PrefixKey($0, generator.model) == key }),
      memory.hasCapacity(for: Self.byteCount(rows: rows, depth: key.depth, generator.model)),
      generator.canSplit(rows: prompt.layout.rowCount, first: rows)
    else { return nil }
    let prefix = generator.takePrefix(rows: rows, depth: key.depth)
    memory.reserve(prefix.byteCount)
    entry = (key, prefix)
    return prefix
  }

  private static func byteCount(rows: Int, depth: Int, _ model: VisionLanguageModel) -> Int {
    let text = model.llava.configuration.text
    return KVCache.byteCount(
      rowsPerLayer: Array(repeating: rows, count: depth), text, type: model.precision.cacheType)
      + rows * text.hiddenSize * ElementType.f32.byteCount
  }
}

/// The beginning of a prompt, up to and including its last image.
struct PrefixKey: Equatable {
  let tokens: [Int]
  let images: [ImageInput]
  /// Number of layers before the first drop, which see all of it.
  let depth: Int

  /// `nil` for a prompt without images.
  init?(_ request: PreparedRequest, _ model: VisionLanguageModel) {
    guard let last = request.report.promptTokens.lastIndex(of: model.imageToken) else { return nil }
    tokens = Array(request.report.promptTokens[...last])
    images = request.images
    depth = request.plan.depth(layerCount: model.layerCount)
  }

  static func == (left: Self, right: Self) -> Bool {
    left.depth == right.depth && left.tokens == right.tokens && left.images.elementsEqual(right.images, by: ===)
  }
}

/// Work that records of a batch share, or that a feature cache made unnecessary.
package struct ReuseStatistics: Sendable, Equatable {
  /// Images of all records.
  package var imagesRequested = 0
  /// Images that were encoded.
  package var imagesEncoded = 0
  /// Records whose prompt prefix was in the prefix cache.
  package var prefixCacheHits = 0
  /// Operations that records report and that were not repeated.
  package var flops = 0
}
