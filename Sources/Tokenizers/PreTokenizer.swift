import Foundation

/// What is done to text before it is cut into pieces.
package struct Normalizer: Equatable, Sendable {
  /// Where a `▁`, or a space where pieces spell bytes, is put before the text.
  package enum PrependScheme: Equatable, Sendable {
    /// Before every stretch of text between added tokens.
    case always

    /// As `always`, except where the stretch starts with `▁` or a space already.
    case unlessPresent

    /// As `unlessPresent`, only at the very beginning of the whole text.
    case first

    case never
  }

  /// Where merges stop, and what the pieces are spelled in.
  package enum PreTokenizer: Equatable, Sendable {
    /// Nowhere; pieces are text with `▁` for spaces.
    case none

    /// Before every `▁`, which stands for a space.
    case metaspace

    /// Where the pattern cuts; pieces spell the bytes of a word in the characters of `ByteAlphabet`.
    case byteLevel(PreTokenizerPattern)
  }

  package var prefix: PrependScheme

  /// Whether this happens before normalized added tokens are looked for rather than after.
  package var isNormalizer: Bool

  package var words: PreTokenizer

  /// Whether characters are put together with their accents (Unicode's form C).
  package var composes = false

  /// Whether spaces at both ends go and runs of spaces become one.
  package var collapsesSpaces: Bool

  /// Whether decoding takes one space off the beginning.
  package var stripsLeadingSpace: Bool

  package init(
    prefix: PrependScheme, isNormalizer: Bool = true, words: PreTokenizer = .none, collapsesSpaces: Bool = false,
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

extension Normalizer {
  /// The bytes of `▁`, which stands for a space in pieces.
  static let space: [UInt8] = [0xE2, 0x96, 0x81]

  /// A stretch of text as the pieces spell it.
  ///
  /// - Parameter isBeginning: Whether the stretch starts the whole text.
  func prepare(_ text: ArraySlice<UInt8>, isBeginning: Bool) -> [UInt8] {
    var text = collapsesSpaces ? Self.collapse(text) : text
    if composes { text = Array(String(decoding: text, as: UTF8.self).precomposedStringWithCanonicalMapping.utf8)[...] }
    guard let first = text.first else { return [] }
    let space = isByteLevel ? [0x20] : Self.space
    let startsWithSpace = first == 0x20 || text.starts(with: space)
    let hasPrefix =
      switch prefix {
      case .always: true
      case .unlessPresent: !startsWithSpace
      case .first: isBeginning && !startsWithSpace
      case .never: false
      }
    var prepared = hasPrefix ? space : []
    prepared.reserveCapacity(text.count + text.count / 2)
    for byte in text {
      if byte == 0x20 { prepared += space } else { prepared.append(byte) }
    }
    return prepared
  }

  /// As SentencePiece does it: at the end a `▁` of the text itself goes with the spaces.
  private static func collapse(_ text: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    var text = Array(text.split(separator: 0x20).joined(separator: [0x20]))[...]
    while true {
      if text.last == 0x20 {
        text = text.dropLast()
      } else if text.suffix(space.count).elementsEqual(space) {
        text = text.dropLast(space.count)
      } else {
        return text
      }
    }
  }
}

/// The published regular expressions that cut text into words before it is merged.
///
/// They are recognised by their text and told apart by what they do; no other expression can be run.
package struct PreTokenizerPattern: Equatable, Sendable {
  /// What may stand before the letters of a word.
  package enum Lead: Equatable, Sendable {
    case space

    /// Any one character that is no letter, number or line break.
    case nonLetter
  }

  /// Whether `'S` is an ending as `'s` is.
  package var ignoresCaseOfEndings: Bool
  package var wordLead: Lead

  /// Whether a number takes the space before it.
  package var numbersTakeSpace: Bool

  /// How many digits a number has at most.
  package var digitLimit: Int

  /// Whether line breaks go with the symbols before them, and end a word of white space.
  package var endsAtLineBreaks: Bool

  package static let gpt2 = PreTokenizerPattern(
    ignoresCaseOfEndings: false, wordLead: .space, numbersTakeSpace: true, digitLimit: .max, endsAtLineBreaks: false)
  package static let llama3 = PreTokenizerPattern(
    ignoresCaseOfEndings: true, wordLead: .nonLetter, numbersTakeSpace: false, digitLimit: 3, endsAtLineBreaks: true)
  package static let qwen2 = PreTokenizerPattern(
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

/// Cuts text into words as one of the published patterns does.
///
/// The alternatives of the expression are tried in its order at each position; together they match every character.
///
/// Source: the `Split` and `ByteLevel` pre-tokenizers of the tokenizers library.
struct PreTokenizerSplitter {
  private enum Kind {
    case letter, number, lineBreak, space, symbol

    init(_ scalar: Unicode.Scalar) {
      switch scalar.properties.generalCategory {
      case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: self = .letter
      case .decimalNumber, .letterNumber, .otherNumber: self = .number
      default:
        self = scalar == "\r" || scalar == "\n" ? .lineBreak : scalar.properties.isWhitespace ? .space : .symbol
      }
    }

    var isSpace: Bool { self == .space || self == .lineBreak }
  }

  private let pattern: PreTokenizerPattern
  private let scalars: [Unicode.Scalar]
  private let kinds: [Kind]

  init(_ text: String, _ pattern: PreTokenizerPattern) {
    self.pattern = pattern
    scalars = Array(text.unicodeScalars)
    kinds = scalars.map(Kind.init)
  }

  /// The words in order; none is empty, and together they are the text.
  var words: [ArraySlice<Unicode.Scalar>] {
    var words: [ArraySlice<Unicode.Scalar>] = []
    var start = 0
    while start < scalars.count {
      let end = wordEnd(from: start)
      words.append(scalars[start..<end])
      start = end
    }
    return words
  }

  private func wordEnd(from start: Int) -> Int {
    if let end = endingEnd(from: start) { return end }
    let afterSpace = scalars[start] == " " ? start + 1 : start
    let letters =
      pattern.wordLead == .space ? afterSpace : kinds[start] == .space || kinds[start] == .symbol ? start + 1 : start
    if kind(at: letters) == .letter { return end(of: letters) { $0 == .letter } }
    let digits = pattern.numbersTakeSpace ? afterSpace : start
    if kind(at: digits) == .number { return end(of: digits, limit: pattern.digitLimit) { $0 == .number } }
    if kind(at: afterSpace) == .symbol {
      let symbolsEnd = end(of: afterSpace) { $0 == .symbol }
      return pattern.endsAtLineBreaks ? end(of: symbolsEnd) { $0 == .lineBreak } : symbolsEnd
    }
    return spaceEnd(from: start)
  }

  /// White space up to its last line break; else all of it at the end of the text; else all but the last, which goes with
  /// what follows.
  private func spaceEnd(from start: Int) -> Int {
    let end = end(of: start, while: \.isSpace)
    if pattern.endsAtLineBreaks, let last = kinds[start..<end].lastIndex(of: .lineBreak) { return last + 1 }
    return end == scalars.count || end == start + 1 ? end : end - 1
  }

  /// The end of `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll` or `'d`.
  private func endingEnd(from start: Int) -> Int? {
    guard scalars[start] == "'", start + 1 < scalars.count else { return nil }
    let rest = scalars[(start + 1)...].prefix(2).map(folded)
    if "stmd".unicodeScalars.contains(rest[0]) { return start + 2 }
    let isPair = rest == ["r", "e"] || rest == ["v", "e"] || rest == ["l", "l"]
    return isPair ? start + 3 : nil
  }

  private func folded(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
    guard pattern.ignoresCaseOfEndings else { return scalar }
    switch scalar {
    case "A"..."Z": return Unicode.Scalar(UInt8(scalar.value) | 0x20)
    // The long s folds to s too.
    case "\u{17F}": return "s"
    default: return scalar
    }
  }

  private func kind(at index: Int) -> Kind? { index < kinds.count ? kinds[index] : nil }

  private func end(of start: Int, limit: Int = .max, while condition: (Kind) -> Bool) -> Int {
    var end = start
    while end < kinds.count, end - start < limit, condition(kinds[end]) { end += 1 }
    return end
  }
}

/// The 256 visible characters that byte-level tokenizers spell bytes in.
///
/// Source: GPT-2's `bytes_to_unicode`.
package enum ByteAlphabet {
  /// The character for each byte.
  package static let characters: [Unicode.Scalar] = {
    var next: UInt32 = 0x100
    return (UInt8.min...UInt8.max).map { byte in
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return Unicode.Scalar(byte)
      default:
        defer { next += 1 }
        return Unicode.Scalar(next) ?? "?"
      }
    }
  }()

  private static let bytes = Dictionary(
    uniqueKeysWithValues: characters.enumerated().map { ($1, UInt8($0)) })

  /// The bytes that a piece spells; those of its own text if a character of it is none of the alphabet.
  package static func bytes(of piece: String) -> [UInt8] {
    var spelled: [UInt8] = []
    for scalar in piece.unicodeScalars {
      guard let byte = bytes[scalar] else { return Array(piece.utf8) }
      spelled.append(byte)
    }
    return spelled
  }
}
