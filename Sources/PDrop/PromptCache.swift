import ImageProcessing
import Kernels
import LLaVA
import ModelFormats
import Storage
import TokenDropping

/// A folder of prefilled prompts and prefixes that later runs reuse; see `PromptCacheOptions`.
///
/// Damaged files and an unusable folder are not errors: a warning is issued and the prompt is computed.
package final class PromptCache: Sendable {
  private enum Kind: String, CaseIterable {
    case prompt, prefix
  }

  private enum Field {
    static let selected = "selected"
    static let selectionFlops = "flops_selection"
    static let kept = "kept"
    static let multiplyAdds = "multiply_adds"
    static let prefill = "flops_prefill"
    static let rank = "flops_rank"
    static let head = "flops_head"
    static let images = "flops_images"
  }

  /// A prompt after its prefill.
  struct Prompt {
    let cache: KVCache
    /// The logits of the first token, `[N]`.
    let logits: [Float]
    /// Indices of the tokens of each image that entered the decoder; `nil` for all.
    let selected: [[Int]]?
    let drops: [DropResult]
    /// Operations of prefill, selection, ranking and head.
    let flops: RunReport.Flops
    /// Operations of encoding each image.
    let imageFlops: [RunReport.Flops]
  }

  private static let consequence = "continuing without storing more prompts"

  private let modelKey: String
  /// Checksum of CLIP's weights, for selections that use them.
  private let clipKey: String?
  private let folder: CacheFolder<PromptCacheStatistics>

  /// - Parameters:
  ///   - clipKey: Checksum of CLIP's weights; `nil` without them.
  ///   - modelKey: Checksum of everything else but the request that results depend on.
  init(_ options: PromptCacheOptions, clipKey: String? = nil, modelKey: String) {
    (self.modelKey, self.clipKey) = (modelKey, clipKey)
    folder = CacheFolder(
      options.directory, byteLimit: options.byteLimit, kinds: Kind.allCases.map(\.rawValue), warnsOfEachFile: false
    ) { options.warn("prompt cache: \($0)") }
  }

  package var report: PromptCacheStatistics { folder.statistics }

  // MARK: - Prompts

  /// Maximum bytes of the file of a prompt.
  package func byteCount(_ request: PreparedRequest, _ model: VisionLanguageModel) -> Int {
    Self.layout(request, model).byteCount(
      key: fullKey(PromptCacheKey(prompt: request, clipKey: clipKey)), fields: Self.fieldBytes(request))
  }

  // The methods below take only requests that `VisionLanguageModel.promptCache(for:)` accepts.

  /// A request's prompt with capacity for more rows; `nil` if it is not in the cache.
  func prompt(
    of request: PreparedRequest, for model: VisionLanguageModel, reservedRows: Int, _ workers: Workers
  ) -> Prompt? {
    let key = PromptCacheKey(prompt: request, clipKey: clipKey)
    let (path, layout) = (path(.prompt, key), Self.layout(request, model))
    let limit = byteCount(request, model)
    var bytes = 0
    let found = folder.read(path, consequence: "computing the prompt again") { () throws(CacheFileError) in
      let file = try PromptFile(path, key: fullKey(key), layout, limit: limit, workers)
      bytes = file.byteCount
      return try Self.prompt(file, of: request, for: model, reservedRows: reservedRows)
    }
    guard let found else {
      folder.count { $0.misses += 1 }
      return nil
    }
    folder.count { statistics in
      statistics.hits += 1
      statistics.bytesRead += bytes
      statistics.flopsSaved += found.flops.total + Self.saved(found.imageFlops, request.images)
    }
    return found
  }

  private static func prompt(
    _ file: PromptFile, of request: PreparedRequest, for model: VisionLanguageModel, reservedRows: Int
  ) throws(CacheFileError) -> Prompt {
    let counts = request.images.map(\.tokenCount)
    let text = file.field(Field.kept) ?? ""
    let lists = request.plan.drops.isEmpty ? [] : text.split(separator: "/", omittingEmptySubsequences: false)
    let kept = lists.map { list in
      zip(list.split(separator: ";", omittingEmptySubsequences: false), counts).compactMap {
        TokenRuns(String($0), of: $1)?.tokens
      }
    }
    let selected = try selected(file, request.plan, counts)
    guard let layout = request.layout(for: model, selected: selected),
      let drops = request.plan.replayed(on: layout, keeping: kept)
    else {
      throw file.unusable("its list of kept tokens is missing or damaged")
    }
    let positions = (0..<model.layerCount).map { layer in
      drops.nextPositions[request.plan.drops.count { $0.afterLayer <= layer }]
    }
    // A forged cost must not overflow sums; ranking costs less than the prompt.
    let limit = 0...2 * max(request.report.baselineFlops, 1)
    var flops = RunReport.Flops()
    flops.prefill = try file.number(Field.prefill, in: limit)
    flops.rank = try file.number(Field.rank, in: limit)
    flops.head = try file.number(Field.head, in: 0...1 << 46)
    return Prompt(
      cache: try file.cache(nextPositions: positions, reservedRows: reservedRows),
      logits: try file.floats().values, selected: selected,
      drops: drops.results, flops: flops, imageFlops: try imageFlops(file, count: counts.count))
  }

  /// Stores a prompt after its prefill, if the folder is writable.
  func keep(_ prompt: Prompt, of request: PreparedRequest, for model: VisionLanguageModel) {
    guard prompt.cache.lengths == request.rowsPerLayer,
      prompt.drops.count == request.plan.drops.count
    else { return }
    let kept = prompt.drops.map { drop in drop.images.map { TokenRuns($0.kept).text }.joined(separator: ";") }
    let fields = [
      Field.kept: kept.joined(separator: "/"), Field.prefill: "\(prompt.flops.prefill)",
      Field.rank: "\(prompt.flops.rank)", Field.head: "\(prompt.flops.head)",
      Field.images: Self.text(prompt.imageFlops),
    ].merging(prompt.selected.map { [Field.selected: Self.text($0)] } ?? [:]) { $1 }
    write(
      .prompt, PromptCacheKey(prompt: request, clipKey: clipKey), Self.layout(request, model), prompt.cache,
      fields: fields,
      fieldBytes: Self.fieldBytes(request)
    ) { SharedBytes(copying: prompt.logits) }
  }

  private static func layout(_ request: PreparedRequest, _ model: VisionLanguageModel) -> PromptFile.Layout {
    PromptFile.Layout(
      prompt: request.rowsPerLayer, model.llava.configuration.text, model.precision.cacheType)
  }

  /// Maximum bytes of the metadata: two numbers for each kept token and for each image.
  private static func fieldBytes(_ request: PreparedRequest) -> Int {
    let tokens = request.visualTokenCounts.reduce(0, +)
    return 16 * tokens * (1 + request.plan.drops.count) + 64 * (request.images.count + 4)
      * (1 + request.plan.drops.count)
  }

  // MARK: - Prefixes

  /// Maximum bytes of the metadata: two numbers for each token, and those of each image.
  private static func fieldBytes(_ prefix: PrefixKey) -> Int {
    (prefix.preselection == nil ? 0 : 16 * prefix.rowCount) + 64 * (prefix.images.count + 4)
  }

  /// Maximum bytes of the file of a prefix.
  package func byteCount(_ prefix: PrefixKey, _ model: VisionLanguageModel) -> Int {
    Self.layout(prefix, model).byteCount(key: fullKey(PromptCacheKey(prefix: prefix)), fields: Self.fieldBytes(prefix))
  }

  /// A request's prefix; `nil` if it is not in the cache.
  func prefix(_ prefix: PrefixKey, of request: PreparedRequest, for model: VisionLanguageModel, _ workers: Workers)
    -> CachedPrefix?
  {
    let key = PromptCacheKey(prefix: prefix)
    let (path, layout) = (path(.prefix, key), Self.layout(prefix, model))
    let limit = byteCount(prefix, model)
    var bytes = 0
    let found = folder.read(path, consequence: "computing the prefix again") { () throws(CacheFileError) in
      let file = try PromptFile(path, key: fullKey(key), layout, limit: limit, workers)
      bytes = file.byteCount
      let cache = try file.cache(
        nextPositions: Array(repeating: prefix.rowCount, count: prefix.depth), reservedRows: 0)
      let entry = PrefixCacheEntry(
        rowCount: prefix.rowCount,
        hidden: try file.floats(), cache: cache,
        multiplyAdds: try file.number(Field.multiplyAdds, in: 0...max(request.report.baselineFlops, 1)))
      var selected: [ImageInput.Selected]?
      if let tokens = try Self.selected(file, request.plan, prefix.images.map(\.tokenCount)) {
        // A forged cost must not overflow sums.
        let flops = try file.number(Field.selectionFlops, in: 0...1 << 46)
        selected = tokens.enumerated().map { .init(tokens: $1, flops: $0 == 0 ? flops : 0) }
      }
      return CachedPrefix(
        key: prefix, entry: entry, imageFlops: try Self.imageFlops(file, count: prefix.images.count),
        selected: selected)
    }
    guard let found else { return nil }
    folder.count { statistics in
      statistics.prefixHits += 1
      statistics.bytesRead += bytes
      statistics.flopsSaved += 2 * found.entry.multiplyAdds + Self.saved(found.imageFlops, request.images)
    }
    return found
  }

  /// Stores a prefix, if the folder is writable.
  func keep(_ prefix: CachedPrefix, for model: VisionLanguageModel) {
    var fields = [
      Field.multiplyAdds: "\(prefix.entry.multiplyAdds)", Field.images: Self.text(prefix.imageFlops),
    ]
    if let selected = prefix.selected {
      fields[Field.selected] = Self.text(selected.map(\.tokens))
      fields[Field.selectionFlops] = "\(selected.reduce(0) { $0 + $1.flops })"
    }
    write(
      .prefix, PromptCacheKey(prefix: prefix.key), Self.layout(prefix.key, model), prefix.entry.cache,
      fields: fields, fieldBytes: Self.fieldBytes(prefix.key)
    ) { prefix.entry.hidden.storedValues() }
  }

  private static func layout(_ prefix: PrefixKey, _ model: VisionLanguageModel) -> PromptFile.Layout {
    PromptFile.Layout(
      prefix: prefix.rowCount, depth: prefix.depth, model.llava.configuration.text, model.precision.cacheType)
  }

  // MARK: - Files

  private func write(
    _ kind: Kind, _ key: PromptCacheKey, _ layout: PromptFile.Layout, _ cache: KVCache, fields: [String: String],
    fieldBytes: Int, floats: () -> SharedBytes
  ) {
    let path = path(kind, key)
    folder.write(
      byteCount: layout.byteCount(key: fullKey(key), fields: fieldBytes), consequence: Self.consequence
    ) { () throws(FileError) in
      try PromptFile.write(layout, floats: floats, cache, fields: fields, key: fullKey(key), to: path)
    }
  }

  private func path(_ kind: Kind, _ key: PromptCacheKey) -> String {
    folder.path(of: CacheFileName(kind.rawValue, content: key.digest, modelKey: modelKey))
  }

  /// The key in the file's metadata, which is more specific than its name.
  private func fullKey(_ key: PromptCacheKey) -> String { "\(key.text), \(modelKey)" }

  /// Operations of images that a request would have to encode.
  private static func saved(_ flops: [RunReport.Flops], _ images: [ImageInput]) -> Int {
    zip(flops, images).reduce(0) { $0 + ($1.1.knownFlops == nil ? $1.0.total : 0) }
  }

  private static func text(_ tokens: [[Int]]) -> String { tokens.map { TokenRuns($0).text }.joined(separator: ";") }

  /// The tokens of each image that entered the decoder, if the plan selects them.
  private static func selected(
    _ file: PromptFile, _ plan: DropPlan, _ counts: [Int]
  ) throws(CacheFileError) -> [[Int]]? {
    guard let selection = plan.selection else { return nil }
    let lists = (file.field(Field.selected) ?? "").split(separator: ";", omittingEmptySubsequences: false)
    let tokens = zip(lists, counts).compactMap { TokenRuns(String($0), of: $1)?.tokens }
    guard lists.count == counts.count, tokens.map(\.count) == selection.counts else {
      throw file.unusable("its list of selected tokens is missing or damaged")
    }
    return tokens
  }

  private static func text(_ flops: [RunReport.Flops]) -> String {
    flops.map { "\($0.encode)+\($0.project)" }.joined(separator: ",")
  }

  private static func imageFlops(_ file: PromptFile, count: Int) throws(CacheFileError) -> [RunReport.Flops] {
    let text = file.field(Field.images) ?? ""
    let flops = text.split(separator: ",").compactMap { pair -> RunReport.Flops? in
      let numbers = pair.split(separator: "+", omittingEmptySubsequences: false).map { FeatureFile.flops(String($0)) }
      guard numbers.count == 2, let encode = numbers[0], let project = numbers[1] else { return nil }
      return RunReport.Flops(encode: encode, project: project)
    }
    guard flops.count == count else { throw file.unusable("its cost of encoding is missing or damaged") }
    return flops
  }
}

extension VisionLanguageModel {
  /// The prompt cache, for requests that may use it: those that need no tensors or pixels, about images with an identity.
  package func promptCache(for request: PreparedRequest) -> PromptCache? {
    let isStored =
      !request.request.recordsTensors && !request.request.needsPixels && request.images.allSatisfy { $0.digest != nil }
    return isStored ? promptCache : nil
  }
}

extension PreparedRequest {
  /// The prompt before any drop; `nil` if images and their places in the prompt differ in number.
  ///
  /// - Parameter selected: Indices of the tokens of each image that enter the decoder; `nil` for the first ones.
  func layout(for model: VisionLanguageModel, selected: [[Int]]? = nil) -> SequenceLayout? {
    SequenceLayout(
      report.promptTokens, placeholder: model.imageToken, visualTokenCounts: visualTokenCounts, spans: visualSpans,
      selected: selected)
  }
}
