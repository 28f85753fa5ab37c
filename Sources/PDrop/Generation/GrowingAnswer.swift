/// An answer on its way: which token comes next, when it is over, and the record of both.
///
/// One request alone and many together are answered by it; whoever has it computes the logits.
struct GrowingAnswer {
  private let options: GenerationOptions
  private let endTokens: Set<Int>
  private let tokenLimit: Int
  private var sampler: Sampler
  private var text: StreamingDecoder
  private(set) var record: RunReport

  /// - Parameters:
  ///   - record: What the request has come to so far.
  ///   - tokenLimit: The most tokens that may be generated.
  init(_ model: VisionLanguageModel, _ options: GenerationOptions, _ record: RunReport, tokenLimit: Int) {
    self.options = options
    self.tokenLimit = tokenLimit
    self.record = record
    endTokens = model.endTokens
    sampler = Sampler(options)
    text = StreamingDecoder(model.tokenizer)
    if tokenLimit == 0 { self.record.finishReason = .length }
  }

  /// Whether no more tokens are to come.
  var isComplete: Bool { record.finishReason != nil }

  /// What the model is to read before it says more; `nil` when it has read all.
  var lastToken: Int? { record.tokens.last }

  /// Chooses the next token.
  ///
  /// - Parameter logits: Those behind everything so far, one per entry of the vocabulary.
  /// - Returns: The text that is certain from now on, which may be empty.
  /// - Throws: `GenerationError.notANumber` when the logits are unusable.
  /// - Precondition: The answer is not complete.
  mutating func grow(by logits: [Float]) throws -> String {
    precondition(!isComplete, "the answer is complete")
    guard let token = sampler(logits) else { throw GenerationError.notANumber(tokenCount: record.tokens.count) }
    if endTokens.contains(token), !options.ignoresEndToken { return finish(.stop) }
    record.tokens.append(token)
    let piece = append(text.push(Int32(token)))
    return record.tokens.count < tokenLimit ? piece : piece + finish(.length)
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
