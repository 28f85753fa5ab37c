package import LLaVA
import Tokenizers

/// Generation state of one sequence: KV cache, sampler, detokenizer, stop conditions and report.
///
/// `Session` and the batch engine share it; `Generator` supplies the logits.
package struct GenerationState {
  package let cache: KVCache
  private let options: GenerationOptions
  private let eosTokens: Set<Int>
  private let maxNewTokens: Int
  private var sampler: Sampler
  private var detokenizer: Detokenizer
  package var report: RunReport

  /// - Parameters:
  ///   - report: The report of the request up to and including prefill.
  ///   - cache: Keys and values of the prompt.
  ///   - maxNewTokens: Maximum number of tokens to generate.
  init(
    _ model: VisionLanguageModel, _ options: GenerationOptions, _ report: RunReport, _ cache: KVCache, maxNewTokens: Int
  ) {
    self.cache = cache
    self.options = options
    self.maxNewTokens = maxNewTokens
    self.report = report
    eosTokens = model.eosTokens
    sampler = Sampler(options)
    detokenizer = Detokenizer(model.tokenizer)
    if maxNewTokens == 0 { self.report.finishReason = .length }
  }

  /// Whether generation has ended.
  package var isComplete: Bool { report.finishReason != nil }

  /// The input of the next decode step; `nil` before the first token, which the prefill's logits give.
  package var lastToken: Int? { report.tokens.last }

  /// Samples the next token.
  ///
  /// - Parameter logits: The logits after all rows so far, `[N]`.
  /// - Returns: The text that no later token can change, possibly empty.
  /// - Throws: `GenerationError.notANumber` when the logits are not numbers.
  /// - Precondition: Generation has not ended.
  package mutating func accept(_ logits: [Float]) throws(GenerationError) -> String {
    precondition(!isComplete, "generation has ended")
    guard let token = sampler(logits) else { throw .notANumber(tokenCount: report.tokens.count) }
    if eosTokens.contains(token), !options.ignoresEOS { return finish(.stop) }
    report.tokens.append(token)
    let text = append(detokenizer.push(Int32(token)))
    return report.tokens.count < maxNewTokens ? text : text + finish(.length)
  }

  private mutating func append(_ text: String) -> String {
    report.text += text
    return text
  }

  private mutating func finish(_ reason: RunReport.FinishReason) -> String {
    report.finishReason = reason
    return append(detokenizer.finish())
  }
}
