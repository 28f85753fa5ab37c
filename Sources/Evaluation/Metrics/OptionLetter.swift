/// Which option of a multiple-choice question an answer names.
package enum OptionLetter {
  /// Whether an answer names an option: begins with its letter, or has it behind `(`, `option ` or `the answer is `.
  ///
  /// Source: Chen et al. 2024, MMStar, its evaluation code; case does not matter there.
  package static func isNamed(_ letter: String, by answer: String) -> Bool {
    let (letter, answer) = (plain(letter), plain(answer))
    return !letter.isEmpty && ["", "(", "option ", "the answer is "].contains { answer.hasPrefix($0 + letter) }
  }

  /// ScienceQA's reading: the letter alone, in front of `. `, or the only one in `The answer is X.`.
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
