/// What is done to text before it is cut into pieces.
package struct TextPreparation: Equatable, Sendable {
  /// Where a `▁`, or a space where pieces spell bytes, is put in front of the text.
  package enum Prefix: Equatable, Sendable {
    /// In front of every stretch of text between added tokens.
    case always

    /// As `always`, except where the stretch starts with `▁` or a space already.
    case unlessPresent

    /// As `unlessPresent`, only at the very beginning of the whole text.
    case first

    case never
  }

  /// Where merges stop, and what the pieces are spelled in.
  package enum Words: Equatable, Sendable {
    /// Nowhere; pieces are text with `▁` for spaces.
    case none

    /// In front of every `▁`, which stands for a space.
    case metaspace

    /// Where the pattern cuts; pieces spell the bytes of a word in the characters of `ByteAlphabet`.
    case byteLevel(WordPattern)
  }

  package var prefix: Prefix

  /// Whether this happens before normalized added tokens are looked for rather than after.
  package var isNormalizer: Bool

  package var words: Words

  /// Whether characters are put together with their accents (Unicode's form C).
  package var composes = false

  /// Whether spaces at both ends go and runs of spaces become one.
  package var collapsesSpaces: Bool

  /// Whether decoding takes one space off the beginning.
  package var stripsLeadingSpace: Bool

  package init(
    prefix: Prefix, isNormalizer: Bool = true, words: Words = .none, collapsesSpaces: Bool = false,
    stripsLeadingSpace: Bool = true
  ) {
    self.prefix = prefix
    self.isNormalizer = isNormalizer
    self.words = words
    self.collapsesSpaces = collapsesSpaces
    self.stripsLeadingSpace = stripsLeadingSpace
  }

  package var isByteLevel: Bool { if case .byteLevel = words { true } else { false } }
}
