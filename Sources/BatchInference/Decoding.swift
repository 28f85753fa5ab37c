import Kernels
import LLaVA
import ModelFormats
import PDrop
import Storage

/// The answers that are decoded together, one token of each in every step.
struct Decoding: ~Copyable {
  private var generator: Generator
  private var drafter: Drafter
  private let batchSize: Int
  private var active: [ActiveSequence] = []
  /// Bytes that were reserved for answers that have ended since the last call of `takeFreedBytes`.
  private var freedBytes = 0
  /// The time of the last step that followed another one; after a layer of a prefill a step takes longer.
  private(set) var usualStepTime: Duration?

  init(_ model: VisionLanguageModel, _ options: EngineOptions, batchSize: Int) {
    generator = Generator(model, threads: options.threads)
    drafter = Drafter(options.speculation)
    self.batchSize = batchSize
  }

  var isEmpty: Bool { active.isEmpty }
  /// Number of answers.
  var count: Int { active.count }

  /// Adds the answers to a request, which have their first tokens.
  mutating func add(_ sequences: [ActiveSequence], _ job: inout some EngineJob) {
    for var sequence in sequences {
      sequence.report(to: &job)
      active.append(sequence)
    }
  }

  /// Decodes one token of every answer, and more where drafts are accepted.
  ///
  /// - Parameter isDuringPrefill: Whether the step is between layers of a prefill.
  mutating func step(_ job: inout some EngineJob, isDuringPrefill: Bool = false) {
    let stepStart = ContinuousClock.now
    defer { if !isDuringPrefill { usualStepTime = ContinuousClock.now - stepStart } }
    let text = generator.model.llava.configuration.text
    // A request may have more answers than the batch size.
    for first in stride(from: 0, to: active.count, by: batchSize) {
      let rows = first..<min(first + batchSize, active.count)
      // Of a request's answers, some may be complete.
      let rest = rows.filter { !active[$0].isComplete }
      guard !rest.isEmpty else { continue }
      let drafts = drafter.drafts(
        for: rest.map { (active[$0].text, active[$0].generation.draftLimit) }, rowLimit: EngineOptions.maxBatchSize)
      var (tokens, caches): ([Int], [KVCache]) = ([], [])
      for (index, draft) in zip(rest, drafts) {
        tokens += [active[index].lastToken] + draft.tokens
        caches += Array(repeating: active[index].generation.cache, count: 1 + draft.tokens.count)
      }
      let start = ContinuousClock.now
      let logits = generator.decode(tokens, caches)
      let milliseconds = (ContinuousClock.now - start).milliseconds
      drafter.record(rows: tokens.count, milliseconds: milliseconds)
      var row = 0
      for (index, draft) in zip(rest, drafts) {
        let first = row
        row += 1 + draft.tokens.count
        let accepted = active[index].accept(draft.tokens) { logits.rowValues(first + $0) }
        active[index].addSteps(1 + accepted, milliseconds: milliseconds / Double(rest.count), text)
        drafter.record(draft, accepted: accepted)
        if active[index].isComplete { drafter.add(answer: active[index].generation.report.tokens) }
        active[index].report(to: &job)
      }
    }
  }

  /// Removes the requests whose answers are complete and finishes them.
  mutating func finishComplete<Job: EngineJob>(_ job: inout Job) throws(Job.Failure) {
    let unfinished = Set(active.filter { !$0.isComplete }.map(\.request.index))
    let complete = remove { !unfinished.contains($0.request.index) }
    guard !complete.isEmpty else { return }
    job.statistics.speculation = drafter.statistics
    let peak = Storage.peakResidentBytes()
    // The answers to a request follow each other.
    var results: [(request: EngineRequest, result: Result<RunReport, RecordFailure>)] = []
    for sequence in complete {
      let result = sequence.result(peakResidentBytes: peak)
      if let last = results.last, last.request.index == sequence.request.index {
        results[results.count - 1].result = last.result.flatMap { report in
          result.map { other in
            var report = report
            report.add(other)
            return report
          }
        }
      } else {
        results.append((sequence.request, result))
      }
    }
    try job.finish(results.map { ($0.request, $0.result) })
  }

  /// Removes the answers to cancelled requests.
  mutating func removeCancelled(_ job: inout some EngineJob) {
    var removed: Set<Int> = []
    for sequence in remove({ job.isCancelled($0.request) }) where removed.insert(sequence.request.index).inserted {
      job.didCancel(sequence.request)
    }
  }

  private mutating func remove(_ isRemoved: (ActiveSequence) -> Bool) -> [ActiveSequence] {
    // Decided once for all answers of a request, as it may be cancelled at any time.
    let indices = Set(active.filter(isRemoved).map(\.request.index))
    guard !indices.isEmpty else { return [] }
    let removed = active.filter { indices.contains($0.request.index) }
    active.removeAll { indices.contains($0.request.index) }
    freedBytes += removed.reduce(0) { $0 + $1.reservedBytes }
    return removed
  }

  /// The bytes that were reserved for answers that have ended, once.
  mutating func takeFreedBytes() -> Int {
    defer { freedBytes = 0 }
    return freedBytes
  }
}

/// An answer to a request that is being decoded.
struct ActiveSequence {
  let request: EngineRequest
  /// Number of the answer, from 0.
  private let answer: Int
  /// Bytes that are reserved for its KV cache, up to its maximum length.
  let reservedBytes: Int
  private(set) var generation: GenerationState
  /// Prompt and answer, for drafts.
  private(set) var text: NGramText
  /// Text that has not been reported to the job.
  private var newText = ""
  /// Number of tokens that have been reported to the job.
  private var reportedTokens = 0
  /// The reason why decoding cannot continue.
  private var failure: RecordFailure?

  private init(
    _ request: EngineRequest, answer: Int, _ generation: GenerationState, reservedBytes: Int, _ logits: [Float]
  ) {
    (self.request, self.answer) = (request, answer)
    self.reservedBytes = reservedBytes
    self.generation = generation
    text = NGramText(generation.report.promptTokens)
    _ = accept([]) { _ in logits }
  }

  /// All answers to a request, after their first token.
  static func answers(
    to request: EngineRequest, _ prepared: PreparedRequest, _ begun: Prefiller.Begun
  ) -> [ActiveSequence] {
    let (first, count) = (begun.prefilled.generation, prepared.request.options.answerCount)
    let rows = (first.cache.lengths.max() ?? 0) + prepared.maxNewTokens
    return (0..<count).map { index in
      var generation = first
      if index > 0 {
        generation = first.another(index, first.cache.copy(rows: rows))
        // The first answer has the costs of the prompt.
        (generation.report.flops, generation.report.timings) = (RunReport.Flops(), RunReport.Timings())
      }
      let reservedBytes = begun.reservedBytes / count + (index == 0 ? begun.reservedBytes % count : 0)
      return ActiveSequence(
        request, answer: index, generation, reservedBytes: reservedBytes, begun.prefilled.logits)
    }
  }

  var isComplete: Bool { failure != nil || generation.isComplete }

  /// The input of the next decode step.
  ///
  /// - Precondition: The sequence is not complete.
  var lastToken: Int {
    guard let token = generation.lastToken else { preconditionFailure("the prefill's logits give the first token") }
    return token
  }

  /// Chooses the next tokens by the logits after the last token and after each drafted one.
  ///
  /// - Returns: The number of drafted tokens that were chosen.
  mutating func accept(_ draft: ArraySlice<Int>, logits: (Int) -> [Float]) -> Int {
    guard !isComplete else { return 0 }
    let count = generation.report.tokens.count
    do {
      let (newText, accepted) = try generation.accept(draft: draft, logits: logits)
      self.newText += newText
      for token in generation.report.tokens[count...] { text.append(token) }
      return accepted
    } catch {
      failure = RecordFailure(error)
      return 0
    }
  }

  /// Reports what is new since the last call.
  mutating func report(to job: inout some EngineJob) {
    let report = generation.report
    guard failure == nil else { return }
    job.didGenerate(
      GeneratedText(
        answer: answer, text: newText, logprobs: report.logprobs.map { Array($0[reportedTokens...]) },
        tokenCount: report.tokens.count - reportedTokens, finishReason: report.finishReason),
      for: request)
    (newText, reportedTokens) = ("", report.tokens.count)
  }

  /// Charges decode steps, each of which has added a row to the cache; rejected drafts are not charged.
  ///
  /// - Parameter milliseconds: The time of the step with all its rows, divided by the number of its sequences.
  mutating func addSteps(_ count: Int, milliseconds: Double, _ configuration: TextConfiguration) {
    for step in 0..<count {
      generation.report.flops.decode +=
        2 * decodeMultiplyAdds(rowsPerLayer: generation.cache.lengths.map { $0 - (count - 1 - step) }, configuration)
    }
    generation.report.flops.head += 2 * count * headMultiplyAdds(configuration)
    generation.report.timings.decode += milliseconds
  }

  /// The finished report, or the failure.
  func result(peakResidentBytes: Int) -> Result<RunReport, RecordFailure> {
    if let failure { return .failure(failure) }
    var report = generation.report
    report.cacheLengthsAtEnd = generation.cache.lengths
    report.cacheBytes = generation.cache.byteCount
    report.peakResidentBytes = peakResidentBytes
    report.timings.total = report.timings.sumOfPhases
    return .success(report)
  }
}
