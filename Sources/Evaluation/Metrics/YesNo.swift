internal import Foundation

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
