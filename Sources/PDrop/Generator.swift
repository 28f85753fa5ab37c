package import Kernels
package import LLaVA
import ModelFormats

/// Prefill and decode: the one path from a prepared request to logits.
///
/// `Session` runs one sequence on it, the batch engine many, and the batch estimate measures it. It owns the compute
/// context and the working memory of the decoder, which sequences use one after the other.
package struct Generator: ~Copyable {
  package let model: VisionLanguageModel
  package let compute: ComputeContext
  private var state: DecoderState
  /// Whether matmuls on this machine give the same bits in two parts; `nil` until it has been tried.
  private var splitsMatmuls: Bool?

  package init(_ model: VisionLanguageModel, threads: Int) {
    self.model = model
    compute = ComputeContext(workers: Workers(count: threads))
    state = DecoderState(model.llava.configuration.text)
  }

  /// Frees the working memory, which grows to the largest request so far.
  package mutating func releaseMemory() { state = DecoderState(model.llava.configuration.text) }

  // MARK: - Prefill

  /// Encodes the images of a request and splices their features into the prompt's embeddings, `[T, D]`.
  ///
  /// The rows stay in the working memory for `prefill`, which must follow before the next `embed`.
  ///
  /// - Throws: `SequenceError` for a token outside the vocabulary.
  package mutating func embed(_ prepared: PreparedRequest) throws(SequenceError) -> EmbeddedPrompt {
    compute.beginRequest()
    let features = model.features(of: prepared.images, on: compute)
    // The cost of an image is charged by `prefill`, as the image may have been encoded for another request.
    compute.ledger = CostLedger()
    let layout = try model.llava.languageModel.splice(
      &state.hidden, tokens: prepared.report.promptTokens, placeholder: model.imageToken, features: features,
      featureCounts: prepared.images.map(\.tokenCount), limit: prepared.report.sequenceLength)
    return EmbeddedPrompt(
      request: prepared, layout: layout, features: prepared.request.recordsTensors ? features.values : [])
  }

  /// Runs an embedded prompt through the decoder, dropping visual tokens as planned.
  ///
  /// - Parameters:
  ///   - prefix: The result for the first rows, which `takePrefix` or `skipPrefix` has removed.
  ///   - reservedRows: KV capacity for rows that will be decoded; the cache grows beyond it if necessary.
  package mutating func prefill(
    _ prompt: consuming EmbeddedPrompt, after prefix: PrefixCacheEntry? = nil, reservedRows: Int
  ) -> Prefilled {
    let (request, languageModel) = (prompt.request, model.llava.languageModel)
    var report = request.report
    report.imageSpans = prompt.layout.visualBlocks.map { [$0.rows.lowerBound, $0.rows.count] }

    state.recordsLastRows = request.request.recordsTensors
    let cache =
      prefix?.cache.copy(rows: prompt.layout.rowCount + reservedRows)
      ?? KVCache(model.llava.configuration.text, type: model.precision.cacheType)
    let drops = languageModel.prefill(
      &state, cache, &prompt.layout, request.plan, after: prefix, reservedRows: reservedRows, on: compute)
    let logits = languageModel.logits(state, on: compute)
    report.stages = drops.map(RunReport.Stage.init)
    report.cacheLengthsAfterPrompt = cache.lengths

    // Each request is charged as if it had been alone: for its images and for all rows of its prompt.
    report.flops = RunReport.Flops(compute.ledger)
    report.flops.prefill += 2 * (prefix?.multiplyAdds ?? 0)
    for image in request.images { report.flops += image.knownFlops ?? RunReport.Flops() }
    report.timings.add(compute.durations)
    compute.ledger = CostLedger()

    var trace: TraceTensors?
    if request.request.recordsTensors {
      trace = TraceTensors(
        views: request.images.compactMap(\.views), features: prompt.features, lastLogits: logits, finalLogits: logits,
        lastRows: state.lastRows, drops: drops)
      (state.recordsLastRows, state.lastRows) = (false, [])
    }
    return Prefilled(
      generation: GenerationState(model, request, report, cache),
      logits: logits, trace: trace)
  }

  // MARK: - Prefix cache

  /// Whether a prompt gives the same bits in two parts as in one, tried once on this machine.
  package mutating func canSplit(rows: Int, first: Int) -> Bool {
    if let splitsMatmuls { return splitsMatmuls }
    let splits = model.llava.languageModel.splitsMatmuls(rows: rows, first: first, on: compute)
    compute.ledger = CostLedger()
    splitsMatmuls = splits
    return splits
  }

  /// Runs the first rows of the embedded prompt through the layers before the first drop; the rows after them remain
  /// embedded.
  package mutating func takePrefix(rows: Int, depth: Int) -> PrefixCacheEntry {
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
  package mutating func skipPrefix(rows: Int) {
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
  /// `[V, D]` if the request records tensors, otherwise empty.
  fileprivate let features: [Float]
}

/// The result of a prefill.
package struct Prefilled {
  package var generation: GenerationState
  /// The logits of the first new token, `[N]`.
  package let logits: [Float]
  /// `nil` unless the request records tensors.
  let trace: TraceTensors?
}
