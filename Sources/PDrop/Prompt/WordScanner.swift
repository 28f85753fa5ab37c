import ModelFormats

/// Cuts text into words as one of the published patterns does.
///
/// The alternatives of the expression are tried in its order at each position; together they match every character.
///
/// Source: the `Split` and `ByteLevel` pre-tokenizers of the tokenizers library.
struct WordScanner {
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

  private let pattern: WordPattern
  private let scalars: [Unicode.Scalar]
  private let kinds: [Kind]

  init(_ text: String, _ pattern: WordPattern) {
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
