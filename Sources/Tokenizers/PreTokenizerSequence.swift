import Storage

/// Pre-tokenizer steps in any order; each splits the words of the step before it.
///
/// Source: `pre_tokenizers` and `tokenizer/normalizer.rs` (`split`) of the tokenizers library.
package struct PreTokenizerSequence: Equatable, Sendable {
  /// The use of the matches of a split.
  package enum Behavior: String, Sendable {
    case removed = "Removed"
    case isolated = "Isolated"
    case mergedWithPrevious = "MergedWithPrevious"
    case mergedWithNext = "MergedWithNext"
    case contiguous = "Contiguous"
  }

  package enum Step: Equatable, Sendable {
    /// A split at the matches of a published regex, or between them.
    case pattern(PreTokenizerPattern, Behavior, inverts: Bool)
    /// A split at a text, or between its occurrences.
    case text([Unicode.Scalar], Behavior, inverts: Bool)
    /// Numbers as words: each digit, or runs of them.
    case digits(individually: Bool)
    case punctuation(Behavior)
    /// Runs of word characters, and runs of others that are not white space.
    case whitespace
    /// Runs of characters that are not white space.
    case whitespaceSplit
    /// `▁` for spaces, and before the word by the scheme; then words that begin with it, if `splits`.
    case metaspace(Normalizer.PrependScheme, splits: Bool)
    /// Bytes in the characters of `ByteAlphabet`, after a split by GPT-2's regex, if `splits`.
    case byteLevel(addsSpace: Bool, splits: Bool)
  }

  package var steps: [Step]

  package init(_ steps: [Step]) { self.steps = steps }

  package var isByteLevel: Bool {
    steps.contains { if case .byteLevel = $0 { true } else { false } }
  }

  /// A word during the steps.
  private struct Word {
    var scalars: ArraySlice<Unicode.Scalar>
    /// Whether it begins the whole text.
    var isFirst: Bool
  }

  /// The words of a text, none of them empty.
  ///
  /// - Parameter isBeginning: Whether the text begins the whole text.
  package func words(of text: String, isBeginning: Bool) -> [ArraySlice<Unicode.Scalar>] {
    guard !text.isEmpty else { return [] }
    var words = [Word(scalars: Array(text.unicodeScalars)[...], isFirst: isBeginning)]
    for step in steps { words = words.flatMap { Self.apply(step, to: $0) } }
    return words.map(\.scalars)
  }

  private static func apply(_ step: Step, to word: Word) -> [Word] {
    switch step {
    case .pattern(let pattern, let behavior, let inverts):
      let matches = PreTokenizerSplitter(String(String.UnicodeScalarView(word.scalars)), pattern).words.map(\.count)
      return split(word, Matches(lengths: matches.map { ($0, true) }), behavior, inverts: inverts)
    case .text(let text, let behavior, let inverts):
      return split(word, Matches(of: text, in: word.scalars), behavior, inverts: inverts)
    case .digits(let individually):
      return split(word, Matches(word.scalars, where: \.isNumber), individually ? .isolated : .contiguous)
    case .punctuation(let behavior): return split(word, Matches(word.scalars, where: \.isPunctuation), behavior)
    case .whitespace:
      let kinds = word.scalars.map { $0.isWordCharacter ? 1 : $0.properties.isWhitespace ? 0 : 2 }
      var runs: [(length: Int, isMatch: Bool)] = []
      for (index, kind) in kinds.enumerated() {
        if index > 0, kinds[index - 1] == kind {
          runs[runs.count - 1].length += 1
        } else {
          runs.append((1, kind > 0))
        }
      }
      return split(word, Matches(lengths: runs), .removed, inverts: true)
    case .whitespaceSplit: return split(word, Matches(word.scalars, where: \.properties.isWhitespace), .removed)
    case .metaspace(let scheme, let splits):
      let mark: Unicode.Scalar = "▁"
      var word = word
      var scalars = word.scalars.map { $0 == " " ? mark : $0 }
      if scalars.first != mark, scheme == .unlessPresent || (scheme == .first && word.isFirst) {
        scalars.insert(mark, at: 0)
      }
      word.scalars = scalars[...]
      return splits ? split(word, Matches(of: [mark], in: word.scalars), .mergedWithNext) : [word]
    case .byteLevel(let addsSpace, let splits):
      var word = word
      if addsSpace, word.scalars.first != " " { word.scalars = [" "] + word.scalars }
      let words = splits ? apply(.pattern(.gpt2, .isolated, inverts: false), to: word) : [word]
      return words.map { word in
        let bytes = String(String.UnicodeScalarView(word.scalars)).utf8
        return Word(scalars: bytes.map { ByteAlphabet.characters[Int($0)] }[...], isFirst: word.isFirst)
      }
    }
  }

  /// The matches of a split and the parts between them, by their lengths.
  private struct Matches {
    var parts: [(range: Range<Int>, isMatch: Bool)] = []

    init(lengths: [(length: Int, isMatch: Bool)]) {
      var start = 0
      for (length, isMatch) in lengths {
        parts.append((start..<start + length, isMatch))
        start += length
      }
    }

    /// Each character for which a condition is true is a match.
    init(_ scalars: ArraySlice<Unicode.Scalar>, where condition: (Unicode.Scalar) -> Bool) {
      var lengths: [(length: Int, isMatch: Bool)] = []
      for scalar in scalars {
        if condition(scalar) {
          lengths.append((1, true))
        } else if let last = lengths.last, !last.isMatch {
          lengths[lengths.count - 1].length += 1
        } else {
          lengths.append((1, false))
        }
      }
      self.init(lengths: lengths)
    }

    /// Each occurrence of a text, which is not empty, is a match.
    init(of text: [Unicode.Scalar], in scalars: ArraySlice<Unicode.Scalar>) {
      var lengths: [(length: Int, isMatch: Bool)] = []
      var (start, position) = (scalars.startIndex, scalars.startIndex)
      while position + text.count <= scalars.endIndex {
        guard scalars[position..<position + text.count].elementsEqual(text) else {
          position += 1
          continue
        }
        if start < position { lengths.append((position - start, false)) }
        lengths.append((text.count, true))
        position += text.count
        start = position
      }
      if start < scalars.endIndex { lengths.append((scalars.endIndex - start, false)) }
      self.init(lengths: lengths)
    }
  }

  private static func split(
    _ word: Word, _ matches: Matches, _ behavior: Behavior, inverts: Bool = false
  ) -> [Word] {
    let parts = inverts ? matches.parts.map { ($0.range, !$0.isMatch) } : matches.parts.map { ($0.range, $0.isMatch) }
    var ranges: [Range<Int>] = []
    switch behavior {
    case .removed: ranges = parts.filter { !$0.1 }.map(\.0)
    case .isolated: ranges = parts.map(\.0)
    case .contiguous:
      var last: Bool?
      for (range, isMatch) in parts {
        if last == isMatch {
          ranges[ranges.count - 1] = ranges[ranges.count - 1].lowerBound..<range.upperBound
        } else {
          ranges.append(range)
        }
        last = isMatch
      }
    case .mergedWithPrevious: ranges = merged(parts) { $0.lowerBound..<$1.upperBound }
    case .mergedWithNext: ranges = merged(parts.reversed()) { $1.lowerBound..<$0.upperBound }.reversed()
    }
    let start = word.scalars.startIndex
    return ranges.filter { !$0.isEmpty }.map { range in
      Word(
        scalars: word.scalars[start + range.lowerBound..<start + range.upperBound],
        isFirst: word.isFirst && range.lowerBound == 0)
    }
  }

  /// The parts in their order, with each match that follows no match joined to the part before it.
  private static func merged(
    _ parts: [(Range<Int>, Bool)], join: (_ last: Range<Int>, _ next: Range<Int>) -> Range<Int>
  ) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    var followsMatch = false
    for (range, isMatch) in parts {
      if isMatch, !followsMatch, let last = ranges.last {
        ranges[ranges.count - 1] = join(last, range)
      } else {
        ranges.append(range)
      }
      followsMatch = isMatch
    }
    return ranges
  }
}

extension PreTokenizerSequence {
  private static let stepLimit = 16

  /// The steps of a `tokenizer.json`.
  ///
  /// - Throws: `VocabularyError.unsupported` with the name of a step or a field that is not supported.
  init(_ steps: [JSONValue], file: String) throws(VocabularyError) {
    self.steps = []
    for step in steps { self.steps.append(try Self.step(step, file)) }
    // Each step of bytes may double a text.
    let byteLevels = self.steps.count { if case .byteLevel = $0 { true } else { false } }
    guard byteLevels <= 1, steps.count <= Self.stepLimit else {
      throw .unsupported(
        file: file, part: "pre_tokenizer",
        found: byteLevels > 1 ? "several ByteLevel steps" : "\(steps.count) steps, more than \(Self.stepLimit)")
    }
  }

  private static func step(_ step: JSONValue, _ file: String) throws(VocabularyError) -> Step {
    func unsupported(_ part: String, _ found: String) -> VocabularyError {
      .unsupported(file: file, part: part, found: found)
    }
    func behavior() throws(VocabularyError) -> Behavior {
      let value = step["behavior"]
      guard let behavior = value.isNull ? .isolated : value.string.flatMap(Behavior.init) else {
        throw unsupported("behavior of a \(step["type"].kind)", value.kind)
      }
      return behavior
    }
    switch step["type"].string {
    case "Split":
      let inverts = step["invert"].bool ?? false
      if let text = step["pattern"]["String"].string {
        guard (1...AddedToken.lengthLimit).contains(text.utf8.count) else {
          throw unsupported(
            "pre_tokenizer pattern", text.isEmpty ? "an empty text" : "a text of \(text.utf8.count) bytes")
        }
        return .text(Array(text.unicodeScalars), try behavior(), inverts: inverts)
      }
      let expression = step["pattern"]["Regex"].string ?? ""
      guard let pattern = PreTokenizerPattern(expression: expression) else {
        throw unsupported("pre_tokenizer pattern", expression)
      }
      return .pattern(pattern, try behavior(), inverts: inverts)
    case "Digits": return .digits(individually: step["individual_digits"].bool ?? false)
    case "Punctuation": return .punctuation(try behavior())
    case "Whitespace": return .whitespace
    case "WhitespaceSplit": return .whitespaceSplit
    case "CharDelimiterSplit":
      guard let delimiter = step["delimiter"].string, delimiter.unicodeScalars.count == 1 else {
        throw unsupported("delimiter", step["delimiter"].kind)
      }
      return .text(Array(delimiter.unicodeScalars), .removed, inverts: false)
    case "Metaspace":
      guard step["replacement"].string ?? "▁" == "▁" else { throw unsupported("replacement", step["replacement"].kind) }
      return .metaspace(try Normalizer.prependScheme(step, file: file), splits: step["split"].bool ?? true)
    case "ByteLevel":
      return .byteLevel(
        addsSpace: step["add_prefix_space"].bool ?? true, splits: step["use_regex"].bool ?? true)
    default: throw unsupported("pre_tokenizer", step["type"].kind)
    }
  }
}

extension Unicode.Scalar {
  fileprivate var isPunctuation: Bool {
    switch properties.generalCategory {
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation,
      .finalPunctuation, .otherPunctuation:
      true
    // ASCII has symbols among its punctuation.
    default: value < 0x80 && "$+<=>^`|~".unicodeScalars.contains(self)
    }
  }

  /// Whether `\w` matches it.
  ///
  /// Source: Unicode Technical Standard 18, annex C.
  fileprivate var isWordCharacter: Bool {
    switch properties.generalCategory {
    case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: true
    default: properties.isAlphabetic || properties.isJoinControl
    }
  }
}
