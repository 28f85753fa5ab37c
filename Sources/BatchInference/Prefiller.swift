import Kernels
import LLaVA
import ModelFormats
import PDrop

/// Prefill of the requests of an engine: a generator within a memory plan, with a prefix cache.
struct Prefiller: ~Copyable {
  var generator: Generator
  var memory: MemoryAccount
  private(set) var reuse = ReuseStatistics()
  private var prefixCache: PrefixCache

  /// - Parameter prefixLimit: Maximum number of prefixes in memory.
  init(_ model: VisionLanguageModel, _ plan: MemoryPlan, threads: Int, prefixLimit: Int = 1) {
    generator = Generator(model, threads: threads)
    memory = MemoryAccount(plan)
    prefixCache = PrefixCache(limit: prefixLimit, hiddenSize: model.llava.configuration.text.hiddenSize)
  }

  /// The request, or the failure of one that does not fit into memory even alone.
  func checked(_ request: PreparedRequest) -> RequestPreparation.Outcome {
    memory.plan.memoryError(request).map(Result.failure) ?? .success(request)
  }

  /// Whether memory suffices for a request; frees what can be computed again if it does not.
  ///
  /// - Parameter isAlone: Whether no other request is active; then every request that the plan accepts fits.
  mutating func ensureCapacity(for request: PreparedRequest, isAlone: Bool) -> Bool {
    ensureCapacity(isAlone: isAlone) { $0.fits(request) }
  }

  /// Whether a number of bytes that the plan accepts is free; frees what can be computed again if it is not.
  mutating func ensureCapacity(for bytes: Int, isAlone: Bool) -> Bool {
    ensureCapacity(isAlone: isAlone) { $0.hasCapacity(for: bytes) }
  }

  private mutating func ensureCapacity(isAlone: Bool, _ fits: (MemoryAccount) -> Bool) -> Bool {
    repeat {
      if fits(memory) { return true }
    } while prefixCache.removeOldest(&memory)
    guard isAlone else { return false }
    generator.releaseMemory()
    memory = MemoryAccount(memory.plan)
    return true
  }

  /// A request after its prefill.
  struct Begun {
    var prefilled: Prefilled
    /// Bytes that are reserved for its KV cache, up to the longest answer.
    var reservedBytes: Int
    /// Tokens of the prompt that were in a cache.
    var cachedTokens: Int
  }

  /// Prefills the prompt of a request.
  ///
  /// - Parameters:
  ///   - next: The requests that come next, which may share its prefix.
  ///   - checkpoint: As `ComputeContext.checkpoint`.
  /// - Returns: `nil` if `checkpoint` cancels the prefill.
  /// - Throws: `SequenceError` for a token outside the vocabulary.
  mutating func prefill(
    _ request: PreparedRequest, next: [PreparedRequest], checkpoint: () -> Bool
  ) throws(SequenceError) -> Begun? {
    let result = withoutActuallyEscaping(checkpoint) { checkpoint in
      generator.compute.checkpoint = checkpoint
      defer { generator.compute.checkpoint = nil }
      return Result { () throws(SequenceError) in try prefill(request, next: next) }
    }
    return try result.get()
  }

  /// Prefills the prompt of a request.
  ///
  /// - Returns: `nil` if the generator's computation is cancelled.
  mutating func prefill(_ request: PreparedRequest, next: [PreparedRequest]) throws(SequenceError) -> Begun? {
    reuse.imagesRequested += request.images.count
    let savedPrompt = generator.begin(
      request, usesPromptCache: readsPromptCache(request), reservedRows: request.maxNewTokens)
    if let savedPrompt {
      reuse.flops += savedPrompt.generation.report.flops.total
      return Begun(
        prefilled: savedPrompt, reservedBytes: memory.begin(request), cachedTokens: request.report.sequenceLength)
    }

    let cached = request.images.map(\.knownFlops)
    let key = PrefixKey(request, generator.model)
    let isInMemory = key.map(prefixCache.contains) ?? false
    var prefix: CachedPrefix?
    if let key { prefix = prefixCache.prefix(key, of: request, memory: &memory, &generator) }
    let cachedTokens = prefix?.key.rowCount ?? 0
    if prefix == nil { reuse.imagesEncoded += cached.count { $0 == nil } }
    let prompt = try generator.embed(request, after: prefix)
    let reservedBytes = memory.begin(request)
    reuse.flops += cached.reduce(0) { $0 + ($1?.total ?? 0) }
    if let prefix {
      if isInMemory { reuse.prefixCacheHits += 1 }
      reuse.flops += 2 * prefix.entry.multiplyAdds
      for (index, image) in request.images.enumerated() where cached[index] == nil {
        reuse.flops += image.charged(prefix.imageFlops[index]).total
      }
    } else if let key {
      prefix = prefixCache.computed(key, of: request, prompt.selected, next: next, memory: &memory, &generator)
    }
    let prefilled = generator.prefill(prompt, after: prefix, reservedRows: request.maxNewTokens)
    guard !generator.compute.isCancelled else {
      memory.release(reservedBytes)
      return nil
    }
    return Begun(prefilled: prefilled, reservedBytes: reservedBytes, cachedTokens: cachedTokens)
  }

  /// Whether memory suffices for a file of the prompt cache next to the request's KV cache.
  private func readsPromptCache(_ request: PreparedRequest) -> Bool {
    guard let cache = generator.model.promptCache(for: request) else { return false }
    return memory.fits(request, and: cache.byteCount(request, generator.model))
  }
}
