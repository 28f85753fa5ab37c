/// The pieces of a byte-pair tokenizer, how they merge, and how text is prepared for them.
///
/// Pieces are told apart by their bytes: `String` holds canonically equivalent texts equal, and published vocabularies
/// contain such pairs.
package struct Vocabulary: Sendable {
  /// Two neighbouring pieces.
  package struct Pair: Hashable, Sendable {
    package var left: Int32
    package var right: Int32

    package init(_ left: Int32, _ right: Int32) {
      self.left = left
      self.right = right
    }
  }

  /// What a pair becomes, and when: the lowest rank goes first, and the leftmost of equals.
  package struct Merge: Equatable, Sendable {
    package var rank: Int32
    package var piece: Int32

    package init(rank: Int32, piece: Int32) {
      self.rank = rank
      self.piece = piece
    }
  }

  /// The text of each piece; the index is the id.
  package var pieces: [String]

  package var merges: [Pair: Merge]

  /// Tokens matched in the text before it is cut into pieces, in order of id; those with an id below `pieces.count` are
  /// pieces too.
  package var addedTokens: [AddedToken]

  /// The pieces `<0x00>` to `<0xFF>` that spell characters without a piece, or empty.
  package var bytePieces: [Int32]

  package var preparation: TextPreparation
  package var roles: SpecialTokens

  /// Whether a run of unknown characters becomes one unknown token.
  package var fusesUnknown: Bool

  /// Whether a word that is a piece is taken as it is, whatever its merges are.
  package var takesWholeWords: Bool

  package init(
    pieces: [String], merges: [Pair: Merge], addedTokens: [AddedToken], bytePieces: [Int32],
    preparation: TextPreparation, roles: SpecialTokens, fusesUnknown: Bool, takesWholeWords: Bool = false
  ) {
    self.pieces = pieces
    self.merges = merges
    self.addedTokens = addedTokens
    self.bytePieces = bytePieces
    self.preparation = preparation
    self.roles = roles
    self.fusesUnknown = fusesUnknown
    self.takesWholeWords = takesWholeWords
  }

  /// The token that stands for a picture; where the tokenizer has none, `sentinel` becomes it, found in text as `<image>`.
  ///
  /// Text around it then is cut into pieces stretch by stretch, as in the original LLaVA code.
  ///
  /// Source: `tokenizer_image_token` in LLaVA's `llava/mm_utils.py`.
  package mutating func imageToken(orElse sentinel: Int32) -> Int32 {
    if let image = roles.image { return image }
    addedTokens.insert(AddedToken(id: sentinel, content: "<image>", isSpecial: true), at: 0)
    roles.image = sentinel
    return sentinel
  }

  /// One more than the largest id.
  package var size: Int { max(pieces.count, addedTokens.last.map { Int($0.id) + 1 } ?? 0) }
}

/// The tokens that have a part to play; nil where the checkpoint has none.
package struct SpecialTokens: Equatable, Sendable {
  package var beginning: Int32?
  package var end: Int32?
  package var unknown: Int32?
  package var padding: Int32?
  package var image: Int32?

  /// Whether a prompt starts with the beginning token.
  package var addsBeginning: Bool

  package init(
    beginning: Int32?, end: Int32?, unknown: Int32?, padding: Int32?, image: Int32?, addsBeginning: Bool = true
  ) {
    self.beginning = beginning
    self.end = end
    self.unknown = unknown
    self.padding = padding
    self.image = image
    self.addsBeginning = addsBeginning
  }
}
