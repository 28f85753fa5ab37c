import Evaluation
import Foundation
import Testing

@Suite struct AgreementTests {
  /// p = (1/4, 3/4), q = (1/2, 1/2): 1/4 ln(1/2) + 3/4 ln(3/2).
  @Test func `divergence is that of a hand-made case`() {
    let p: [Float] = [0, Float(log(3.0))]
    let expected = 0.25 * log(0.5) + 0.75 * log(1.5)
    #expect(abs(divergence(of: [7, 7], from: p) - expected) < 1e-7)
    #expect(abs(divergence(of: p, from: p)) < 1e-12)
  }

  @Test func `counts what agrees and what is right`() {
    var agreement = Agreement()
    let reference = Agreement.Answer(logits: [0, 1], tokens: [1, 5, 6], text: "red")
    agreement.add(.init(logits: [0, 2], tokens: [1, 5, 6], text: "red"), reference: reference, label: " RED\n")
    agreement.add(.init(logits: [2, 0], tokens: [0, 5, 6], text: "blue"), reference: reference, label: "red")
    agreement.add(.init(logits: [0, 1], tokens: [1, 5], text: "red"), reference: reference, label: nil)
    #expect(agreement.questions == 3 && agreement.sameFirstTokens == 2 && agreement.sameAnswers == 2)
    #expect(agreement.labelled == 2 && agreement.rightAnswers == 1)
    #expect(agreement.accuracy?.share == 0.5)
    #expect(agreement.firstTokenAgreement?.share == 2.0 / 3)
    // The second answer differs at once, the third ends where the reference goes on.
    #expect(agreement.firstDifferences == [1, 3])
  }
}
