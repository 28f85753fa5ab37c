import Storage
import Foundation
import Kernels

/// Agreement between the answers of one configuration and those of a reference configuration.
package struct Agreement: Sendable {
  /// The answer of one configuration to one question.
  package struct Answer: Sendable {
    /// Logits of the first generated token, `[N]`.
    package var logits: [Float]
    package var tokens: [Int]
    package var text: String

    package init(logits: [Float], tokens: [Int], text: String) {
      (self.logits, self.tokens, self.text) = (logits, tokens, text)
    }
  }

  package private(set) var questions = 0
  /// Questions with the same most likely first token.
  package private(set) var matchingFirstTokens = 0
  package private(set) var sameAnswers = 0
  package private(set) var correctAnswers = 0
  /// Questions with a label.
  package private(set) var labelledQuestions = 0
  /// Kullback-Leibler divergence of each question's first token from the reference's, in nats.
  package private(set) var divergences: [Double] = []
  /// For each question with different tokens, the 1-based position of the first difference.
  package private(set) var firstDifferences: [Int] = []

  package init() {}

  /// Adds a question.
  ///
  /// - Parameter label: The correct answer, if there is one.
  package mutating func add(_ answer: Answer, reference: Answer, label: String?) {
    questions += 1
    divergences.append(divergence(of: answer.logits, from: reference.logits))
    if indexOfMaximum(answer.logits) == indexOfMaximum(reference.logits) { matchingFirstTokens += 1 }
    if answer.tokens != reference.tokens {
      firstDifferences.append(1 + zip(answer.tokens, reference.tokens).prefix { $0 == $1 }.count)
    }
    if answer.text.hasBytes(of: reference.text) { sameAnswers += 1 }
    guard let label else { return }
    labelledQuestions += 1
    if isExactMatch(answer.text, label) { correctAnswers += 1 }
  }

  /// First-token agreement with its 95% confidence interval, 0 to 1; `nil` before the first question.
  package var firstTokenAgreement: (share: Double, low: Double, high: Double)? {
    questions == 0 ? nil : proportion(matchingFirstTokens, of: questions)
  }

  /// Mean Kullback-Leibler divergence, in nats; `nil` before the first question.
  package var meanDivergence: Double? {
    divergences.isEmpty ? nil : divergences.reduce(0, +) / Double(divergences.count)
  }

  /// Accuracy on the labelled questions with its 95% confidence interval, 0 to 1; `nil` without any.
  package var accuracy: (share: Double, low: Double, high: Double)? {
    labelledQuestions == 0 ? nil : proportion(correctAnswers, of: labelledQuestions)
  }
}

/// The Kullback-Leibler divergence `Σ p (ln p - ln q)` of two softmax distributions, in nats; `p` is the reference's.
///
/// - Parameters:
///   - logits: The logits of `q`, `[N]`.
///   - reference: The logits of `p`, `[N]`.
package func divergence(of logits: [Float], from reference: [Float]) -> Double {
  let (p, q) = (logProbabilities(reference), logProbabilities(logits))
  return zip(p, q).reduce(0) { $0 + exp($1.0) * ($1.0 - $1.1) }
}

private func logProbabilities(_ logits: [Float]) -> [Double] {
  let largest = logits.max() ?? 0
  let shifted = logits.map { Double($0) - Double(largest) }
  let logSum = log(shifted.reduce(0) { $0 + exp($1) })
  return shifted.map { $0 - logSum }
}
