import Foundation
package import Tokenizers

/// The likelihood that an answer begins with each of several texts, such as `Yes` and `No`, by its first token.
package struct ChoiceScores: Sendable {
  /// Each choice with its possible first tokens.
  private let choices: [(text: String, tokens: [Int])]

  /// - Throws: `GenerationError.indistinctChoices` if a choice has no first token, or two choices have the same one.
  package init(_ choices: [String], _ tokenizer: Tokenizer) throws(GenerationError) {
    var owners: [Int: String] = [:]
    var found: [(text: String, tokens: [Int])] = []
    for choice in choices {
      let tokens = Self.firstTokens(of: choice, tokenizer)
      guard !tokens.isEmpty else { throw .indistinctChoices(choice, other: nil) }
      for token in tokens {
        if let other = owners.updateValue(choice, forKey: token) { throw .indistinctChoices(choice, other: other) }
      }
      found.append((choice, tokens))
    }
    self.choices = found
  }

  /// The first tokens of a text at the beginning of an answer, after a space and after a line break.
  private static func firstTokens(of choice: String, _ tokenizer: Tokenizer) -> [Int] {
    let first = ["", " ", "\n"].compactMap { space in
      tokenizer.encode(space + choice).first { id in
        let text = tokenizer.bytes(of: id).drop { $0 == 0x20 || $0 == 0x0A }
        return !text.isEmpty && choice.utf8.starts(with: text)
      }
    }
    return Set(first.map(Int.init)).sorted()
  }

  /// The log-probability of each choice, at least `TokenLogprob.minimum`.
  ///
  /// - Parameter logits: The logits of the first token, `[N]`.
  func callAsFunction(_ logits: [Float]) -> [String: Double] {
    let scale = logits.logSumExp
    let scores = choices.map { choice in
      let tokens = choice.tokens.filter(logits.indices.contains).map { logits[$0] }
      return (choice.text, max(TokenLogprob.minimum, tokens.logSumExp - scale))
    }
    return Dictionary(scores) { $1 }
  }
}
