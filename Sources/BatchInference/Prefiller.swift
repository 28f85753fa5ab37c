import Kernels
import LLaVA
import ModelFormats
import PDrop

/// Reads prompts, one after the other, in working memory that they share.
struct Prefiller: ~Copyable {
  private let model: VisionLanguageModel
  private(set) var memory: MemoryAccount
  private(set) var sharing = ReuseStatistics()
  var state: DecoderState
  /// The beginning that was shared last.
  private var shared: CachedPrefix?
  /// Whether products give the same bits in parts; `nil` until that is asked.
  private var splitsMatmuls: Bool?

  init(_ model: VisionLanguageModel, _ plan: MemoryPlan) {
    self.model = model
    memory = MemoryAccount(plan)
    state = DecoderState(model.llava.configuration.text)
  }

  // MARK: - Memory

  /// Whether there is room for a record; lets go of what can be computed again to make some.
  ///
  /// - Parameter isAlone: Whether no other record is active; then there is room for each that the plan does not refuse.
  mutating func ensureCapacity(for request: PreparedRequest, isAlone: Bool) -> Bool {
    if memory.fits(request) { return true }
    dropShared()
    if memory.fits(request) { return true }
    guard isAlone else { return false }
    state = DecoderState(model.llava.configuration.text)
    memory = MemoryAccount(memory.plan)
    return true
  }

  /// Takes back the memory of a record that is answered.
  mutating func release(_ answer: ActiveSequence) { memory.release(answer.reservedBytes) }

  private mutating func dropShared() {
    if let shared { memory.release(shared.prefix.byteCount) }
    shared = nil
  }

  // MARK: - Prompts

  /// What reading a prompt has left.
  struct Prefilled {
    let record: RunReport
    let cache: KVCache
    /// What is reserved for the cache, to the longest answer.
    let reservedBytes: Int
    /// Those after the prompt.
    let logits: [Float]
  }

  /// Runs a prompt through the model; the answer has its first token, or is complete.
  ///
  /// - Parameter next: The records that come next, asked only when the images have been encoded.
  /// - Throws: `SequenceError` for a token that the model does not know.
  mutating func read(
    _ prepared: PreparedRequest, for question: BatchJob.Question, before next: () -> [PreparedRequest],
    on compute: ComputeContext
  ) throws -> ActiveSequence {
    let prompt = try prefilled(prepared, before: next, on: compute)
    var answer = ActiveSequence(
      question, GenerationState(model, prepared.request.options, prompt.record, maxNewTokens: prepared.maxNewTokens),
      prompt.cache, reservedBytes: prompt.reservedBytes)
    answer.grow(by: prompt.logits)
    return answer
  }

  /// Runs a prompt through the model.
  mutating func prefilled(
    _ prepared: PreparedRequest, before next: () -> [PreparedRequest], on compute: ComputeContext
  ) throws -> Prefilled {
    let languageModel = model.llava.languageModel
    compute.beginRequest()
    count(prepared.images)
    let features = model.features(of: prepared.images, on: compute)
    compute.ledger = CostLedger()
    var layout = try languageModel.splice(
      &state.hidden, tokens: prepared.record.promptTokens, placeholder: model.imageToken, features: features,
      featureCounts: prepared.images.map(\.tokenCount), limit: prepared.record.sequenceLength)
    var record = prepared.record
    record.imageSpans = layout.visualBlocks.map { [$0.rows.lowerBound, $0.rows.count] }

    let reservedBytes = memory.begin(prepared)
    let shared = share(prepared, layout, next, on: compute)
    let cache =
      shared?.prefix.cache.copy(rows: layout.rowCount + prepared.maxNewTokens)
      ?? KVCache(model.llava.configuration.text, element: model.precision.cacheElement)
    let drops = languageModel.prefill(
      &state, cache, &layout, prepared.plan, after: shared?.prefix, reservedRows: prepared.maxNewTokens, on: compute)
    let logits = languageModel.logits(state, on: compute)
    record.stages = drops.map(RunReport.Stage.init)
    record.cacheLengthsAfterPrompt = cache.lengths

    record.flops = RunReport.Flops(compute.ledger)
    record.flops.prefill += shared?.flops ?? 0
    // Whoever was the first to need the images.
    for image in prepared.images { record.flops += image.knownFlops ?? RunReport.Flops() }
    record.milliseconds.add(compute.durations)
    return Prefilled(record: record, cache: cache, reservedBytes: reservedBytes, logits: logits)
  }

  /// The beginning of a prompt that is known, or is computed now as one of the next begins alike; of the prompt's rows those
  /// after it are left in `state.hidden`.
  private mutating func share(
    _ prepared: PreparedRequest, _ layout: SequenceLayout, _ next: () -> [PreparedRequest], on compute: ComputeContext
  ) -> CachedPrefix? {
    guard let start = start(of: prepared), let rows = layout.prefixRowCount else { return nil }
    var rest = Matrix(rows: 0, columns: state.hidden.columns)
    if let shared, shared.start == start {
      sharing.prefixCacheHits += 1
      sharing.flops += shared.flops
      rest.assign(state.hidden, rows: rows..<layout.rowCount)
      state.hidden.assign(rest, rows: 0..<rest.rows)
      return shared
    }
    let bytes = prefixBytes(rows: rows, depth: start.depth)
    dropShared()
    guard next().contains(where: { self.start(of: $0) == start }), memory.hasCapacity(for: bytes),
      canSplit(rows: layout.rowCount, first: rows, on: compute)
    else { return nil }

    rest.assign(state.hidden, rows: rows..<layout.rowCount)
    state.hidden.resize(rows: rows)
    let cache = KVCache(model.llava.configuration.text, element: model.precision.cacheElement)
    let prefix = model.llava.languageModel.prefix(&state, cache, depth: start.depth, reservedRows: 0, on: compute)
    state.hidden.assign(rest, rows: 0..<rest.rows)
    let shared = CachedPrefix(start: start, prefix: prefix, flops: RunReport.Flops(compute.ledger).prefill)
    compute.ledger = CostLedger()
    memory.hold(prefix.byteCount)
    self.shared = shared
    return shared
  }

  private func start(of request: PreparedRequest) -> PrefixKey? {
    PrefixKey(request, imageToken: model.imageToken, layerCount: model.layerCount)
  }

  private func prefixBytes(rows: Int, depth: Int) -> Int {
    let text = model.llava.configuration.text
    return KVCache.byteCount(
      rowsPerLayer: Array(repeating: rows, count: depth), text, element: model.precision.cacheElement)
      + rows * text.hiddenSize * ElementType.f32.byteCount
  }

  /// Whether prompts give the same bits in two parts, tried out on this machine once.
  private mutating func canSplit(rows: Int, first: Int, on compute: ComputeContext) -> Bool {
    if let splitsMatmuls { return splitsMatmuls }
    let splits = model.llava.languageModel.splitsMatmuls(rows: rows, first: first, on: compute)
    compute.ledger = CostLedger()
    splitsMatmuls = splits
    return splits
  }

  /// Counts images that are asked about, before they are encoded.
  private mutating func count(_ images: [ImageInput]) {
    let known = images.compactMap(\.knownFlops)
    sharing.imagesRequested += images.count
    sharing.imagesEncoded += images.count - known.count
    sharing.flops += known.reduce(0) { $0 + $1.total }
  }
}

/// How a prompt begins, up to and including its last image.
struct PrefixKey: Equatable {
  let tokens: [Int]
  let images: [ImageInput]
  /// Layers that see all of it.
  let depth: Int

  /// `nil` for a prompt without images.
  init?(_ request: PreparedRequest, imageToken: Int, layerCount: Int) {
    guard let last = request.record.promptTokens.lastIndex(of: imageToken) else { return nil }
    tokens = Array(request.record.promptTokens[...last])
    images = request.images
    depth = request.plan.depth(layerCount: layerCount)
  }

  static func == (left: Self, right: Self) -> Bool {
    left.depth == right.depth && left.tokens == right.tokens && left.images.elementsEqual(right.images, by: ===)
  }
}

/// What the beginning of a prompt has become in the layers that see all of it, for all records that begin alike.
struct CachedPrefix {
  let start: PrefixKey
  let prefix: PrefixCacheEntry
  /// What reading it cost, which every record reports as if it had been alone.
  let flops: Int
}

/// What was asked for more than once and computed once, or was known from an earlier run.
package struct ReuseStatistics: Sendable, Equatable {
  /// Images of all records.
  package var imagesRequested = 0
  /// Those of them that had to be encoded.
  package var imagesEncoded = 0
  /// Records whose prompt began as another's whose beginning was still known.
  package var prefixCacheHits = 0
  /// Operations that records report and that were not done again.
  package var flops = 0
}
