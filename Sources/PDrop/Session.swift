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
  /// The tensors of a request that records them.
  package private(set) var tensors: TraceTensors?

  /// Decodes and encodes the images and prefills the prompt.
  ///
  /// - Parameters:
  ///   - model: The model, which sessions may share.
  ///   - request: The question with its images, policy and options.
  ///   - threads: Number of threads; the answer does not depend on it.
  /// - Throws: `RequestError` for an image, a prompt or a policy that the model cannot use.
  public init(_ model: VisionLanguageModel, _ request: Request, threads: Int) throws(RequestError) {
    start = ContinuousClock.now
    let prepared = try PreparedRequest(request, for: model, threads: threads, images: model)
    var generator = Generator(model, threads: threads)
    let prompt = try RequestError.wrapping(RequestError.sequence) { () throws(SequenceError) in
      try generator.embed(prepared)
    }
    // Longer answers are rare; the cache grows for them.
    let prefilled = generator.prefill(prompt, reservedRows: min(prepared.maxNewTokens, 1024))
    self.generator = generator
    (generation, logits, tensors) = (prefilled.generation, prefilled.logits, prefilled.trace)
    generation.report.timings.load = model.loadTime.milliseconds
  }

  /// Generates the next token.
  ///
  /// - Returns: The text that no later token can change, possibly empty; `nil` when the answer is complete.
  /// - Throws: `GenerationError.notANumber` when the model's output is unusable.
  public mutating func next() throws(GenerationError) -> String? {
    guard !generation.isComplete else { return nil }
    if let last = generation.lastToken { logits = generator.decode([last], [generation.cache]).values }
    let count = generation.report.tokens.count
    let text = try generation.accept(logits)
    if generation.report.tokens.count > count { tensors?.finalLogits = logits }
    return text
  }

  /// Results and costs so far.
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
