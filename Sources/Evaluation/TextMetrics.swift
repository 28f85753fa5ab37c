import Foundation

/// ANLS: how near an answer is to the nearest of the right ones, 0 to 1, in edits.
///
/// Case and runs of white space do not matter; the distance is divided by the longer of the two as they were given, and what
/// is less than half alike counts nothing.
///
/// Source: Biten et al. 2019, Scene text visual question answering, as DocVQA's evaluation applies it.
package func editSimilarity(_ answer: String, _ references: [String]) -> Double {
  let distances = references.map { reference in
    let longer = max(answer.unicodeScalars.count, reference.unicodeScalars.count)
    return longer == 0 ? 0 : Double(editDistance(collapsed(answer), collapsed(reference))) / Double(longer)
  }
  let similarity = 1 - (distances.min() ?? 1)
  return similarity < 0.5 ? 0 : similarity
}

/// In small letters, with one space wherever white space was.
private func collapsed(_ text: String) -> [Unicode.Scalar] {
  Array(text.lowercased().split { $0.isWhitespace }.joined(separator: " ").unicodeScalars)
}

/// Fewest insertions, deletions and replacements that make one text the other.
///
/// Source: Levenshtein 1966; cost `a.count * b.count`.
func editDistance(_ a: [Unicode.Scalar], _ b: [Unicode.Scalar]) -> Int {
  var row = Array(0...b.count)
  for (i, scalar) in a.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, other) in b.enumerated() {
      let replaced = diagonal + (scalar == other ? 0 : 1)
      diagonal = row[j + 1]
      row[j + 1] = min(replaced, diagonal + 1, row[j] + 1)
    }
  }
  return row[b.count]
}

/// Whether an answer is the right one, but for white space around it and the case of its letters.
package func isExactMatch(_ answer: String, _ label: String) -> Bool { plain(answer) == plain(label) }

/// In small letters, without white space around it.
func plain(_ text: String) -> String { text.trimmingCharacters(in: .whitespacesAndNewlines).lowercased() }

/// ChartQA's relaxed match: a number within 5% of the right one, or the same text but for case.
///
/// Source: Masry et al. 2022, ChartQA, section 5.1, after Methani et al. 2020.
package func isRelaxedMatch(_ answer: String, _ reference: String) -> Bool {
  let (answer, reference) = (plain(answer), plain(reference))
  // Nothing is within 5% of zero.
  if let found = number(answer), let right = number(reference), right != 0 {
    return abs(found - right) / abs(right) <= 0.05
  }
  return answer == reference
}

/// The number that a text says; with a percent sign at its end, a hundredth of it.
private func number(_ text: String) -> Double? {
  var digits = text[...]
  while digits.last == "%" { digits.removeLast() }
  guard digits.allSatisfy({ $0.isNumber || "+-.e".contains($0) }), let number = Double(digits) else { return nil }
  return digits.endIndex < text.endIndex ? number / 100 : number
}

/// How far the annotators of a VQA question agree with an answer.
package struct SoftScore: Sendable {
  private let values: [String: Double]

  /// An answer's value is the mean over the annotators of `min(1, m / 3)`, where `m` of the others gave that answer.
  ///
  /// - Parameter annotations: What the annotators answered, ten of them in the published data.
  ///
  /// Source: Antol et al. 2015, VQA; `TextVQAAccuracyEvaluator` in LLaVA's `llava/eval/m4c_evaluator.py`.
  package init(annotations: [String]) {
    let answers = annotations.map(AnswerNormalizer.normalized)
    let counts = Dictionary(answers.map { ($0, 1) }, uniquingKeysWith: +)
    values = counts.mapValues { count in
      // Of the annotators, `count` see one of their own fewer.
      let own = Double(count) * min(1, Double(count - 1) / 3)
      let others = Double(answers.count - count) * min(1, Double(count) / 3)
      return (own + others) / Double(answers.count)
    }
  }

  /// The value of an answer, 0 to 1.
  package func value(of answer: String) -> Double { values[AnswerNormalizer.normalized(answer)] ?? 0 }
}

/// Which option of a multiple-choice question an answer names.
package enum OptionLetter {
  /// Whether an answer names an option: begins with its letter, or has it after `(`, `option ` or `the answer is `.
  ///
  /// Source: Chen et al. 2024, MMStar, its evaluation code; case does not matter there.
  package static func isNamed(_ letter: String, by answer: String) -> Bool {
    let (letter, answer) = (plain(letter), plain(answer))
    return !letter.isEmpty && ["", "(", "option ", "the answer is "].contains { answer.hasPrefix($0 + letter) }
  }

  /// ScienceQA's reading: the letter alone, before `. `, or the only one in `The answer is X.`.
  ///
  /// Source: LLaVA's `llava/eval/eval_science_qa.py`.
  package static func parsedForScienceQA(_ answer: String) -> Character? {
    let letters = "ABCDE"
    let characters = Array(answer)
    guard let first = characters.first else { return nil }
    if letters.contains(first), characters.count == 1 || characters.dropFirst().starts(with: ". ") { return first }
    let found = answer.matches(of: /The answer is ([A-E])\./)
    return found.count == 1 ? found[0].output.1.first : nil
  }
}

/// What answers to yes-or-no questions say.
package enum YesNo {
  /// POPE's reading: no where the first sentence has the word, else yes.
  ///
  /// Source: LLaVA's `llava/eval/eval_pope.py`.
  package static func isYesForPOPE(_ answer: String) -> Bool {
    let sentence = answer.prefix { $0 != "." }.filter { $0 != "," }
    let words = sentence.split(separator: " ", omittingEmptySubsequences: false)
    return !words.contains { ["No", "not", "no"].contains($0) }
  }

  /// MME's reading; `nil` for what says neither.
  ///
  /// Source: lmms-eval's task for MME, after the benchmark's `calculation.py`.
  package static func isYesForMME(_ answer: String) -> Bool? {
    let text = plain(answer).filter { $0 != "." }
    switch text {
    case "y": return true
    case "n": return false
    default:
      let start = text.prefix(4)
      return start.contains("yes") ? true : start.contains("no") ? false : nil
    }
  }
}

/// Answers by what they are and what they should be; yes is positive.
package struct Confusion: Equatable, Sendable {
  package var truePositives = 0
  package var falsePositives = 0
  package var trueNegatives = 0
  package var falseNegatives = 0

  package init() {}

  package mutating func add(isYes: Bool, shouldBeYes: Bool) {
    switch (isYes, shouldBeYes) {
    case (true, true): truePositives += 1
    case (true, false): falsePositives += 1
    case (false, false): trueNegatives += 1
    case (false, true): falseNegatives += 1
    }
  }

  package var count: Int { truePositives + falsePositives + trueNegatives + falseNegatives }
  package var right: Int { truePositives + trueNegatives }
  /// Shares are 0 where there is nothing to take them of.
  package var precision: Double { Self.share(truePositives, of: truePositives + falsePositives) }
  package var recall: Double { Self.share(truePositives, of: truePositives + falseNegatives) }
  package var f1: Double { Self.share(2 * truePositives, of: 2 * truePositives + falsePositives + falseNegatives) }
  package var yesShare: Double { Self.share(truePositives + falsePositives, of: count) }

  private static func share(_ part: Int, of whole: Int) -> Double { whole == 0 ? 0 : Double(part) / Double(whole) }
}
