/// The published regular expressions that cut text into words before it is merged.
///
/// They are recognised by their text and told apart by what they do; no other expression can be run.
package struct WordPattern: Equatable, Sendable {
  /// What may stand in front of the letters of a word.
  package enum Lead: Equatable, Sendable {
    case space

    /// Any one character that is no letter, number or line break.
    case nonLetter
  }

  /// Whether `'S` is an ending as `'s` is.
  package var ignoresCaseOfEndings: Bool
  package var wordLead: Lead

  /// Whether a number takes the space in front of it.
  package var numbersTakeSpace: Bool

  /// How many digits a number has at most.
  package var digitLimit: Int

  /// Whether line breaks go with the symbols in front of them, and end a word of white space.
  package var endsAtLineBreaks: Bool

  package static let gpt2 = WordPattern(
    ignoresCaseOfEndings: false, wordLead: .space, numbersTakeSpace: true, digitLimit: .max, endsAtLineBreaks: false)
  package static let llama3 = WordPattern(
    ignoresCaseOfEndings: true, wordLead: .nonLetter, numbersTakeSpace: false, digitLimit: 3, endsAtLineBreaks: true)
  package static let qwen2 = WordPattern(
    ignoresCaseOfEndings: true, wordLead: .nonLetter, numbersTakeSpace: false, digitLimit: 1, endsAtLineBreaks: true)

  /// The pattern that a regular expression is, if it is a published one.
  init?(expression: String) {
    switch expression {
    case #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#: self = .gpt2
    case Self.modern(numbers: #"\p{N}{1,3}"#): self = .llama3
    case Self.modern(numbers: #"\p{N}"#): self = .qwen2
    default: return nil
    }
  }

  private init(
    ignoresCaseOfEndings: Bool, wordLead: Lead, numbersTakeSpace: Bool, digitLimit: Int, endsAtLineBreaks: Bool
  ) {
    self.ignoresCaseOfEndings = ignoresCaseOfEndings
    self.wordLead = wordLead
    self.numbersTakeSpace = numbersTakeSpace
    self.digitLimit = digitLimit
    self.endsAtLineBreaks = endsAtLineBreaks
  }

  private static func modern(numbers: String) -> String {
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"# + numbers
      + #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  }
}
