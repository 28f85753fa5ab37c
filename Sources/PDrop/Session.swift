import Kernels
import LLaVA
import ModelFormats
import Storage
import Tokenizers

/// One question on its way to its answer: the model has read the prompt and its images and generates token by token.
///
/// The working memory of a request, with one owner; the model is only read.
public struct Session: ~Copyable {
  let model: VisionLanguageModel
  private let compute: ComputeContext
  private let start: ContinuousClock.Instant
  private var state: DecoderState
  private let cache: KVCache
  /// What the next token is chosen by, one per entry of the vocabulary.
  public private(set) var logits: [Float]
  private var answer: GenerationState
  /// What encoding the images had cost that a feature cache knew, which the report books as if it were done here.
  private let knownFlops: RunReport.Flops
  /// What a request that asked for tensors has left of them.
  package private(set) var tensors: TraceTensors?

  /// Decodes and encodes the images and runs the prompt through the model.
  ///
  /// - Parameter threads: How many threads compute; the answer does not depend on it.
  /// - Throws: `ImageError` for an image, `DropPolicyError` for a schedule that does not fit the model, `SequenceError` for
  ///   a prompt that is too long or does not name its images.
  public init(_ model: VisionLanguageModel, _ request: Request, threads: Int) throws {
    let start = ContinuousClock.now
    let (llava, text) = (model.llava, model.llava.configuration.text)
    let compute = ComputeContext(workers: Workers(count: threads))
    let prepared = try PreparedRequest(request, for: model, threads: threads) { image, timings in
      // A trace shows what was computed, from the pixels on.
      try model.prepared(
        image, appliesOrientation: request.appliesOrientation, usesFeatureCache: !request.recordsTensors, &timings)
    }
    let knownFlops = prepared.images.reduce(into: RunReport.Flops()) { $0 += $1.knownFlops ?? RunReport.Flops() }
    let features = model.features(of: prepared.images, on: compute)

    var state = DecoderState(text)
    let cache = KVCache(text, element: model.precision.cacheElement)
    state.recordsLastRows = request.recordsTensors
    var layout = try llava.languageModel.splice(
      &state.hidden, tokens: prepared.record.promptTokens, placeholder: llava.configuration.imageTokenID,
      features: features, featureCounts: prepared.images.map(\.tokenCount), limit: prepared.record.sequenceLength)
    var record = prepared.record
    record.imageSpans = layout.visualBlocks.map { [$0.rows.lowerBound, $0.rows.count] }

    // Longer answers are seldom; the caches grow for them.
    let drops = llava.languageModel.prefill(
      &state, cache, &layout, prepared.plan, reservedRows: min(prepared.maxNewTokens, 1024), on: compute)
    logits = llava.languageModel.logits(state, on: compute)
    record.stages = drops.map(RunReport.Stage.init)
    record.cacheLengthsAfterPrompt = cache.lengths
    record.milliseconds.load = model.loadTime.milliseconds
    if request.recordsTensors {
      tensors = TraceTensors(
        views: prepared.images.compactMap(\.views), features: features.values, lastLogits: logits,
        finalLogits: logits, lastRows: state.lastRows, drops: drops)
      state.recordsLastRows = false
    }
    self.model = model
    self.compute = compute
    self.start = start
    self.state = state
    self.cache = cache
    self.knownFlops = knownFlops
    answer = GenerationState(model, request.options, record, maxNewTokens: prepared.maxNewTokens)
  }

  /// Generates the next token.
  ///
  /// - Returns: The text that is certain from now on, which may be empty; `nil` when the answer is complete.
  /// - Throws: `GenerationError.notANumber` when the model's output is unusable.
  public mutating func next() throws -> String? {
    guard !answer.isComplete else { return nil }
    if let last = answer.lastToken { advance(past: last) }
    let count = answer.record.tokens.count
    let piece = try answer.grow(by: logits)
    if answer.record.tokens.count > count { tensors?.finalLogits = logits }
    return piece
  }

  /// What has been done so far, and what it cost.
  public var report: RunReport {
    var report = answer.record
    report.cacheLengthsAtEnd = cache.lengths
    report.cacheBytes = cache.byteCount
    report.peakResidentBytes = Storage.peakResidentBytes()
    report.flops = RunReport.Flops(compute.ledger)
    report.flops += knownFlops
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
}

/// An answer on its way: which token comes next, when it is over, and the record of both.
///
/// One request alone and many together are answered by it; whoever has it computes the logits.
package struct GenerationState {
  private let options: GenerationOptions
  private let eosTokens: Set<Int>
  private let maxNewTokens: Int
  private var sampler: Sampler
  private var text: Detokenizer
  package private(set) var record: RunReport

  /// - Parameters:
  ///   - record: What the request has come to so far.
  ///   - maxNewTokens: The most tokens that may be generated.
  package init(_ model: VisionLanguageModel, _ options: GenerationOptions, _ record: RunReport, maxNewTokens: Int) {
    self.options = options
    self.maxNewTokens = maxNewTokens
    self.record = record
    eosTokens = model.eosTokens
    sampler = Sampler(options)
    text = Detokenizer(model.tokenizer)
    if maxNewTokens == 0 { self.record.finishReason = .length }
  }

  /// Whether no more tokens are to come.
  package var isComplete: Bool { record.finishReason != nil }

  /// What the model is to read before it says more; `nil` when it has read all.
  package var lastToken: Int? { record.tokens.last }

  /// Chooses the next token.
  ///
  /// - Parameter logits: Those after everything so far, one per entry of the vocabulary.
  /// - Returns: The text that is certain from now on, which may be empty.
  /// - Throws: `GenerationError.notANumber` when the logits are unusable.
  /// - Precondition: The answer is not complete.
  package mutating func grow(by logits: [Float]) throws -> String {
    precondition(!isComplete, "the answer is complete")
    guard let token = sampler(logits) else { throw GenerationError.notANumber(tokenCount: record.tokens.count) }
    if eosTokens.contains(token), !options.ignoresEOS { return finish(.stop) }
    record.tokens.append(token)
    let piece = append(text.push(Int32(token)))
    return record.tokens.count < maxNewTokens ? piece : piece + finish(.length)
  }

  private mutating func append(_ piece: String) -> String {
    record.text += piece
    return piece
  }

  private mutating func finish(_ reason: RunReport.FinishReason) -> String {
    record.finishReason = reason
    return append(text.finish())
  }
}
