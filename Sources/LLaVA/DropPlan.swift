package import TokenDropping

/// The drops of a whole sequence: the policy's stages of each of its pictures, put together.
///
/// Several pictures are our extension (the published codes know one): each keeps its own share of its own tokens.
package struct DropPlan: Sendable, Equatable {
  /// One drop of all pictures.
  package struct Drop: Sendable, Equatable {
    package var afterLayer: Int
    package var scoringLayer: Int
    package var positions: PositionRule
    package var ranking: Ranking
    /// How many tokens of each picture stay.
    package var keepCounts: [Int]

    /// Whether tokens are scored with the keys of the layer behind the drop, which that layer then goes on with.
    var scoresWithNextLayer: Bool { ranking == .attention && scoringLayer == afterLayer }
  }

  package let drops: [Drop]

  /// No drops.
  package static let none = DropPlan(drops: [])

  private init(drops: [Drop]) { self.drops = drops }

  /// - Parameters:
  ///   - policy: Is asked once per picture.
  ///   - layerCount: Decoder layers.
  ///   - visualTokenCounts: Tokens of each picture; a sequence without pictures drops nothing.
  package init(
    _ policy: any TokenDroppingPolicy, layerCount: Int, visualTokenCounts: [Int]
  ) throws(DropPolicyError) {
    var stages: [[DropStage]] = []
    for count in visualTokenCounts {
      stages.append(try policy.stages(layerCount: layerCount, visualTokenCount: count))
    }
    drops = (stages.first ?? []).enumerated().map { index, first in
      Drop(
        afterLayer: first.afterLayer, scoringLayer: first.scoringLayer, positions: first.positions,
        ranking: first.ranking, keepCounts: stages.map { $0[index].keepCount })
    }
  }
}

extension DropPlan {
  /// How many rows each layer sees of a prompt of `rowCount` rows, of which `visualTokenCount` are its pictures'.
  package func rowsPerLayer(rowCount: Int, visualTokenCount: Int, layerCount: Int) -> [Int] {
    (0..<layerCount).map { layer in
      let kept = drops.last { $0.afterLayer <= layer }.map { $0.keepCounts.reduce(0, +) }
      return rowCount - visualTokenCount + (kept ?? visualTokenCount)
    }
  }
}

/// What a drop did.
package struct DropRecord: Sendable, Equatable {
  /// A picture's part of it.
  package struct Picture: Sendable, Equatable {
    /// The row of its first token before the drop.
    package var start: Int
    /// Its tokens before the drop.
    package var count: Int
    /// Which of the picture's own tokens stayed, ascending, 0 its first before any drop.
    package var kept: [Int]
    /// The score of each of its tokens before the drop.
    package var scores: [Float]

    package init(start: Int, count: Int, kept: [Int], scores: [Float]) {
      (self.start, self.count, self.kept, self.scores) = (start, count, kept, scores)
    }
  }

  package var layer: Int
  package var scoringLayer: Int
  package var tokensBefore: Int
  package var tokensAfter: Int
  package var pictures: [Picture]
}
