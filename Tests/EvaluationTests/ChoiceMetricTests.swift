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

  private static let options = [ChoiceOption("A", "cat"), ChoiceOption("B", "dog"), ChoiceOption("C", "bird")]

  /// VLMEvalKit's rules, and for what they leave, a letter that is set off at the start.
  @Test(
    arguments: [
      ("B", "B"), ("b", "B"), ("B. a dog", "B"), ("(B) a dog", "B"), ("Option B", "B"), ("The answer is B.", "B"),
      ("A", "A"),
      ("It is B", "B"), (" B\n", "B"), ("Answer: B", "B"), ("(b)", "B"), ("b)", "B"), ("answer: b", "B"),
      ("b. dog", "B"),
      ("bird", "C"), ("the Dog", "B"), ("The answer is b", "B"), ("B. It barks, as you can hear, at the postman", "B"),
      ("", nil), ("All of them", nil), ("Another one", nil), ("A or B", nil), ("cat or dog", nil), ("D", nil),
      ("Z", nil),
      ("b because", nil), ("a) A or C", nil), ("Because", nil), ("The answer is another", nil),
      ("The answer is a fish", nil),
    ] as [(String, Unicode.Scalar?)])
  func `an answer names an option by letter or text`(answer: String, letter: Unicode.Scalar?) {
    #expect(OptionMatching.option(namedBy: answer, among: Self.options) == letter)
    #expect(OptionMatching.option(namedBy: answer, among: []) == nil)
  }

  @Test(
    arguments: [
      ("C", 2), ("C. the cat", 2), ("The answer is C.", 2), ("The answer is C!", 2), ("C.", nil), ("c", nil),
      ("F", nil),
      ("So: The answer is A. Well, The answer is B.", nil), ("The answer is F. The answer is A.", nil),
      ("The answer is C", nil), ("", nil), ("Cat", nil), ("E", nil), ("(B)", nil),
    ] as [(String, Int?)])
  func `ScienceQA accepts a letter, or one sentence with it`(answer: String, index: Int?) {
    #expect(OptionLetter.parsedForScienceQA(answer, choices: 4) == index)
  }
}
