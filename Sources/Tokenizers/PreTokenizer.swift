import Foundation

/// The normalizer and pre-tokenizer of a tokenizer: the steps before BPE.
package struct Normalizer: Equatable, Sendable {
  /// The prepend scheme: where a `▁`, or a space in a byte-level tokenizer, is added before the text.
  package enum PrependScheme: Equatable, Sendable {
    /// Before every segment of text between added tokens.
    case always

    /// Like `always`, except for segments that already start with `▁` or a space.
    case unlessPresent

    /// Like `unlessPresent`, but only at the beginning of the whole text.
    case first

    case never
  }

  /// The word boundaries that merges never cross, and the alphabet of the tokens.
  package enum PreTokenizer: Equatable, Sendable {
    /// No boundaries; tokens are text with `▁` for spaces.
    case none

    /// A boundary before every `▁`, which stands for a space.
    case metaspace

    /// Boundaries by a regular expression; tokens are bytes, written in the characters of `ByteAlphabet`.
    case byteLevel(PreTokenizerPattern)

    /// Any other sequence of steps.
    case steps(PreTokenizerSequence)
  }

  package var prependScheme: PrependScheme

  /// Whether the steps run before the search for normalized added tokens rather than after it.
  package var isNormalizer: Bool

  package var preTokenizer: PreTokenizer

  /// Whether `▁` stands for spaces before the pre-tokenizer.
  package var replacesSpaces: Bool

  /// Whether characters are composed with their accents (Unicode normalization form C).
  package var composes = false

  /// Whether decoding removes one space from the beginning.
  package var stripsLeadingSpace: Bool

  package init(
    prependScheme: PrependScheme, isNormalizer: Bool = true, preTokenizer: PreTokenizer = .none,
    stripsLeadingSpace: Bool = true
  ) {
    self.prependScheme = prependScheme
    self.isNormalizer = isNormalizer
    self.preTokenizer = preTokenizer
    self.stripsLeadingSpace = stripsLeadingSpace
    replacesSpaces = if case .byteLevel = preTokenizer { false } else { true }
  }

  package var isByteLevel: Bool {
    switch preTokenizer {
    case .none, .metaspace: false
    case .byteLevel: true
    case .steps(let steps): steps.isByteLevel
    }
  }
}

extension Normalizer {
  /// The bytes of `▁`, which stands for a space in tokens.
  static let space: [UInt8] = [0xE2, 0x96, 0x81]

  /// A segment of text in the form that BPE encodes.
  ///
  /// - Parameter isBeginning: Whether the segment starts the whole text.
  func normalized(_ text: ArraySlice<UInt8>, isBeginning: Bool) -> [UInt8] {
    var text = text
    if composes, text.contains(where: { $0 >= 0x80 }) {
      let ordered = Self.canonicallyOrdered(String(decoding: text, as: UTF8.self))
      text = Array(ordered.precomposedStringWithCanonicalMapping.utf8)[...]
    }
    guard let first = text.first else { return [] }
    let space = replacesSpaces ? Self.space : [0x20]
    let startsWithSpace = first == 0x20 || text.starts(with: space)
    let addsSpace =
      switch prependScheme {
      case .always: true
      case .unlessPresent: !startsWithSpace
      case .first: isBeginning && !startsWithSpace
      case .never: false
      }
    var normalized = addsSpace ? space : []
    normalized.reserveCapacity(text.count + text.count / 2)
    for byte in text {
      if byte == 0x20 { normalized += space } else { normalized.append(byte) }
    }
    return normalized
  }

  /// A text whose marks are decomposed, with each long run of them in canonical order, so that it can be composed.
  ///
  /// Foundation takes quadratic time for a run that is not in order, and loses marks of a run that decompose.
  ///
  /// Source: Unicode Standard Annex 15, which limits runs to 30 marks in its Stream-Safe Text Format; the table has all
  /// characters that decompose into marks alone.
  private static func canonicallyOrdered(_ text: String) -> String {
    let parts: [Unicode.Scalar: [Unicode.Scalar]] = [
      "\u{340}": ["\u{300}"], "\u{341}": ["\u{301}"], "\u{343}": ["\u{313}"], "\u{344}": ["\u{308}", "\u{301}"],
      "\u{F73}": ["\u{F71}", "\u{F72}"], "\u{F75}": ["\u{F71}", "\u{F74}"], "\u{F81}": ["\u{F71}", "\u{F80}"],
    ]
    var ordered: [Unicode.Scalar] = []
    var marks: [Unicode.Scalar] = []
    func takeMarks() {
      if marks.count > 30 {
        if let base = ordered.popLast() {
          let base = Array(String(base).decomposedStringWithCanonicalMapping.unicodeScalars)
          let first = base.lastIndex { $0.properties.canonicalCombiningClass == .notReordered } ?? 0
          ordered += base[...first]
          marks.insert(contentsOf: base[(first + 1)...], at: 0)
        }
        let classes = marks.map(\.properties.canonicalCombiningClass)
        marks = marks.indices.sorted { (classes[$0], $0) < (classes[$1], $1) }.map { marks[$0] }
      }
      ordered += marks
      marks.removeAll(keepingCapacity: true)
    }
    for scalar in text.unicodeScalars {
      if let parts = parts[scalar] {
        marks += parts
      } else if scalar.properties.canonicalCombiningClass != .notReordered {
        marks.append(scalar)
      } else {
        takeMarks()
        ordered.append(scalar)
      }
    }
    takeMarks()
    return String(String.UnicodeScalarView(ordered))
  }
}

/// A published pre-tokenizer regex, which splits text into words before BPE.
///
/// The regex is recognised by its text and described by its differences from the others. No other regex is supported.
package struct PreTokenizerPattern: Equatable, Sendable {
  /// The character that the letters of a word may take along from before them.
  package enum Lead: Equatable, Sendable {
    case space

    /// Any one character except a letter, number or line break.
    case nonLetter
  }

  /// The characters that are split off before all else.
  package enum Isolation: Equatable, Sendable {
    case none

    /// Each digit or other number by itself.
    case numbers

    /// Runs of punctuation; then numbers are words without the space before them, with three ASCII digits each.
    case punctuation
  }

  /// Whether contractions match in either case, so that `'S` is one like `'s`.
  package var ignoresCaseOfContractions: Bool
  package var lead: Lead

  /// Whether a number includes the space before it.
  package var numbersTakeSpace: Bool

  /// The maximum number of digits in a number.
  package var maxDigits: Int

  /// Whether line breaks join the symbols before them and end a run of white space.
  package var endsAtLineBreaks: Bool

  package var isolation = Isolation.none

  package static let gpt2 = PreTokenizerPattern(
    ignoresCaseOfContractions: false, lead: .space, numbersTakeSpace: true, maxDigits: .max, endsAtLineBreaks: false)
  package static let llama3 = PreTokenizerPattern(
    ignoresCaseOfContractions: true, lead: .nonLetter, numbersTakeSpace: false, maxDigits: 3, endsAtLineBreaks: true)
  package static let qwen2 = PreTokenizerPattern(
    ignoresCaseOfContractions: true, lead: .nonLetter, numbersTakeSpace: false, maxDigits: 1, endsAtLineBreaks: true)

  /// The pattern of SmolLM and StarCoder: GPT-2's between single digits.
  package static let smolLM = gpt2.isolating(.numbers)

  /// The pattern of a GGUF file that names none.
  ///
  /// Source: llama.cpp's `llama-vocab.cpp`.
  package static let ggufDefault = gpt2.isolating(.punctuation)

  private func isolating(_ isolation: Isolation) -> Self {
    var pattern = self
    pattern.isolation = isolation
    return pattern
  }

  /// The pattern of a published regex; nil for any other expression.
  init?(expression: String) {
    switch expression {
    case #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#: self = .gpt2
    case Self.modern(numbers: #"\p{N}{1,3}"#): self = .llama3
    case Self.modern(numbers: #"\p{N}"#): self = .qwen2
    default: return nil
    }
  }

  private init(
    ignoresCaseOfContractions: Bool, lead: Lead, numbersTakeSpace: Bool, maxDigits: Int, endsAtLineBreaks: Bool
  ) {
    self.ignoresCaseOfContractions = ignoresCaseOfContractions
    self.lead = lead
    self.numbersTakeSpace = numbersTakeSpace
    self.maxDigits = maxDigits
    self.endsAtLineBreaks = endsAtLineBreaks
  }

  private static func modern(numbers: String) -> String {
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"# + numbers
      + #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  }
}

/// The 256 visible characters that stand for bytes in byte-level tokenizers.
///
/// Source: GPT-2's `bytes_to_unicode`.
package enum ByteAlphabet {
  /// The characters, indexed by byte.
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

  /// The bytes of a token; the UTF-8 of its text if any character is outside the alphabet.
  package static func bytes(of token: String) -> [UInt8] {
    var decoded: [UInt8] = []
    for scalar in token.unicodeScalars {
      guard let byte = bytes[scalar] else { return Array(token.utf8) }
      decoded.append(byte)
    }
    return decoded
  }
}
