package import Kernels
package import LLaVA
import ModelFormats
import Synchronization

/// Prefill and decode: the one path from a prepared request to logits.
///
/// `Session` runs one sequence on it, the batch engine many, and the batch estimate measures it. It owns the compute
/// context and the working memory of the decoder, which sequences use one after the other.
package struct Generator: ~Copyable {
  package let model: VisionLanguageModel
  package let compute: ComputeContext
  private var state: DecoderState

  package init(_ model: VisionLanguageModel, threads: Int) {
    self.model = model
    compute = ComputeContext(workers: Workers(count: threads))
    state = DecoderState(model.llava.configuration.text)
  }

  /// Frees the working memory, which grows to the largest request so far.
  package mutating func releaseMemory() { state = DecoderState(model.llava.configuration.text) }

  // MARK: - Prefill

  /// Prefills the prompt of a request: all of it is in the prompt cache, or its prefix is, or it is computed.
  ///
  /// - Throws: `SequenceError` for a token outside the vocabulary.
  package mutating func prefill(
    _ prepared: PreparedRequest, reservedRows: Int
  ) throws(SequenceError) -> Prefilled {
    if let saved = begin(prepared, reservedRows: reservedRows) { return saved }
    guard model.promptCache(for: prepared) != nil, let key = PrefixKey(prepared, model) else {
      return prefill(try embed(prepared), reservedRows: reservedRows)
    }
    var prefix = savedPrefix(key, of: prepared)
    let prompt = try embed(prepared, after: prefix)
    if prefix == nil { prefix = takePrefix(key, of: prepared, prompt.selected) }
    return prefill(prompt, after: prefix, reservedRows: reservedRows)
  }

  /// Encodes the images of a request and splices their features into the prompt's embeddings, `[T, D]`.
  ///
  /// Follows `begin`. The rows stay in the working memory for `prefill`, which must follow before the next `embed`.
  ///
  /// - Parameter prefix: The result for the first rows, which are then left out; the images are not encoded.
  /// - Throws: `SequenceError` for a token outside the vocabulary.
  package mutating func embed(
    _ prepared: PreparedRequest, after prefix: CachedPrefix? = nil
  ) throws(SequenceError) -> EmbeddedPrompt {
    let selected = prefix == nil ? try select(prepared) : prefix?.selected
    let features =
      prefix == nil
      ? model.features(of: prepared.images, selected, on: compute)
      : Matrix(rows: prepared.visualTokenCounts.reduce(0, +), columns: model.llava.configuration.text.hiddenSize)
    // The cost of an image is charged by `prefill`, as the image may have been encoded for another request.
    compute.ledger = CostLedger()
    let layout = try model.llava.languageModel.splice(
      &state.hidden, tokens: prepared.report.promptTokens, placeholder: model.imageToken, features: features,
      featureCounts: prepared.visualTokenCounts, spans: prepared.visualSpans, selected: selected?.map(\.tokens),
      limit: prepared.report.sequenceLength)
    if let prefix { skipPrefix(rows: prefix.key.rowCount) }
    return EmbeddedPrompt(
      request: prepared, layout: layout, selected: selected,
      features: prepared.request.recordsTensors ? features.values : [])
  }

  /// The tokens of each image that enter the decoder; `nil` for all.
  private mutating func select(_ prepared: PreparedRequest) throws(SequenceError) -> [ImageInput.Selected]? {
    guard let selection = prepared.plan.selection else { return nil }
    var selected: [ImageInput.Selected] = []
    for image in prepared.images {
      selected.append(
        try image.selected(
          selection.preselection, question: prepared.question, by: model, on: compute))
    }
    return selected
  }

  /// Runs an embedded prompt through the decoder, dropping visual tokens as planned. If `compute` is cancelled, the
  /// result is incomplete.
  ///
  /// - Parameters:
  ///   - prefix: The result for the first rows, which `takePrefix` or `embed` has removed.
  ///   - reservedRows: KV capacity for rows that will be decoded; the cache grows beyond it if necessary.
  package mutating func prefill(
    _ prompt: consuming EmbeddedPrompt, after prefix: CachedPrefix? = nil, reservedRows: Int
  ) -> Prefilled {
    let (request, languageModel) = (prompt.request, model.llava.languageModel)
    let imageSpans = prompt.layout.visualSpans

    state.recordsLastRows = request.request.recordsTensors
    let cache =
      prefix?.entry.cache.copy(rows: prompt.layout.rowCount + reservedRows)
      ?? KVCache(model.llava.configuration.text, type: model.precision.cacheType)
    let drops = languageModel.prefill(
      &state, cache, &prompt.layout, request.plan, after: prefix?.entry, reservedRows: reservedRows, on: compute)
    let logits = languageModel.logits(state, on: compute)

    // Each request is charged as if it had been alone: for its images and for all rows of its prompt.
    var flops = RunReport.Flops(compute.ledger)
    flops.prefill += 2 * (prefix?.entry.multiplyAdds ?? 0)
    flops.rank += prompt.selected?.reduce(0) { $0 + $1.flops } ?? 0
    compute.ledger = CostLedger()
    let imageFlops = request.images.indices.map { index in
      request.images[index].encodingFlops ?? prefix?.imageFlops[index] ?? RunReport.Flops()
    }
    let result = PromptCache.Prompt(
      cache: cache, logits: logits, selected: prompt.selected?.map(\.tokens), drops: drops, flops: flops,
      imageFlops: imageFlops)
    if !compute.isCancelled { model.promptCache(for: request)?.keep(result, of: request, for: model) }

    var trace: TraceTensors?
    if request.request.recordsTensors {
      trace = TraceTensors(
        views: request.images.compactMap(\.views), features: prompt.features, lastLogits: logits, finalLogits: logits,
        lastRows: state.lastRows, selected: prompt.selected?.map(\.tokens), drops: drops)
      (state.recordsLastRows, state.lastRows) = (false, [])
    }
    return prefilled(result, of: request, imageSpans: imageSpans, trace)
  }

  /// The state and the report of a request after its prefill.
  private func prefilled(
    _ result: PromptCache.Prompt, of request: PreparedRequest, imageSpans: [[Int]], _ trace: TraceTensors?
  ) -> Prefilled {
    var report = request.report
    report.imageSpans = imageSpans
    if let selection = request.plan.selection, let selected = result.selected {
      report.selection = RunReport.Selection(
        selection.preselection, zip(request.images, selected).map { .init(count: $0.tokenCount, kept: $1) })
    }
    report.stages = result.drops.map(RunReport.Stage.init)
    report.cacheLengthsAfterPrompt = result.cache.lengths
    report.flops = result.flops
    for (image, flops) in zip(request.images, result.imageFlops) { report.flops += image.charged(flops) }
    report.timings.add(compute.durations)
    return Prefilled(
      generation: GenerationState(model, request, report, result.cache), logits: result.logits,
      selected: result.selected, drops: result.drops, trace: trace)
  }

  // MARK: - Prompt cache and prefix cache

  /// Begins a request. If its whole prompt is in the prompt cache, that is the result, and no image is encoded.
  ///
  /// - Parameter usesPromptCache: False if memory is too small for a file.
  /// - Returns: `nil` if the prompt must be computed.
  package mutating func begin(
    _ request: PreparedRequest, usesPromptCache: Bool = true, reservedRows: Int
  ) -> Prefilled? {
    compute.beginRequest()
    guard usesPromptCache, let cache = model.promptCache(for: request) else { return nil }
    let saved = compute.during(.prefill) {
      cache.prompt(of: request, for: model, reservedRows: reservedRows, compute.workers)
    }
    guard let saved, let layout = request.layout(for: model, selected: saved.selected) else { return nil }
    return prefilled(saved, of: request, imageSpans: layout.visualSpans, nil)
  }

  /// The prefix of a request from the prompt cache.
  ///
  /// - Returns: `nil` if it is not there, or if matmuls on this machine do not give the same bits in two parts.
  package mutating func savedPrefix(_ key: PrefixKey, of request: PreparedRequest) -> CachedPrefix? {
    guard let cache = model.promptCache(for: request),
      canSplit(rows: request.report.sequenceLength, first: key.rowCount)
    else {
      return nil
    }
    return compute.during(.prefill) {
      cache.prefix(key, of: request, for: model, compute.workers)
    }
  }

  /// Whether a prompt gives the same bits in two parts as in one, tried once on this machine.
  private func canSplit(rows: Int, first: Int) -> Bool {
    model.identity.splitsMatmuls.withLock { splits in
      if let splits { return splits }
      let tried = model.llava.languageModel.splitsMatmuls(rows: rows, first: first, on: compute)
      compute.ledger = CostLedger()
      splits = tried
      return tried
    }
  }

  /// Runs the first rows of the embedded prompt through the layers before the first drop; the rows after them remain
  /// embedded.
  ///
  /// - Parameter selected: The tokens of each image that are embedded; `nil` for all.
  /// - Returns: `nil` if matmuls on this machine do not give the same bits in two parts, or if `compute` is cancelled.
  package mutating func takePrefix(
    _ key: PrefixKey, of request: PreparedRequest, _ selected: [ImageInput.Selected]?
  ) -> CachedPrefix? {
    guard canSplit(rows: request.report.sequenceLength, first: key.rowCount) else { return nil }
    let prefix = CachedPrefix(
      key: key, entry: takePrefix(rows: key.rowCount, depth: key.depth),
      imageFlops: request.images.map { $0.encodingFlops ?? RunReport.Flops() }, selected: selected)
    guard !compute.isCancelled else { return nil }
    model.promptCache(for: request)?.keep(prefix, for: model)
    return prefix
  }

  private mutating func takePrefix(rows: Int, depth: Int) -> PrefixCacheEntry {
    var rest = Matrix(rows: 0, columns: state.hidden.columns)
    rest.assign(state.hidden, rows: rows..<state.hidden.rows)
    state.hidden.resize(rows: rows)
    let cache = KVCache(model.llava.configuration.text, type: model.precision.cacheType)
    let prefix = model.llava.languageModel.prefix(&state, cache, depth: depth, reservedRows: 0, on: compute)
    state.hidden.assign(rest, rows: 0..<rest.rows)
    compute.ledger = CostLedger()
    return prefix
  }

  /// Removes the first rows of the embedded prompt, whose result is in a prefix cache.
  private mutating func skipPrefix(rows: Int) {
    var rest = Matrix(rows: 0, columns: state.hidden.columns)
    rest.assign(state.hidden, rows: rows..<state.hidden.rows)
    state.hidden.assign(rest, rows: 0..<rest.rows)
  }

  // MARK: - Decode

  /// Runs tokens through the decoder; each joins its cache. Tokens with the same cache follow each other in it.
  ///
  /// A token's logits do not depend on those of other caches, nor on later ones.
  ///
  /// - Returns: The logits of the next tokens, `[T, N]`.
  package mutating func decode(_ tokens: [Int], _ caches: [KVCache]) -> Matrix {
    let languageModel = model.llava.languageModel
    languageModel.embed(tokens, into: &state.hidden)
    languageModel.decode(&state, caches, on: compute)
    return languageModel.logits(state.hidden, on: compute)
  }
}

/// A prompt whose embeddings are in the working memory of a `Generator`.
package struct EmbeddedPrompt: ~Copyable {
  package let request: PreparedRequest
  package fileprivate(set) var layout: SequenceLayout
  /// The tokens of each image that are embedded; `nil` for all.
  package let selected: [ImageInput.Selected]?
  /// `[V, D]` if the request records tensors, otherwise empty.
  fileprivate let features: [Float]
}

/// The result of a prefill.
package struct Prefilled {
  package var generation: GenerationState
  /// The logits of the first new token, `[N]`.
  package let logits: [Float]
  /// Indices of the tokens of each image that entered the decoder; `nil` for all.
  package let selected: [[Int]]?
  /// The result of each drop, without scores for a prompt from the prompt cache.
  package let drops: [DropResult]
  /// `nil` unless the request records tensors.
  let trace: TraceTensors?
}
