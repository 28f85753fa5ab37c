import Storage

/// ANLS, the average normalized Levenshtein similarity of one answer: its best similarity to a reference, 0 to 1.
///
/// The edit distance ignores case and runs of white space. It is divided by the length of the longer original text.
/// A similarity below 0.5 scores 0.
///
/// - Parameter countsHalf: Whether a similarity of exactly 0.5 counts. It does in the evaluation code of the
///   competitions and in VLMEvalKit; in the formula of the paper, and in the package `anls`, it scores 0.
///
/// Source: Biten et al. 2019, Scene text visual question answering, as `anls_compute` and `hit_calculate` in
/// VLMEvalKit's `vqa_eval.py` apply it to DocVQA.
package func anls(_ answer: String, _ references: [String], countsHalf: Bool = true) -> Double {
  let distances = references.map { reference in
    let longer = max(answer.uppercased().unicodeScalars.count, reference.uppercased().unicodeScalars.count)
    return longer == 0 ? 0 : Double(editDistance(collapsed(answer), collapsed(reference))) / Double(longer)
  }
  let similarity = 1 - (distances.min() ?? 1)
  return similarity > 0.5 || similarity == 0.5 && countsHalf ? similarity : 0
}

/// The text in lower case, with each run of white space as one space.
private func collapsed(_ text: String) -> [Unicode.Scalar] {
  Array(PythonText.words(text.pythonLower.unicodeScalars).joined(separator: " ").unicodeScalars)
}

/// The Levenshtein distance: the minimum number of insertions, deletions and substitutions.
///
/// Cost: `a.count * b.count` steps. Source: Levenshtein 1966.
func editDistance(_ a: [Unicode.Scalar], _ b: [Unicode.Scalar]) -> Int {
  var row = Array(0...b.count)
  for (i, scalar) in a.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, other) in b.enumerated() {
      let substituted = diagonal + (scalar == other ? 0 : 1)
      diagonal = row[j + 1]
      row[j + 1] = min(substituted, diagonal + 1, row[j] + 1)
    }
  }
  return row[b.count]
}

/// Whether an answer equals the label, ignoring case and surrounding white space.
package func isExactMatch(_ answer: String, _ label: String) -> Bool {
  trimmedLowercase(answer).hasBytes(of: trimmedLowercase(label))
}

/// The text in lower case, without surrounding white space.
func trimmedLowercase(_ text: String) -> String { PythonText.stripped(text).pythonLower }

/// ChartQA's relaxed match: a number within 5% of the reference, or the same text ignoring case.
///
/// A number is what Python's `float` reads; after a percent sign, a hundredth of it. A relative tolerance is undefined
/// for a reference of zero, so that needs the same text.
///
/// Source: Masry et al. 2022, ChartQA, section 5.1, as `relaxed_correctness` in pix2struct's `metrics.py` and in
/// VLMEvalKit's `vqa_eval.py` applies it.
package func isRelaxedMatch(_ answer: String, _ reference: String) -> Bool {
  let answer = PythonText.stripped(answer)
  if let found = number(answer), let expected = number(reference), expected != 0 {
    return abs(found - expected) / abs(expected) <= 0.05
  }
  return answer.pythonLower.hasBytes(of: reference.pythonLower)
}

/// The number in a text, divided by 100 if a percent sign follows; `nil` for any other text.
private func number(_ text: String) -> Double? {
  var digits = text.unicodeScalars[...]
  while digits.last == "%" { digits.removeLast() }
  let number = PythonText.float(PythonText.string(digits))
  return digits.endIndex < text.endIndex ? number.map { $0 / 100 } : number
}

/// The soft accuracy of answers to a VQA question, from the answers of its annotators.
package struct SoftAccuracy: Sendable {
  private let values: [ByteString: Double]
  private let normalize: @Sendable (String) -> String

  /// Computes the accuracy of each annotated answer.
  ///
  /// It is the mean over the annotators of `min(1, m / 3)`, where `m` is the number of others who gave that answer.
  ///
  /// - Parameter annotations: The answers of the annotators, ten in the published data.
  ///
  /// Source: Antol et al. 2015, VQA; `TextVQAAccuracyEvaluator` in LLaVA's `llava/eval/m4c_evaluator.py`.
  package init(annotations: [String]) { self.init(annotations, AnswerNormalizer.normalized) }

  /// The accuracy on the evaluation server of VQAv2: answers are only normalized if the annotators differ.
  ///
  /// Source: `vqaEval.py` of Antol et al. 2015.
  package init(scoredByServer annotations: [String]) {
    let isUnanimous = Set(annotations.map { ByteString(Self.trimmed($0)) }).count < 2
    self.init(annotations, isUnanimous ? Self.trimmed : AnswerNormalizer.normalizedByServer)
  }

  private init(_ annotations: [String], _ normalize: @escaping @Sendable (String) -> String) {
    self.normalize = normalize
    let counts = Dictionary(annotations.map { (ByteString(normalize($0)), 1) }, uniquingKeysWith: +)
    values = counts.mapValues { count in
      // For the `count` annotators with this answer, one fewer of the others has it.
      let own = Double(count) * min(1, Double(count - 1) / 3)
      let others = Double(annotations.count - count) * min(1, Double(count) / 3)
      return (own + others) / Double(annotations.count)
    }
  }

  private static func trimmed(_ text: String) -> String {
    PythonText.string(PythonText.stripped(text.unicodeScalars.map { $0 == "\n" || $0 == "\t" ? " " : $0 }))
  }

  /// The accuracy of an answer, 0 to 1.
  package func value(of answer: String) -> Double { values[ByteString(normalize(answer))] ?? 0 }
}

/// Parsing of answers to yes-or-no questions.
package enum YesNo {
  /// The answers to a yes-or-no question.
  static let choices = ["Yes", "No"]

  /// The answer by POPE's rule: no if the first sentence contains the word no or not, else yes.
  ///
  /// Source: LLaVA's `llava/eval/eval_pope.py`.
  package static func isYesForPOPE(_ answer: String) -> Bool {
    let sentence = answer.unicodeScalars.prefix { $0 != "." }.filter { $0 != "," }
    let words = sentence.split(separator: " ", omittingEmptySubsequences: false).map(PythonText.string)
    return !words.contains { ["No", "not", "no"].contains($0) }
  }

  /// The answer by MME's rule, from its first four characters; `nil` for neither yes nor no.
  ///
  /// Source: lmms-eval's task for MME, after the benchmark's `calculation.py`.
  package static func isYesForMME(_ answer: String) -> Bool? {
    let text = PythonText.string(trimmedLowercase(answer).unicodeScalars.filter { $0 != "." })
    switch text {
    case "y": return true
    case "n": return false
    default:
      let start = text.unicodeScalars.prefix(4)
      return start.contains("yes".unicodeScalars) ? true : start.contains("no".unicodeScalars) ? false : nil
    }
  }
}

/// The confusion matrix of yes-or-no answers; yes is positive.
package struct ConfusionMatrix: Equatable, Sendable {
  package var truePositives = 0
  package var falsePositives = 0
  package var trueNegatives = 0
  package var falseNegatives = 0

  package init() {}

  package mutating func add(predicted: Bool, actual: Bool) {
    switch (predicted, actual) {
    case (true, true): truePositives += 1
    case (true, false): falsePositives += 1
    case (false, false): trueNegatives += 1
    case (false, true): falseNegatives += 1
    }
  }

  package var count: Int { truePositives + falsePositives + trueNegatives + falseNegatives }
  package var correct: Int { truePositives + trueNegatives }
  // A ratio with a denominator of 0 is 0.
  package var precision: Double { Self.ratio(truePositives, of: truePositives + falsePositives) }
  package var recall: Double { Self.ratio(truePositives, of: truePositives + falseNegatives) }
  package var f1: Double { Self.ratio(2 * truePositives, of: 2 * truePositives + falsePositives + falseNegatives) }
  package var yesRatio: Double { Self.ratio(truePositives + falsePositives, of: count) }

  private static func ratio(_ part: Int, of whole: Int) -> Double { whole == 0 ? 0 : Double(part) / Double(whole) }
}
