import Kernels
package import TokenDropping

extension LanguageModel {
  /// Drops visual tokens before layer `drop.afterLayer`.
  ///
  /// - Returns: The result of the drop, and whether the layer's queries, keys and values of the kept rows are in the state:
  ///   a ranking by the layer's own keys needs them before the drop, one that weights by values needs these too.
  func drop(
    _ drop: DropPlan.Drop, _ state: inout DecoderState, _ cache: KVCache, _ layout: inout SequenceLayout,
    on compute: ComputeContext
  ) -> (result: DropResult, isProjected: Bool) {
    let layer = layers[drop.afterLayer]
    guard drop.scoresWithNextLayer else { return (rankAndDrop(drop, &state, cache, &layout, on: compute), false) }
    layer.projectKeys(&state, on: compute)
    let result = rankAndDrop(drop, &state, cache, &layout, on: compute)
    layer.projectRest(&state, hasValues: drop.makesNextValues, on: compute)
    return (result, true)
  }

  /// Scores the visual tokens, keeps the best ones of each image in their order, and drops the others.
  private func rankAndDrop(
    _ drop: DropPlan.Drop, _ state: inout DecoderState, _ cache: KVCache, _ layout: inout SequenceLayout,
    on compute: ComputeContext
  ) -> DropResult {
    compute.during(.rank) {
      let ranker = VisualTokenRanker(layers: layers)
      let scores = ranker.scores(for: drop, &state, cache, layout, on: compute)
      let (blocks, rowsBefore) = (layout.visualBlocks, layout.rowCount)
      let kept = blocks.indices.map { i in
        topIndices(scores[i], count: drop.keepCounts[i], last: drop.droppedFirst(of: blocks[i], i))
      }
      let rows = layout.keep(kept, positions: drop.positions)
      state.hidden.keepRows(rows)
      if drop.scoresWithNextLayer { keep(rows, of: rowsBefore, drop, &state, on: compute) }
      compute.ledger.stage += 1
      return DropResult(
        layer: drop.afterLayer, scoringLayer: drop.scoringLayer, tokensBefore: rowsBefore,
        tokensAfter: layout.rowCount,
        images: blocks.indices.map { i in
          DropResult.Image(
            start: blocks[i].start, count: blocks[i].tokens.count, kept: layout.visualBlocks[i].tokens,
            scores: scores[i])
        })
    }
  }

  /// Compacts the next layer's normalized rows, keys and values to the kept rows, and charges those of the dropped rows to
  /// ranking.
  private func keep(
    _ rows: [Int], of rowsBefore: Int, _ drop: DropPlan.Drop, _ state: inout DecoderState, on compute: ComputeContext
  ) {
    let (keys, values) = (layers[drop.afterLayer].keys, layers[drop.afterLayer].values)
    state.normalized.keepRows(rows)
    state.keys.keepRows(rows)
    let dropped = rowsBefore - rows.count
    compute.ledger.move(.keys, dropped * keys.inputSize * keys.outputSize, from: .prefill, to: .rank)
    if drop.makesNextValues {
      state.values.keepRows(rows)
      compute.ledger.move(.values, rows.count * values.inputSize * values.outputSize, from: .rank, to: .prefill)
    }
  }
}

extension DropPlan.Drop {
  /// Whether the layer after the drop makes its values of all rows, to rank by them.
  var makesNextValues: Bool { scoresWithNextLayer && ranking == .valueWeighted }

  /// Which of an image's tokens that are still there leave before the others, 0 the first of them.
  func droppedFirst(of block: SequenceLayout.VisualBlock, _ image: Int) -> [Int] {
    guard !droppedFirst.isEmpty else { return [] }
    let leaving = Set(droppedFirst[image])
    return block.tokens.indices.filter { leaving.contains(block.tokens[$0]) }
  }
}

/// The drops of a whole sequence: the policy's stages of each of its images, put together.
///
/// Several images are our extension (the published codes know one): each keeps its own share of its own tokens.
package struct DropPlan: Sendable, Equatable {
  /// One drop of all images.
  package struct Drop: Sendable, Equatable {
    package var afterLayer: Int
    package var scoringLayer: Int
    package var positions: PositionRule
    package var ranking: Ranking
    /// How many tokens of each image stay.
    package var keepCounts: [Int]
    /// Which of each image's own tokens leave before all others, ascending; no lists where none do.
    package var droppedFirst: [[Int]] = []

    /// Whether tokens are scored with the keys of the layer after the drop, which that layer then goes on with.
    var scoresWithNextLayer: Bool { ranking.readsLayer && scoringLayer == afterLayer }
  }

  package let drops: [Drop]

  /// No drops.
  package static let none = DropPlan(drops: [])

  private init(drops: [Drop]) { self.drops = drops }

  /// - Parameters:
  ///   - policy: Is asked once per image.
  ///   - layerCount: Decoder layers.
  ///   - visualTokenCounts: Tokens of each image; a sequence without images drops nothing.
  ///   - padding: Which tokens of each image show nothing of it, ascending, for policies that mask them.
  package init(
    _ policy: any TokenDroppingPolicy, layerCount: Int, visualTokenCounts: [Int], padding: [[Int]] = []
  ) throws(DropPolicyError) {
    var stages: [[DropStage]] = []
    for count in visualTokenCounts {
      stages.append(try policy.stages(layerCount: layerCount, visualTokenCount: count))
    }
    drops = (stages.first ?? []).enumerated().map { index, first in
      Drop(
        afterLayer: first.afterLayer, scoringLayer: first.scoringLayer, positions: first.positions,
        ranking: first.ranking, keepCounts: stages.map { $0[index].keepCount },
        droppedFirst: first.dropsPaddingFirst ? padding : [])
    }
  }
}

extension DropPlan {
  /// How many rows each layer sees of a prompt of `rowCount` rows, of which `visualTokenCount` are its images'.
  package func rowsPerLayer(rowCount: Int, visualTokenCount: Int, layerCount: Int) -> [Int] {
    (0..<layerCount).map { layer in
      let kept = drops.last { $0.afterLayer <= layer }.map { $0.keepCounts.reduce(0, +) }
      return rowCount - visualTokenCount + (kept ?? visualTokenCount)
    }
  }
}

/// What a drop did.
package struct DropResult: Sendable, Equatable {
  /// An image's part of it.
  package struct Image: Sendable, Equatable {
    /// The row of its first token before the drop.
    package var start: Int
    /// Its tokens before the drop.
    package var count: Int
    /// Which of the image's own tokens stayed, ascending, 0 its first before any drop.
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
  package var images: [Image]
}

/// Where a sequence's visual tokens stand, and which position each of its rows has, as tokens are dropped.
package struct SequenceLayout: Sendable, Equatable {
  /// The tokens of one image that are still there.
  package struct VisualBlock: Sendable, Equatable {
    /// The row of the first one.
    package var start: Int
    /// Which of the image's own tokens they are, ascending, 0 the image's first.
    package var tokens: [Int]

    package var rows: Range<Int> { start..<start + tokens.count }
  }

  package private(set) var visualBlocks: [VisualBlock]
  /// The position of each row, counted from the first row.
  package private(set) var positions: [Int]

  /// - Parameters:
  ///   - rowCount: Text and visual tokens together.
  ///   - visualSpans: The rows of each image, in order.
  package init(rowCount: Int, visualSpans: [Range<Int>] = []) {
    positions = Array(0..<rowCount)
    visualBlocks = visualSpans.map { VisualBlock(start: $0.lowerBound, tokens: Array(0..<$0.count)) }
  }

  package var rowCount: Int { positions.count }

  /// Drops visual tokens.
  ///
  /// - Parameters:
  ///   - kept: For each image which of its present tokens stay, ascending, 0 its first that is still there.
  ///   - rule: Whether the rows that stay are numbered anew.
  /// - Returns: The rows that stay, ascending.
  package mutating func keep(_ kept: [[Int]], positions rule: PositionRule) -> [Int] {
    precondition(kept.count == visualBlocks.count, "keep: \(kept.count) lists for \(visualBlocks.count) images")
    var rows: [Int] = []
    var next = 0
    for index in visualBlocks.indices {
      let block = visualBlocks[index]
      rows.append(contentsOf: next..<block.start)
      visualBlocks[index].start = rows.count
      visualBlocks[index].tokens = kept[index].map { block.tokens[$0] }
      rows.append(contentsOf: kept[index].map { block.start + $0 })
      next = block.rows.upperBound
    }
    rows.append(contentsOf: next..<rowCount)
    switch rule {
    case .compact: positions = Array(0..<rows.count)
    case .original: positions = rows.map { positions[$0] }
    }
    return rows
  }
}
