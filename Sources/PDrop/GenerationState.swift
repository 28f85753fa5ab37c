package import LLaVA
import Tokenizers

/// Generation state of one answer: KV cache, logits processor, sampler, detokenizer, stop conditions and report.
///
/// `Session` and the batch engine share it; `Generator` supplies the logits.
package struct GenerationState {
  package private(set) var cache: KVCache
  private let options: GenerationOptions
  private let tokenizer: Tokenizer
  private let eosTokens: Set<Int>
  /// Maximum number of tokens to generate.
  private let maxNewTokens: Int
  private let choices: ChoiceScores?
  private var processor: LogitsProcessor
  private var sampler: Sampler
  private var detokenizer: Detokenizer
  private var stopStrings: StopStrings
  private var constraint: ConstrainedSampling?
  package var report: RunReport

  /// - Parameters:
  ///   - report: The report of the request up to and including prefill.
  ///   - cache: Keys and values of the prompt.
  init(_ model: VisionLanguageModel, _ request: PreparedRequest, _ report: RunReport, _ cache: KVCache) {
    self.cache = cache
    options = request.request.options
    maxNewTokens = request.maxNewTokens
    choices = request.choices
    self.report = report
    tokenizer = model.tokenizer
    eosTokens = model.eosTokens
    processor = LogitsProcessor(options, prompt: report.promptTokens.filter { $0 != model.imageToken })
    sampler = Sampler(options)
    detokenizer = Detokenizer(model.tokenizer)
    stopStrings = StopStrings(options.stop)
    constraint = request.grammar.map { [eosTokens] in
      ConstrainedSampling($0, eosTokens: request.request.options.ignoresEOS ? [] : eosTokens)
    }
    if options.logprobs != nil { self.report.logprobs = [] }
    if maxNewTokens == 0 { self.report.finishReason = .length }
  }

  /// The beginning of another answer to the same prompt.
  ///
  /// - Parameters:
  ///   - index: Number of the answer, from 1; it is added to the seed.
  ///   - cache: A copy of the keys and values of the prompt.
  /// - Precondition: No token has been chosen.
  package func another(_ index: Int, _ cache: KVCache) -> GenerationState {
    precondition(report.tokens.isEmpty, "another answer begins after the prompt")
    var other = self
    other.cache = cache
    var options = options
    options.seed &+= UInt64(index)
    other.sampler = Sampler(options)
    return other
  }

  /// Number of answers to the prompt.
  var answerCount: Int { options.answerCount }

  /// Whether generation has ended.
  package var isComplete: Bool { report.finishReason != nil }

  /// The input of the next decode step; `nil` before the first token, which the prefill's logits give.
  package var lastToken: Int? { report.tokens.last }

  /// Chooses the next token.
  ///
  /// - Parameter logits: The logits after all rows so far, `[N]`.
  /// - Returns: The text that no later token can change, possibly empty.
  /// - Throws: `GenerationError.notANumber` when the logits are not numbers.
  /// - Precondition: Generation has not ended.
  package mutating func accept(_ logits: [Float]) throws(GenerationError) -> String {
    precondition(!isComplete, "generation has ended")
    if let choices, report.tokens.isEmpty { report.choiceLogprobs = choices(logits) }
    guard let token = choose(logits) else { throw .notANumber(tokenCount: report.tokens.count) }
    if eosTokens.contains(token), !options.ignoresEOS { return finish(endReason) }
    report.tokens.append(token)
    processor.append(token)
    constraint?.append(token)
    if let top = options.logprobs { report.logprobs?.append(TokenLogprob(token, logits, top: top, tokenizer)) }
    let text = append(stopStrings.push(detokenizer.push(Int32(token))))
    if stopStrings.isFound { return text + finish(.stop) }
    if constraint?.mustEnd == true { return text + finish(endReason) }
    return report.tokens.count < maxNewTokens ? text : text + finish(.length)
  }

  /// Chooses the next tokens by the rows of a decode step: that of the last token, and those of drafted ones.
  ///
  /// The rows of drafted tokens that are not chosen are removed from the cache.
  ///
  /// - Parameters:
  ///   - draft: The drafted tokens, in the cache already.
  ///   - logits: Returns the logits after the last token for 0, after the drafted tokens for 1 and above, `[N]`.
  /// - Returns: The text that no later token can change, and the number of drafted tokens that were chosen.
  package mutating func accept(
    draft: ArraySlice<Int>, logits: (Int) -> [Float]
  ) throws(GenerationError) -> (text: String, accepted: Int) {
    var (text, accepted) = ("", 0)
    defer { cache.removeLast(draft.count - accepted) }
    while true {
      text += try accept(logits(accepted))
      guard !isComplete, accepted < draft.count, lastToken == draft[draft.startIndex + accepted] else { break }
      accepted += 1
    }
    return (text, accepted)
  }

  /// Maximum length of a draft: the token after it must fit the maximum number of tokens.
  package var draftLimit: Int { max(0, maxNewTokens - report.tokens.count - 1) }

  private mutating func choose(_ logits: [Float]) -> Int? {
    if processor.isIdentity, constraint == nil { return sampler(logits) }
    var changed = logits
    processor(&changed)
    guard constraint != nil else { return sampler(changed) }
    return constraint?.choose(&changed, remaining: maxNewTokens - report.tokens.count, &sampler)
  }

  /// The reason for the end of a complete answer: its length if a constraint had to complete it.
  private var endReason: RunReport.FinishReason { constraint?.isShortened == true ? .length : .stop }

  private mutating func append(_ text: String) -> String {
    report.text += text
    return text
  }

  private mutating func finish(_ reason: RunReport.FinishReason) -> String {
    let text = append(stopStrings.push(detokenizer.finish()) + stopStrings.finish())
    // The end of the text may complete a stop string.
    report.finishReason = stopStrings.isFound ? .stop : reason
    return text
  }
}
