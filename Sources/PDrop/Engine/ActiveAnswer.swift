internal import LLaVA
internal import ModelFormats

/// A record whose prompt the model has read, while its answer grows.
struct ActiveAnswer {
  let question: BatchJob.Question
  /// Keys and values.
  let cache: KVCache
  /// What is reserved for them, to the longest answer.
  let heldBytes: Int
  private var answer: GrowingAnswer
  /// What the decoding steps cost, and the record's share of the time that they took.
  private var flops = RunReport.Flops()
  private var milliseconds = 0.0
  /// Why it cannot go on.
  private var failure: RecordFailure?

  init(_ question: BatchJob.Question, _ answer: GrowingAnswer, _ cache: KVCache, heldBytes: Int) {
    self.question = question
    self.answer = answer
    self.cache = cache
    self.heldBytes = heldBytes
  }

  var isComplete: Bool { failure != nil || answer.isComplete }

  /// The token that the model reads next.
  ///
  /// - Precondition: The answer is not complete.
  var nextInput: Int {
    guard let token = answer.lastToken else { preconditionFailure("an answer begins with the prompt's logits") }
    return token
  }

  /// Takes the logits behind everything so far.
  mutating func grow(by logits: [Float]) {
    guard !isComplete else { return }
    do { _ = try answer.grow(by: logits) } catch { failure = RecordFailure(error) }
  }

  /// Books a decoding step, which has added a row to the cache.
  ///
  /// - Parameter milliseconds: The record's share of the time.
  mutating func addStep(milliseconds: Double, _ configuration: TextConfiguration) {
    flops.decode += 2 * decodeMultiplyAdds(rowsPerLayer: cache.lengths, configuration)
    flops.head += 2 * headMultiplyAdds(configuration)
    self.milliseconds += milliseconds
  }

  /// What there is to be written.
  func outcome(peakResidentBytes: Int) -> Result<RunReport, RecordFailure> {
    if let failure { return .failure(failure) }
    var report = answer.record
    report.cacheLengthsAtEnd = cache.lengths
    report.cacheBytes = cache.byteCount
    report.peakResidentBytes = peakResidentBytes
    report.flops += flops
    report.milliseconds.decode += milliseconds
    report.milliseconds.total = report.milliseconds.sumOfPhases
    return .success(report)
  }
}

extension RunReport.Timings {
  /// All phases of an answer; loading is none's.
  var sumOfPhases: Double { decodeImage + preprocess + encode + project + prefill + rank + decode }
}
