import Kernels
import LLaVA
import Storage

/// Generation for one request: a batch of one.
///
/// Creating a session encodes the images and prefills the prompt; `next` generates token by token. A session owns the
/// working memory of its request, and the model is only read, so sessions of one model may run in parallel.
///
///     let model = try VisionLanguageModel(directory: "Models/tiny-textvqa")
///     let request = Request(
///       question: "What number is at the top right?", images: [.file("Models/samples/bike.png")])
///     var session = try Session(model, request, threads: 4)
///     while let text = try session.next() { print(text, terminator: "") }
///     print(session.report.visualTokensPerStage)
public struct Session: ~Copyable {
  private(set) var generator: Generator
  private let start: ContinuousClock.Instant
  /// The logits that the next token is chosen by, `[N]`.
  public private(set) var logits: [Float]
  private var generation: GenerationState
  /// The logits of the first token, for further answers, `[N]`.
  private let promptLogits: [Float]
  /// The state after the prompt, for further answers.
  private let prompt: GenerationState
  private var answerIndex = 0
  private var drafter: Drafter
  /// Prompt and answer, for drafts.
  private var text: NGramText
  /// The tensors of a request that records them.
  package private(set) var tensors: TraceTensors?

  /// Decodes and encodes the images and prefills the prompt.
  ///
  /// - Parameters:
  ///   - model: The model, which sessions may share.
  ///   - request: The question with its images, policy and options.
  ///   - threads: Number of threads; the answer does not depend on it.
  ///   - speculation: Drafting of tokens; the answer does not depend on it.
  /// - Throws: `RequestError` for an image, a prompt or a policy that the model cannot use.
  public init(
    _ model: VisionLanguageModel, _ request: Request, threads: Int, speculation: Speculation = .off
  ) throws(RequestError) {
    start = ContinuousClock.now
    let prepared = try PreparedRequest(request, for: model, threads: threads, images: model)
    var generator = Generator(model, threads: threads)
    let prefilled = try RequestError.wrapping(RequestError.sequence) { () throws(SequenceError) in
      // Longer answers are rare; the cache grows for them.
      try generator.prefill(prepared, reservedRows: min(prepared.maxNewTokens, 1024))
    }
    self.generator = generator
    (generation, logits, tensors) = (prefilled.generation, prefilled.logits, prefilled.trace)
    generation.report.timings.load = model.loadTime.milliseconds
    (self.prompt, promptLogits) = (generation, logits)
    drafter = Drafter(speculation)
    text = NGramText(speculation == .off ? [] : prepared.report.promptTokens)
  }

  /// Starts another answer to the same prompt, with the next seed, without another prefill.
  ///
  ///     repeat {
  ///       while let text = try session.next() { print(text, terminator: "") }
  ///       print()
  ///     } while session.startNextAnswer()
  ///
  /// - Returns: Whether there is another one; `GenerationOptions.answerCount` of the request says how many there are.
  public mutating func startNextAnswer() -> Bool {
    guard answerIndex + 1 < prompt.answerCount else { return false }
    answerIndex += 1
    drafter.add(answer: generation.report.tokens)
    if !drafter.isOff { text = NGramText(prompt.report.promptTokens) }
    // The caches of all answers begin with the same rows.
    prompt.cache.truncate(to: prompt.report.cacheLengthsAfterPrompt)
    generation = prompt.another(answerIndex, prompt.cache)
    logits = promptLogits
    return true
  }

  /// Generates the next token, or several if drafted ones are accepted.
  ///
  /// - Returns: The text that no later token can change, possibly empty; `nil` when the answer is complete.
  /// - Throws: `GenerationError.notANumber` when the model's output is unusable.
  public mutating func next() throws(GenerationError) -> String? {
    guard !generation.isComplete else { return nil }
    guard let last = generation.lastToken else { return try accept(Draft(), [logits]) }
    let draft = drafter.isOff ? Draft() : drafter.drafts(for: [(text, generation.draftLimit)], rowLimit: 16)[0]
    let tokens = [last] + draft.tokens
    let start = ContinuousClock.now
    let rows = generator.decode(tokens, tokens.map { _ in generation.cache })
    drafter.record(rows: tokens.count, milliseconds: (ContinuousClock.now - start).milliseconds)
    return try accept(draft, tokens.indices.map { rows.rowValues($0) })
  }

  /// Chooses tokens by the logits after the last one and after each drafted one.
  private mutating func accept(_ draft: Draft, _ rows: [[Float]]) throws(GenerationError) -> String {
    let count = generation.report.tokens.count
    let (newText, accepted) = try generation.accept(draft: draft.tokens) { rows[$0] }
    logits = rows[accepted]
    drafter.record(draft, accepted: accepted)
    if !drafter.isOff { for token in generation.report.tokens[count...] { text.append(token) } }
    if generation.report.tokens.count > count { tensors?.finalLogits = logits }
    return newText
  }

  /// Counts of speculative decoding.
  package var speculation: SpeculationStatistics { drafter.statistics }

  /// Results of the answer, and the costs of the session so far.
  public var report: RunReport {
    var report = generation.report
    report.cacheLengthsAtEnd = generation.cache.lengths
    report.cacheBytes = generation.cache.byteCount
    report.peakResidentBytes = Storage.peakResidentBytes()
    report.flops += RunReport.Flops(generator.compute.ledger)
    report.timings.add(generator.compute.durations)
    report.timings.total = report.timings.load + (ContinuousClock.now - start).milliseconds
    return report
  }

  /// Writes `trace.json` and `trace.safetensors` into a directory, which is created if it does not exist.
  ///
  /// - Throws: `TraceError` when the files cannot be written, or when the request does not record tensors.
  public func writeTrace(to directory: String) throws(TraceError) {
    guard let tensors else { throw TraceError(directory: directory, reason: .notRecorded) }
    try tensors.write(to: directory, report)
  }
}
