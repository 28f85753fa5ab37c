internal import Kernels
internal import LLaVA
internal import ModelFormats

/// One question on its way to its answer: the model has read the prompt and its pictures and generates token by token.
///
/// The working memory of a request, with one owner; the model is only read.
public struct Session: ~Copyable {
  private let model: VisionLanguageModel
  private let options: GenerationOptions
  private let compute: Compute
  private let start: ContinuousClock.Instant
  private let tokenLimit: Int
  private var state: DecoderState
  private let cache: KVCache
  /// What the next token is chosen by, one per entry of the vocabulary.
  public private(set) var logits: [Float]
  private var sampler: Sampler
  private var text: StreamingDecoder
  private var record: RunReport
  /// What a request that asked for tensors has left of them.
  private(set) var tensors: TraceTensors?

  /// Decodes and encodes the pictures and runs the prompt through the model.
  ///
  /// - Parameter threads: How many threads compute; the answer does not depend on it.
  /// - Throws: `ImageError` for a picture, `DropPolicyError` for a schedule that does not fit the model, `SequenceError` for
  ///   a prompt that is too long or does not name its pictures.
  public init(_ model: VisionLanguageModel, _ request: Request, threads: Int) throws {
    let start = ContinuousClock.now
    let (llava, text) = (model.llava, model.llava.configuration.text)
    let compute = Compute(workers: Workers(count: threads))
    var record = RunReport(
      model: model.name, policy: try RunReport.Policy(request.policy, layerCount: text.layerCount),
      precision: model.precision.name, threads: threads)
    record.milliseconds.load = model.loadTime.milliseconds
    record.promptTokens = try model.promptTokens(of: request)

    let views = try model.views(of: request, &record.milliseconds)
    let counts = views.map { llava.visualTokenCount($0.tiles) }
    let plan = try DropPlan(request.policy, layerCount: text.layerCount, visualTokenCounts: counts)
    let features = model.features(of: request.pictures, views, on: compute)
    record.paperFlops = paperFlops(plan, visualTokenCount: features.rows, text)

    var state = DecoderState(text)
    let cache = KVCache(text, element: model.precision.cacheElement)
    state.recordsLastRows = request.recordsTensors
    let contextLength = request.options.contextLength ?? text.contextLength
    let promptLimit = request.options.contextLength ?? llava.configuration.promptLimit ?? contextLength
    var layout = try llava.languageModel.splice(
      &state.hidden, tokens: record.promptTokens, placeholder: llava.configuration.imageTokenID, features: features,
      featureCounts: counts, limit: promptLimit)
    let tokenLimit = max(0, min(request.options.maxTokens, contextLength - layout.rowCount))
    record.sequenceLength = layout.rowCount
    record.flopsWithoutDropping =
      2 * prefillMultiplyAdds(rowsPerLayer: Array(repeating: layout.rowCount, count: text.layerCount), text)
    record.imageSpans = layout.visualBlocks.map { [$0.rows.lowerBound, $0.rows.count] }

    // Longer answers are seldom; the caches grow for them.
    let drops = llava.languageModel.prefill(
      &state, cache, &layout, plan, room: min(tokenLimit, 1024), on: compute)
    let logits = llava.languageModel.logits(state, on: compute)
    record.stages = drops.map(RunReport.Stage.init)
    record.cacheLengthsAfterPrompt = cache.lengths
    var tensors: TraceTensors?
    if request.recordsTensors {
      tensors = TraceTensors(
        views: views, features: features.values, lastLogits: logits, finalLogits: logits, lastRows: state.lastRows,
        drops: drops)
      state.recordsLastRows = false
    }
    self.init(
      model: model, options: request.options, compute: compute, start: start, tokenLimit: tokenLimit, state: state,
      cache: cache,
      logits: logits, sampler: Sampler(request.options), text: StreamingDecoder(model.tokenizer), record: record,
      tensors: tensors)
  }

  private init(
    model: VisionLanguageModel, options: GenerationOptions, compute: Compute, start: ContinuousClock.Instant,
    tokenLimit: Int, state: consuming DecoderState, cache: KVCache, logits: [Float], sampler: Sampler,
    text: StreamingDecoder,
    record: RunReport, tensors: TraceTensors?
  ) {
    self.model = model
    self.options = options
    self.compute = compute
    self.start = start
    self.tokenLimit = tokenLimit
    self.state = state
    self.cache = cache
    self.logits = logits
    self.sampler = sampler
    self.text = text
    self.record = record
    self.tensors = tensors
  }

  /// Generates the next token.
  ///
  /// - Returns: The text that is certain from now on, which may be empty; `nil` when the answer is complete.
  /// - Throws: `GenerationError.notANumber` when the model's output is unusable.
  public mutating func next() throws -> String? {
    guard record.finishReason == nil else { return nil }
    guard record.tokens.count < tokenLimit else { return finish(.length) }
    if let last = record.tokens.last { advance(past: last) }
    guard let token = sampler(logits) else { throw GenerationError.notANumber(tokenCount: record.tokens.count) }
    if model.endTokens.contains(token), !options.ignoresEndToken { return finish(.stop) }
    record.tokens.append(token)
    tensors?.finalLogits = logits
    return append(text.push(Int32(token)))
  }

  /// What has been done so far, and what it cost.
  public var report: RunReport {
    var report = record
    report.cacheLengthsAtEnd = cache.lengths
    report.cacheBytes = cache.byteCount
    report.peakResidentBytes = Kernels.peakResidentBytes()
    report.flops = RunReport.Flops(compute.ledger)
    report.milliseconds.add(compute.durations)
    report.milliseconds.total = report.milliseconds.load + (ContinuousClock.now - start).milliseconds
    return report
  }

  /// Writes `trace.json` and `trace.safetensors` into a directory, which is made if need be.
  ///
  /// - Precondition: The request asked for tensors.
  public func writeTrace(to directory: String) throws {
    guard let tensors else { preconditionFailure("the request did not ask for tensors") }
    try tensors.write(to: directory, report)
  }

  /// Runs a generated token through the decoder, which leaves the logits of the next one.
  private mutating func advance(past token: Int) {
    let languageModel = model.llava.languageModel
    languageModel.embed([token], into: &state.hidden)
    languageModel.decode(&state, [cache], on: compute)
    logits = languageModel.logits(state, on: compute)
  }

  private mutating func append(_ piece: String) -> String {
    record.text += piece
    return piece
  }

  private mutating func finish(_ reason: RunReport.FinishReason) -> String? {
    record.finishReason = reason
    let rest = append(text.finish())
    return rest.isEmpty ? nil : rest
  }
}
