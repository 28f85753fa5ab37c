/// What is done to text before it is cut into pieces.
package struct TextPreparation: Equatable, Sendable {
  /// Where a `▁` is put in front of the text.
  package enum Prefix: Equatable, Sendable {
    /// In front of every stretch of text between added tokens.
    case always

    /// As `always`, except where the stretch starts with `▁` or a space already.
    case unlessPresent

    /// As `unlessPresent`, only at the very beginning of the whole text.
    case first

    case never
  }

  package var prefix: Prefix

  /// Whether this happens before normalized added tokens are looked for rather than after.
  package var isNormalizer: Bool

  /// Whether merges stop at every `▁`.
  package var splitsWords: Bool

  /// Whether spaces at both ends go and runs of spaces become one.
  package var collapsesSpaces: Bool

  /// Whether decoding takes one space off the beginning.
  package var stripsLeadingSpace: Bool

  package init(
    prefix: Prefix, isNormalizer: Bool = true, splitsWords: Bool = false, collapsesSpaces: Bool = false,
    stripsLeadingSpace: Bool = true
  ) {
    self.prefix = prefix
    self.isNormalizer = isNormalizer
    self.splitsWords = splitsWords
    self.collapsesSpaces = collapsesSpaces
    self.stripsLeadingSpace = stripsLeadingSpace
  }
}
