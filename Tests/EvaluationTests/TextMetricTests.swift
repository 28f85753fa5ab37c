import Evaluation
import Testing

@Suite struct TextMetricTests {
  /// The output of the published code, with its quirks.
  ///
  /// A mark next to a space anywhere is removed everywhere; any other becomes a space. At most 32 periods are removed.
  /// Contractions are looked up after numbers and articles.
  @Test(arguments: [
    ("The two dogs, dont bark!", "2 dogs don't bark"), ("1,000", "1000"), ("half-way", "half way"),
    ("well - known well-known", "well known wellknown"), ("it's the dog's bone", "it 's dog 's bone"),
    ("3.5 m.", "3.5 m"), ("U.S.A.", "usa"), (String(repeating: ".", count: 40), "........"),
    ("What\tIS\nthis?", "what is this"), ("none", "0"), ("somebody'd", "somebodyd"), ("  A  ", ""), ("yes!", "yes"),
    ("(b) no", "b no"), ("12:30 p.m.", "12:30 pm"), ("couldntve couldn'tve", "couldntve couldn't've"),
    ("$5.00.", "$5.00"), ("a/b", "b"), ("ten o'clock", "10 o'clock"), ("École, no. 5", "école no 5"),
    ("'ow's'at s's", "'ow 's'at s 's"), ("", ""),
  ])
  func `normalizes answers like the published code`(answer: String, expected: String) {
    #expect(AnswerNormalizer.normalized(answer) == expected)
  }

  /// Ten annotators: 2 say red, 1 blue, 3 green, 4 grey.
  /// red: the two reds see one other, (2 * 1/3 + 8 * 2/3) / 10 = 0.6; blue: (1 * 0 + 9 * 1/3) / 10 = 0.3;
  /// green: (3 * 2/3 + 7 * 1) / 10 = 0.9; grey: 1.
  @Test func `soft accuracy grows with the number of agreeing annotators`() {
    let score = SoftAccuracy(
      annotations: ["Red", "red."] + ["blue"] + ["green", "green", "the green"] + Array(repeating: "grey", count: 4))
    for (answer, value) in [("red", 0.6), ("A blue", 0.3), ("green", 0.9), ("grey", 1), ("black", 0)] {
      #expect(abs(score.value(of: answer) - value) < 1e-12, "\(answer)")
    }
  }

  /// kitten and sitting are 3 edits apart, 1 - 3/7; ab and cd are below 0.5; the best of several references counts.
  /// White space counts only in the length that the distance is divided by: 1 - 1/5.
  @Test func `ANLS counts edits`() {
    let cases: [(answer: String, references: [String], expected: Double)] = [
      ("sitting", ["kitten"], 1 - 3.0 / 7), ("ab", ["cd"], 0), ("ab", ["xb"], 0.5), ("Sun", ["moon", "sun"], 1),
      ("A  b", ["a b"], 1), ("a  bc", ["a b"], 0.8), ("", [""], 1), ("", ["a"], 0), ("a", [], 0),
    ]
    for (answer, references, expected) in cases {
      #expect(abs(anls(answer, references) - expected) < 1e-12, "\(answer) \(references)")
    }
  }

  /// 5% of 40 is 2; 9.5% is 0.095, so 0.1 is off by 0.005 / 0.095 = 5.3%; a reference of zero requires the same text.
  /// NaN is a number that is near none.
  @Test(arguments: [
    ("42", "40", true), ("42.1", "40", false), ("38", "40", true), ("-40", "40", false), ("50%", "0.5", true),
    ("0.1", "9.5%", false), ("0", "0", true), ("0.0", "0", false), ("Yes", "yes", true), ("1,000", "1000", false),
    ("ten", "10", false), ("nan", "NaN", false), ("100 %", "1", true), ("100%", "100 %", true), ("0x10", "16", false),
    ("2e3", "2000", true), ("%", "%", true),
  ])
  func `numbers match within 5%`(answer: String, reference: String, expected: Bool) {
    #expect(isRelaxedMatch(answer, reference) == expected)
  }

  @Test func `an exact match ignores case and surrounding white space`() {
    #expect(isExactMatch(" RED\n", "red") && !isExactMatch("red.", "red") && !isExactMatch("r ed", "red"))
  }
}
