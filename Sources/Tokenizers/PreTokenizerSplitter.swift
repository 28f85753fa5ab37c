/// Splits text into words by a published pre-tokenizer regex.
///
/// The alternatives of the regex are tried in its order at each position; together they match every character.
///
/// Source: the `Split` and `ByteLevel` pre-tokenizers of the tokenizers library.
package struct PreTokenizerSplitter {
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

  package init(_ text: String, _ pattern: PreTokenizerPattern) { self.init(Array(text.unicodeScalars), pattern) }

  private init(_ scalars: [Unicode.Scalar], _ pattern: PreTokenizerPattern) {
    self.pattern = pattern
    self.scalars = scalars
    kinds = scalars.map(Kind.init)
  }

  /// The words in order, none of them empty; their concatenation is the text.
  package var words: [ArraySlice<Unicode.Scalar>] {
    switch pattern.isolation {
    case .none: plainWords
    case .numbers:
      runs { kinds[$0] == .number }.flatMap { isNumber, run in
        isNumber ? run.map { scalars[$0...$0] } : plainWords(of: run)
      }
    case .punctuation:
      runs { scalars[$0].isGGUFPunctuation }.flatMap { isPunctuation, run in
        isPunctuation ? [scalars[run]] : plainWords(of: run).flatMap(\.separatingNumbers)
      }
    }
  }

  /// The longest runs of characters for which a condition has one value, with that value.
  private func runs(where condition: (Int) -> Bool) -> [(value: Bool, range: Range<Int>)] {
    var runs: [(Bool, Range<Int>)] = []
    var start = 0
    while start < scalars.count {
      let value = condition(start)
      var end = start + 1
      while end < scalars.count, condition(end) == value { end += 1 }
      runs.append((value, start..<end))
      start = end
    }
    return runs
  }

  /// The words of a part of the text as if it were all of it.
  private func plainWords(of range: Range<Int>) -> [ArraySlice<Unicode.Scalar>] {
    PreTokenizerSplitter(Array(scalars[range]), pattern).plainWords
  }

  private var plainWords: [ArraySlice<Unicode.Scalar>] {
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
    if let end = contractionEnd(from: start) { return end }
    let afterSpace = scalars[start] == " " ? start + 1 : start
    let letters =
      pattern.lead == .space ? afterSpace : kinds[start] == .space || kinds[start] == .symbol ? start + 1 : start
    if kind(at: letters) == .letter { return end(of: letters) { $0 == .letter } }
    let digits = pattern.numbersTakeSpace ? afterSpace : start
    if kind(at: digits) == .number { return end(of: digits, limit: pattern.maxDigits) { $0 == .number } }
    if kind(at: afterSpace) == .symbol {
      let symbolsEnd = end(of: afterSpace) { $0 == .symbol }
      return pattern.endsAtLineBreaks ? end(of: symbolsEnd) { $0 == .lineBreak } : symbolsEnd
    }
    return spaceEnd(from: start)
  }

  /// The end of a run of white space.
  ///
  /// It is after the last line break of the run, if line breaks end it. Otherwise it is the end of the text, or one
  /// character before the next word, which takes that character along.
  private func spaceEnd(from start: Int) -> Int {
    let end = end(of: start, while: \.isSpace)
    if pattern.endsAtLineBreaks, let last = kinds[start..<end].lastIndex(of: .lineBreak) { return last + 1 }
    return end == scalars.count || end == start + 1 ? end : end - 1
  }

  /// The end of the contraction `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll` or `'d`.
  private func contractionEnd(from start: Int) -> Int? {
    guard scalars[start] == "'", start + 1 < scalars.count else { return nil }
    let rest = scalars[(start + 1)...].prefix(2).map(folded)
    if "stmd".unicodeScalars.contains(rest[0]) { return start + 2 }
    let isPair = rest == ["r", "e"] || rest == ["v", "e"] || rest == ["l", "l"]
    return isPair ? start + 3 : nil
  }

  private func folded(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
    guard pattern.ignoresCaseOfContractions else { return scalar }
    switch scalar {
    case "A"..."Z": return Unicode.Scalar(UInt8(scalar.value) | 0x20)
    // The long s (ſ) also folds to s.
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

extension Unicode.Scalar {
  /// Whether the pattern of `ggufDefault` isolates it: punctuation, and some symbols of ASCII.
  fileprivate var isGGUFPunctuation: Bool {
    switch properties.generalCategory {
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation,
      .finalPunctuation, .otherPunctuation:
      true
    default: "$+<=>^~|".unicodeScalars.contains(self)
    }
  }

  /// Whether it is a digit or another number.
  var isNumber: Bool {
    switch properties.generalCategory {
    case .decimalNumber, .letterNumber, .otherNumber: true
    default: false
    }
  }
}

extension ArraySlice<Unicode.Scalar> {
  /// The parts of a word that is a number: the space before it, and groups of three ASCII digits; else the word.
  fileprivate var separatingNumbers: [Self] {
    guard let last, last.isNumber else { return [self] }
    var parts: [Self] = []
    var start = startIndex
    func append(_ end: Int) {
      if start < end { parts.append(self[start..<end]) }
      start = end
    }
    if first == " " { append(startIndex + 1) }
    var position = start
    while position < endIndex {
      if position + 3 <= endIndex, self[position..<position + 3].allSatisfy({ ("0"..."9").contains($0) }) {
        append(position)
        append(position + 3)
        position += 3
      } else {
        position += 1
      }
    }
    append(endIndex)
    return parts
  }
}
