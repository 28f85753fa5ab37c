import HeapModule

/// A BPE encoder: splits normalized text into single-character tokens and merges neighbours, lowest rank first.
///
/// Source: Sennrich et al. 2016, Neural Machine Translation of Rare Words with Subword Units; the order of merges is
/// that of the tokenizers library, `models/bpe/word.rs`.
struct BPEEncoder: Sendable {
  private let merges: [Vocabulary.Pair: Vocabulary.Merge]

  /// The tokens of one character.
  private let characters: [Unicode.Scalar: Int32]
  private let byteTokens: [Int32]
  private let unkToken: Int32?
  private let fusesUNK: Bool
  private let preTokenizer: Normalizer.PreTokenizer

  /// The tokens by their characters, for words that are tokens themselves; empty unless merges are ignored for them.
  private let wholeWords: [[Unicode.Scalar]: Int32]

  init(_ vocabulary: Vocabulary) {
    merges = vocabulary.merges
    byteTokens = vocabulary.byteTokens
    unkToken = vocabulary.specialTokens.unk
    fusesUNK = vocabulary.fusesUNK
    preTokenizer = vocabulary.normalizer.preTokenizer
    var characters: [Unicode.Scalar: Int32] = [:]
    for (id, token) in vocabulary.tokens.enumerated() {
      let scalars = token.unicodeScalars
      if let scalar = scalars.first, scalars.dropFirst().isEmpty { characters[scalar] = Int32(id) }
    }
    self.characters = characters
    var wholeWords: [[Unicode.Scalar]: Int32] = [:]
    if vocabulary.ignoresMerges {
      for (id, token) in vocabulary.tokens.enumerated() { wholeWords[Array(token.unicodeScalars)] = Int32(id) }
    }
    self.wholeWords = wholeWords
  }

  /// Appends the ids of a text.
  ///
  /// Cost: O(n log n) in the length of the text.
  ///
  /// - Parameter isBeginning: Whether the text begins the whole text.
  func append(_ text: ArraySlice<UInt8>, isBeginning: Bool, to ids: inout [Int32]) {
    let text = String(decoding: text, as: UTF8.self)
    switch preTokenizer {
    case .none: appendWord(text.unicodeScalars, to: &ids)
    case .metaspace:
      var rest = text.unicodeScalars[...]
      while !rest.isEmpty {
        let end = rest.dropFirst().firstIndex(of: "▁") ?? rest.endIndex
        appendWord(rest[..<end], to: &ids)
        rest = rest[end...]
      }
    case .byteLevel(let pattern):
      for word in PreTokenizerSplitter(text, pattern).words {
        let spelled = word.flatMap { (UTF8.encode($0) ?? .init()).map { ByteAlphabet.characters[Int($0)] } }
        if let id = wholeWords[spelled] { ids.append(id) } else { appendWord(spelled, to: &ids) }
      }
    case .steps(let steps):
      for word in steps.words(of: text, isBeginning: isBeginning) {
        if let id = wholeWords[Array(word)] { ids.append(id) } else { appendWord(word, to: &ids) }
      }
    }
  }

  private func appendWord(_ characters: some Sequence<Unicode.Scalar>, to ids: inout [Int32]) {
    var word: [Int32] = []
    var endsInUNK = false
    for scalar in characters {
      if let id = self.characters[scalar] {
        word.append(id)
        endsInUNK = false
      } else if !byteTokens.isEmpty {
        for byte in UTF8.encode(scalar) ?? .init() { word.append(byteTokens[Int(byte)]) }
        endsInUNK = false
      } else if let unkToken {
        if !(fusesUNK && endsInUNK) { word.append(unkToken) }
        endsInUNK = true
      }
    }
    appendMerged(word, to: &ids)
  }

  private func appendMerged(_ word: [Int32], to ids: inout [Int32]) {
    var symbols = word
    symbols.mergeNeighbours { left, right in merges[.init(left, right)].map { ($0.token, $0.rank) } }
    ids += symbols
  }
}

extension Array {
  /// Merges neighbouring symbols until no pair merges: lowest rank first, then leftmost.
  ///
  /// Cost: O(n log n) calls and comparisons in the number of symbols.
  ///
  /// - Parameter merge: The symbol that a pair merges into, and its rank; nil if the pair does not merge.
  mutating func mergeNeighbours(_ merge: (Element, Element) -> (symbol: Element, rank: Int32)?) {
    var symbols = self
    /// The number of original symbols in each symbol; 0 for one that was merged into its left neighbour.
    var widths = [Int32](repeating: 1, count: count)
    var previous = [Int32](-1..<Int32(count) - 1)
    var candidates = Heap<MergeCandidate<Element>>()

    func push(_ left: Int, _ right: Int) {
      guard let (symbol, rank) = merge(symbols[left], symbols[right]) else { return }
      candidates.insert(
        MergeCandidate(rank: rank, position: Int32(left), width: widths[left] + widths[right], symbol: symbol))
    }

    for right in symbols.indices.dropFirst() { push(right - 1, right) }
    while let candidate = candidates.popMin() {
      let left = Int(candidate.position)
      let right = left + Int(widths[left])
      // Stale candidates are skipped: either side may have been merged with another symbol since.
      guard widths[left] > 0, right < symbols.count, widths[left] + widths[right] == candidate.width else { continue }
      symbols[left] = candidate.symbol
      widths[left] = candidate.width
      widths[right] = 0
      let next = left + Int(candidate.width)
      if next < symbols.count {
        previous[next] = Int32(left)
        push(left, next)
      }
      if previous[left] >= 0 { push(Int(previous[left]), left) }
    }
    removeAll(keepingCapacity: true)
    for index in symbols.indices where widths[index] > 0 { append(symbols[index]) }
  }
}

/// A possible merge of two neighbouring symbols; the lowest rank comes first, then the leftmost position.
private struct MergeCandidate<Symbol>: Comparable {
  var rank: Int32
  /// The index of the left symbol.
  var position: Int32
  /// The number of original symbols in both.
  var width: Int32
  /// The merged symbol.
  var symbol: Symbol

  static func < (left: Self, right: Self) -> Bool {
    (left.rank, left.position, left.width) < (right.rank, right.position, right.width)
  }

  static func == (left: Self, right: Self) -> Bool {
    (left.rank, left.position, left.width) == (right.rank, right.position, right.width)
  }
}
