import Evaluation
import Testing

@Suite struct ChoiceMetricTests {
  @Test(arguments: [
    ("Yes", true), ("No", false), ("no, it is", false), ("It is not.", false), ("Yes. No.", true), ("NO", true),
    ("nothing", true), ("", true), ("There is no,dog", true), ("no\nyes", true),
  ])
  func `POPE looks for no in the first sentence`(answer: String, isYes: Bool) {
    #expect(YesNo.isYesForPOPE(answer) == isYes)
  }

  @Test(
    arguments: [
      ("Yes", true), (" YES. ", true), ("y", true), ("N", false), ("No, it", false), ("a no", false), ("yes no", true),
      ("I think yes", nil), ("", nil), ("maybe", nil), ("..no", false),
    ] as [(String, Bool?)])
  func `MME looks at the first four characters`(answer: String, isYes: Bool?) {
    #expect(YesNo.isYesForMME(answer) == isYes)
  }

  /// TP 3, FP 1, TN 4, FN 2: precision 3/4, recall 3/5, F1 6/9, yes ratio 4/10.
  @Test func `the confusion matrix counts predictions by label`() {
    var confusion = ConfusionMatrix()
    for (predicted, actual, count) in [(true, true, 3), (true, false, 1), (false, false, 4), (false, true, 2)] {
      for _ in 0..<count { confusion.add(predicted: predicted, actual: actual) }
    }
    #expect(confusion.precision == 0.75 && confusion.recall == 0.6 && confusion.yesRatio == 0.4)
    #expect(abs(confusion.f1 - 2.0 / 3) < 1e-12 && confusion.correct == 7 && confusion.count == 10)
    #expect(ConfusionMatrix().f1 == 0 && ConfusionMatrix().precision == 0)
  }

  @Test(arguments: [
    ("B", true), ("b", true), ("B. a dog", true), ("(B) a dog", true), ("Option B", true), ("The answer is B.", true),
    ("bird", true), ("A", false), ("It is B", false), ("", false), (" B\n", true),
  ])
  func `an answer names the option letter at its start`(answer: String, isNamed: Bool) {
    #expect(OptionLetter.isNamed("B", by: answer) == isNamed)
    #expect(!OptionLetter.isNamed("", by: answer))
  }

  @Test(
    arguments: [
      ("C", "C"), ("C. the cat", "C"), ("The answer is C.", "C"), ("So: The answer is A. Well, The answer is B.", nil),
      ("C.", nil), ("c", nil), ("F", nil), ("The answer is C", nil), ("", nil), ("Cat", nil),
    ] as [(String, Character?)])
  func `ScienceQA accepts a letter, or one sentence with it`(answer: String, letter: Character?) {
    #expect(OptionLetter.parsedForScienceQA(answer) == letter)
  }
}
