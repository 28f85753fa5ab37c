import Evaluation
import Testing

@Suite struct TextMetricTests {
  /// What the published normaliser makes of these, whose oddities are: a sign anywhere beside a space goes everywhere, others
  /// become spaces; 32 periods go and no more; words are looked up after numbers and articles.
  @Test(arguments: [
    ("The two dogs, dont bark!", "2 dogs don't bark"), ("1,000", "1000"), ("half-way", "half way"),
    ("well - known well-known", "well known wellknown"), ("it's the dog's bone", "it 's dog 's bone"),
    ("3.5 m.", "3.5 m"), ("U.S.A.", "usa"), (String(repeating: ".", count: 40), "........"),
    ("What\tIS\nthis?", "what is this"), ("none", "0"), ("somebody'd", "somebodyd"), ("  A  ", ""), ("yes!", "yes"),
    ("(b) no", "b no"), ("12:30 p.m.", "12:30 pm"), ("couldntve couldn'tve", "couldntve couldn't've"),
    ("$5.00.", "$5.00"), ("a/b", "b"), ("ten o'clock", "10 o'clock"), ("École, no. 5", "école no 5"),
    ("'ow's'at s's", "'ow 's'at s 's"), ("", ""),
  ])
  func `normalises answers as the published code`(answer: String, expected: String) {
    #expect(AnswerNormalizer.normalized(answer) == expected)
  }

  /// Ten annotators: 2 say red, 1 blue, 3 green, 4 grey.
  /// red: the two reds see one other, (2 * 1/3 + 8 * 2/3) / 10 = 0.6; blue: (1 * 0 + 9 * 1/3) / 10 = 0.3;
  /// green: (3 * 2/3 + 7 * 1) / 10 = 0.9; grey: 1.
  @Test func `an answer is worth what annotators agree on`() {
    let score = SoftScore(
      annotations: ["Red", "red."] + ["blue"] + ["green", "green", "the green"] + Array(repeating: "grey", count: 4))
    for (answer, value) in [("red", 0.6), ("A blue", 0.3), ("green", 0.9), ("grey", 1), ("black", 0)] {
      #expect(abs(score.value(of: answer) - value) < 1e-12, "\(answer)")
    }
  }

  /// kitten and sitting are 3 edits apart, 1 - 3/7; ab and cd are less than half alike; the nearest of several counts; white
  /// space does not, but in the length that the distance is divided by: 1 - 1/5.
  @Test func `similarity counts edits`() {
    let cases: [(answer: String, references: [String], expected: Double)] = [
      ("sitting", ["kitten"], 1 - 3.0 / 7), ("ab", ["cd"], 0), ("ab", ["xb"], 0.5), ("Sun", ["moon", "sun"], 1),
      ("A  b", ["a b"], 1), ("a  bc", ["a b"], 0.8), ("", [""], 1), ("", ["a"], 0), ("a", [], 0),
    ]
    for (answer, references, expected) in cases {
      #expect(abs(editSimilarity(answer, references) - expected) < 1e-12, "\(answer) \(references)")
    }
  }

  /// 5% of 40 are 2; 9.5% are 0.095, so that 0.1 is off by 0.005 / 0.095 = 5.3%; nothing is near zero but itself.
  @Test(arguments: [
    ("42", "40", true), ("42.1", "40", false), ("38", "40", true), ("-40", "40", false), ("50%", "0.5", true),
    ("0.1", "9.5%", false), ("0", "0", true), ("0.0", "0", false), ("Yes", "yes", true), ("1,000", "1000", false),
    ("ten", "10", false), ("nan", "NaN", true), ("0x10", "16", false), ("2e3", "2000", true), ("%", "%", true),
  ])
  func `numbers match within five percent`(answer: String, reference: String, expected: Bool) {
    #expect(isRelaxedMatch(answer, reference) == expected)
  }

  @Test func `an exact match leaves out case and white space around`() {
    #expect(isExactMatch(" RED\n", "red") && !isExactMatch("red.", "red") && !isExactMatch("r ed", "red"))
  }
}
