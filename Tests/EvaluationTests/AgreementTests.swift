import Evaluation
import Foundation
import Testing

@Suite struct AgreementTests {
  /// p = (1/4, 3/4), q = (1/2, 1/2): 1/4 ln(1/2) + 3/4 ln(3/2).
  @Test func `computes the divergence of a known case`() {
    let p: [Float] = [0, Float(log(3.0))]
    let expected = 0.25 * log(0.5) + 0.75 * log(1.5)
    #expect(abs(divergence(of: [7, 7], from: p) - expected) < 1e-7)
    #expect(abs(divergence(of: p, from: p)) < 1e-12)
  }

  @Test func `counts matching and correct answers`() {
    var agreement = Agreement()
    let reference = Agreement.Answer(logits: [0, 1], tokens: [1, 5, 6], text: "red")
    agreement.add(.init(logits: [0, 2], tokens: [1, 5, 6], text: "red"), reference: reference, label: " RED\n")
    agreement.add(.init(logits: [2, 0], tokens: [0, 5, 6], text: "blue"), reference: reference, label: "red")
    agreement.add(.init(logits: [0, 1], tokens: [1, 5], text: "red"), reference: reference, label: nil)
    #expect(agreement.questions == 3 && agreement.matchingFirstTokens == 2 && agreement.sameAnswers == 2)
    #expect(agreement.labelledQuestions == 2 && agreement.correctAnswers == 1)
    #expect(agreement.accuracy?.share == 0.5)
    #expect(agreement.firstTokenAgreement?.share == 2.0 / 3)
    // The second answer differs in its first token; the third ends where the reference continues.
    #expect(agreement.firstDifferences == [1, 3])
  }
}
