import Storage

/// An option of a multiple-choice question.
package struct ChoiceOption: Sendable, Equatable {
  /// A letter from A to Z.
  package var letter: Unicode.Scalar
  package var text: String

  package init(_ letter: Unicode.Scalar, _ text: String) { (self.letter, self.text) = (letter, text) }
}

/// The option that an answer in free text names, by VLMEvalKit's rules.
///
/// VLMEvalKit asks a judge model about an answer that they do not match. Here, a letter at the start of such an answer
/// is used, if it is set off from the text; every other answer names no option.
package enum OptionMatching {
  /// The letter of the option that an answer names; `nil` for an answer that names none.
  package static func option(namedBy answer: String, among options: [ChoiceOption]) -> Unicode.Scalar? {
    switch letter(in: answer, among: options) {
    case .option(let letter): letter
    case .refused: nil
    case .notFound: text(in: answer, among: options) ?? leadingLetter(of: answer, among: options)
    }
  }

  private enum Letter {
    case option(Unicode.Scalar)
    /// The answer declines to choose.
    case refused
    case notFound
  }

  private static let refusals = [
    "Sorry, I can't help with images of people yet.", "I can't process this file.",
    "I'm sorry, but without the image provided", "Cannot determine the answer",
  ]
  /// Marks that separate words, as white space does.
  private static let marks: Set<Unicode.Scalar> = [".", "(", ")", "[", "]", ",", ":", ";", "!", "*", "#", "{", "}"]

  /// An option letter as a word of its own.
  ///
  /// It must be the only one, and among the last four words, or follow `answer is`. Unlike in the source, a letter
  /// after `answer is` is not the beginning of a word, nor the article of one.
  ///
  /// Source: `can_infer_option` in VLMEvalKit's `vlmeval/utils/matching_util.py`.
  private static func letter(in answer: String, among options: [ChoiceOption]) -> Letter {
    if answer.contains("Failed to obtain answer via API") { return .notFound }
    if refusals.contains(where: answer.contains) { return .refused }
    let words = words(of: answer)
    let named = options.filter { words.contains(String($0.letter)) }
    if named.count == 1, let index = words.firstIndex(of: String(named[0].letter)), index > words.count - 5 {
      return .option(named[0].letter)
    }
    if named.isEmpty, words.contains("Z") { return .refused }
    for match in answer.matches(of: /(?i:answer\s+is\s+\**([ABCD]))(?<next>\**\s*\S?)/) {
      guard let letter = match.1.uppercased().unicodeScalars.first, options.contains(where: { $0.letter == letter })
      else { continue }
      let next = match.next.unicodeScalars.drop { $0 == "*" }
      let isWord = next.first.map { !PythonText.isSpace($0) && isLetterOrDigit($0) } ?? false
      let isArticle = match.1 == "a" && (next.last.map(isLetterOrDigit) ?? false)
      if !isWord, !isArticle { return .option(letter) }
    }
    return .notFound
  }

  /// The only option whose text is in the answer, unless the answer is more than twice as long as all options.
  ///
  /// Source: `can_infer_text` in VLMEvalKit's `vlmeval/utils/matching_util.py`.
  private static func text(in answer: String, among options: [ChoiceOption]) -> Unicode.Scalar? {
    let answer = Array(answer.pythonLower.utf8)
    let scalarCount = answer.count { $0 & 0xC0 != 0x80 }
    guard scalarCount <= 2 * options.reduce(0, { $0 + $1.text.unicodeScalars.count }) else { return nil }
    let found = options.filter { answer.contains(Array($0.text.pythonLower.utf8)) }
    return found.count == 1 ? found[0].letter : nil
  }

  /// The letter of an option, in either case, at the start of an answer and alone or set off by a mark, such as `b`,
  /// `(b) two`, `B. two` or `Answer: b`, if the answer names no other letter.
  private static func leadingLetter(of answer: String, among options: [ChoiceOption]) -> Unicode.Scalar? {
    guard
      let match = answer.wholeMatch(
        of: /\s*(?i:(?:option|answer)\b\s*(?::\s*)?)?[(\[]?([A-Za-z])(?:[.)\]:](?s:.*)|\s*)/),
      let letter = match.1.uppercased().unicodeScalars.first, options.contains(where: { $0.letter == letter })
    else { return nil }
    let words = words(of: answer)
    return options.contains { $0.letter != letter && words.contains(String($0.letter)) } ? nil : letter
  }

  private static func words(of answer: String) -> [String] {
    PythonText.words(answer.unicodeScalars.map { marks.contains($0) ? " " : $0 })
  }

  private static func isLetterOrDigit(_ scalar: Unicode.Scalar) -> Bool {
    scalar.properties.isAlphabetic || scalar.properties.numericType != nil
  }
}

/// Option letters in answers to ScienceQA.
package enum OptionLetter {
  /// The index of the option: of a letter from A to E alone, before `. `, or in a single `The answer is X` with another
  /// character after it; `nil` for any other answer, and for a letter without an option.
  ///
  /// - Parameter choices: The number of options.
  ///
  /// Source: LLaVA's `llava/eval/eval_science_qa.py`.
  package static func parsedForScienceQA(_ answer: String, choices: Int) -> Int? {
    let scalars = Array(answer.unicodeScalars)
    guard let letter = letter(scalars), ("A"..."E").contains(letter) else { return nil }
    let index = Int(letter.value - Unicode.Scalar("A").value)
    return index < choices ? index : nil
  }

  private static func letter(_ answer: [Unicode.Scalar]) -> Unicode.Scalar? {
    if let first = answer.first, ("A"..."E").contains(first),
      answer.count == 1 || answer.dropFirst().starts(with: [".", " "])
    {
      return first
    }
    let phrase = Array("The answer is ".unicodeScalars)
    // As by `re.findall`: the character after the letter belongs to the match, so it begins no other.
    var (letters, start) = ([Unicode.Scalar](), 0)
    while start + phrase.count + 1 < answer.count {
      let end = start + phrase.count
      let isMatch =
        ("A"..."Z").contains(answer[end]) && answer[end + 1] != "\n" && answer[start..<end].elementsEqual(phrase)
      if isMatch { letters.append(answer[end]) }
      start = isMatch ? end + 2 : start + 1
    }
    return letters.count == 1 ? letters[0] : nil
  }
}
