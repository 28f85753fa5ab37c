import Foundation
import Kernels

/// How near the answers of one way to compute are to those of another, over some questions.
package struct Agreement: Sendable {
  /// What a question was answered.
  package struct Answer: Sendable {
    /// What the first token was chosen by.
    package var logits: [Float]
    package var tokens: [Int]
    package var text: String

    package init(logits: [Float], tokens: [Int], text: String) {
      (self.logits, self.tokens, self.text) = (logits, tokens, text)
    }
  }

  package private(set) var questions = 0
  /// Questions whose likeliest first token is the same.
  package private(set) var sameFirstTokens = 0
  package private(set) var sameAnswers = 0
  package private(set) var rightAnswers = 0
  /// Questions that come with the right answer.
  package private(set) var labelled = 0
  /// Kullback-Leibler divergence of each question's first token from the reference's, in nats.
  package private(set) var divergences: [Double] = []
  /// Of each question whose tokens differ, the number of the first that does, from 1.
  package private(set) var firstDifferences: [Int] = []

  package init() {}

  /// Counts a question.
  ///
  /// - Parameters:
  ///   - label: The right answer, if it is known.
  package mutating func add(_ answer: Answer, reference: Answer, label: String?) {
    questions += 1
    divergences.append(divergence(of: answer.logits, from: reference.logits))
    if indexOfMaximum(answer.logits) == indexOfMaximum(reference.logits) { sameFirstTokens += 1 }
    if answer.tokens != reference.tokens {
      firstDifferences.append(1 + zip(answer.tokens, reference.tokens).prefix { $0 == $1 }.count)
    }
    if answer.text == reference.text { sameAnswers += 1 }
    guard let label else { return }
    labelled += 1
    if isExactMatch(answer.text, label) { rightAnswers += 1 }
  }

  /// The share of questions whose first token is the same, with its 95% interval; `nil` before the first question.
  package var firstTokenAgreement: (share: Double, low: Double, high: Double)? {
    questions == 0 ? nil : proportion(sameFirstTokens, of: questions)
  }

  package var meanDivergence: Double? {
    divergences.isEmpty ? nil : divergences.reduce(0, +) / Double(divergences.count)
  }

  package var accuracy: (share: Double, low: Double, high: Double)? {
    labelled == 0 ? nil : proportion(rightAnswers, of: labelled)
  }
}

/// `Σ p (ln p - ln q)` of the distributions that two rows of logits stand for, in nats; p is the reference's.
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
