/// Bias and penalties on the logits of an answer's next token.
package struct LogitsProcessor {
  private let options: GenerationOptions
  /// Tokens of prompt and answer, images not counted.
  private var tokens: [Int] = []
  /// Number of occurrences in the answer by token.
  private var counts: [Int: Int] = [:]

  /// - Parameter prompt: The tokens of the prompt without those of images.
  package init(_ options: GenerationOptions, prompt: [Int]) {
    self.options = options
    if penalizesRepetition { tokens = options.repeatLastN < 0 ? prompt : prompt.suffix(options.repeatLastN) }
  }

  private var penalizesRepetition: Bool { options.repeatPenalty != 1 && options.repeatLastN != 0 }
  private var penalizesCounts: Bool { options.presencePenalty != 0 || options.frequencyPenalty != 0 }

  /// Whether logits stay as they are.
  var isIdentity: Bool { options.logitBias.isEmpty && !penalizesRepetition && !penalizesCounts }

  /// Adds a token to the answer.
  package mutating func append(_ token: Int) {
    if penalizesRepetition { tokens.append(token) }
    if penalizesCounts { counts[token, default: 0] += 1 }
  }

  /// Changes the logits of the next token, `[N]`.
  package func callAsFunction(_ logits: inout [Float]) {
    for (token, bias) in options.logitBias where logits.indices.contains(token) { logits[token] += Float(bias) }
    if penalizesRepetition {
      let window = options.repeatLastN < 0 ? tokens[...] : tokens.suffix(options.repeatLastN)
      let penalty = Float(options.repeatPenalty)
      for token in Set(window) where logits.indices.contains(token) {
        logits[token] = logits[token] < 0 ? logits[token] * penalty : logits[token] / penalty
      }
    }
    for (token, count) in counts {
      logits[token] -= Float(options.presencePenalty + options.frequencyPenalty * Double(count))
    }
  }
}
