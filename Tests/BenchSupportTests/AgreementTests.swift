import BenchSupport
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
    let reference = (logits: [Float(0), 1], answer: "red")
    agreement.add(logits: [0, 2], answer: "red", reference: reference, label: " RED\n")
    agreement.add(logits: [2, 0], answer: "blue", reference: reference, label: "red")
    agreement.add(logits: [0, 1], answer: "red", reference: reference, label: nil)
    #expect(agreement.questions == 3 && agreement.sameFirstTokens == 2 && agreement.sameAnswers == 2)
    #expect(agreement.labelled == 2 && agreement.rightAnswers == 1)
    #expect(agreement.accuracy?.share == 0.5)
  }
}
