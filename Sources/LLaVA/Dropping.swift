import Kernels
package import TokenDropping
import TokenSelection

extension LanguageModel {
  /// Drops visual tokens before layer `drop.afterLayer`.
  ///
  /// - Returns: The result, and whether the layer's queries, keys and values of the kept rows are in the state already.
  ///   They are if the drop ranks by this layer's own keys.
  func drop(
    _ drop: DropPlan.Drop, _ state: inout DecoderState, _ cache: KVCache, _ layout: inout SequenceLayout,
    on compute: ComputeContext
  ) -> (result: DropResult, isProjected: Bool) {
    let layer = layers[drop.afterLayer]
    guard drop.scoresWithNextLayer else { return (rankAndDrop(drop, &state, cache, &layout, on: compute), false) }
    layer.projectKeys(&state, on: compute)
    let result = rankAndDrop(drop, &state, cache, &layout, on: compute)
    layer.projectRest(&state, hasValues: drop.projectsNextValues, on: compute)
    return (result, true)
  }

  /// Scores the visual tokens, keeps the best of each image in their original order, and drops the others.
  private func rankAndDrop(
    _ drop: DropPlan.Drop, _ state: inout DecoderState, _ cache: KVCache, _ layout: inout SequenceLayout,
    on compute: ComputeContext
  ) -> DropResult {
    compute.during(.rank) {
      let ranker = VisualTokenRanker(layers: layers)
      let scores = ranker.scores(for: drop, &state, cache, layout, on: compute)
      let (blocks, rowsBefore) = (layout.visualBlocks, layout.rowCount)
      let kept = blocks.indices.map { i in
        let last = drop.droppedFirst(of: blocks[i], i)
        switch drop.choice {
        case .top: return topIndices(scores[i], count: drop.keepCounts[i], last: last)
        case .coverage(let alpha, let lambda):
          var rule = Tops()
          (rule.alpha, rule.lambda) = (alpha, lambda)
          return rule.choice(
            state.hidden, blocks[i].rows, scores[i], count: drop.keepCounts[i], last: last, on: compute)
        }
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

  /// Compacts the next layer's normalized rows, keys and values to the kept rows.
  ///
  /// The keys and values of the dropped rows are charged to ranking.
  private func keep(
    _ rows: [Int], of rowsBefore: Int, _ drop: DropPlan.Drop, _ state: inout DecoderState, on compute: ComputeContext
  ) {
    let (keys, values) = (layers[drop.afterLayer].keys, layers[drop.afterLayer].values)
    state.normalized.keepRows(rows)
    state.keys.keepRows(rows)
    let dropped = rowsBefore - rows.count
    compute.ledger.move(.keys, dropped * keys.inputSize * keys.outputSize, from: .prefill, to: .rank)
    if drop.projectsNextValues {
      state.values.keepRows(rows)
      compute.ledger.move(.values, rows.count * values.inputSize * values.outputSize, from: .rank, to: .prefill)
    }
  }
}

extension Tops {
  /// Indices of the tokens that a drop keeps, ascending.
  ///
  /// - Parameters:
  ///   - hidden: Hidden states of all rows.
  ///   - rows: Those of the tokens, ascending.
  ///   - scores: The scores of the tokens.
  ///   - last: Tokens that are kept after all others.
  fileprivate func choice(
    _ hidden: borrowing Matrix, _ rows: [Int], _ scores: [Float], count: Int, last: [Int],
    on compute: ComputeContext
  ) -> [Int] {
    let isLast = Set(last)
    let candidates = scores.indices.filter { !isLast.contains($0) }
    guard count < candidates.count else { return topIndices(scores, count: count, last: last) }
    var states = Matrix(rows: 0, columns: hidden.columns)
    states.assign(hidden, rows: rows[0]..<rows[rows.count - 1] + 1)
    states.keepRows(candidates.map { rows[$0] - rows[0] })
    let least = min(0, candidates.map { scores[$0] }.min() ?? 0)
    let relevance = candidates.map { scores[$0] - least }
    // States that are not numbers give logits that are not, which end the answer.
    guard let order = try? select(states, relevance: relevance, count: count, on: compute) else {
      return topIndices(scores, count: count, last: last)
    }
    return order.map { candidates[$0] }.sorted()
  }
}

extension DropPlan.Drop {
  /// Whether the layer after the drop projects its values for all rows, to rank by them.
  var projectsNextValues: Bool { scoresWithNextLayer && ranking == .valueWeighted }

  /// Indices of the tokens that are dropped before the others, among the image's remaining tokens.
  func droppedFirst(of block: SequenceLayout.VisualBlock, _ image: Int) -> [Int] {
    guard !droppedFirst.isEmpty else { return [] }
    let padding = Set(droppedFirst[image])
    return block.tokens.indices.filter { padding.contains(block.tokens[$0]) }
  }
}

/// The drops of a sequence: the policy's stages for each of its images, combined.
///
/// Several images per prompt are our extension; the published codes support one. Each image keeps the same ratio of its
/// own tokens.
package struct DropPlan: Sendable, Equatable {
  /// One drop of all images.
  package struct Drop: Sendable, Equatable {
    package var afterLayer: Int
    package var scoringLayer: Int
    package var positions: PositionRule
    package var ranking: Ranking
    package var choice: ChoiceRule = .top
    /// Number of tokens of each image that are kept.
    package var keepCounts: [Int]
    /// Indices of each image's tokens that are dropped before all others, ascending; empty if there are none.
    package var droppedFirst: [[Int]] = []

    /// Whether tokens are scored with the keys of the layer after the drop, which that layer then reuses.
    var scoresWithNextLayer: Bool { ranking.needsScoringLayer && scoringLayer == afterLayer }
  }

  /// The selection before the first layer.
  package struct Selection: Sendable, Equatable {
    package var preselection: Preselection
    /// Number of tokens of each image that enter the decoder.
    package var counts: [Int]
  }

  /// `nil` if all tokens enter the decoder.
  package let selection: Selection?
  package let drops: [Drop]

  package static let none = DropPlan(drops: [])

  private init(drops: [Drop]) { (selection, self.drops) = (nil, drops) }

  /// - Parameters:
  ///   - policy: The policy, evaluated once per image.
  ///   - layerCount: Number of decoder layers.
  ///   - visualTokenCounts: Tokens of each image; a sequence without images drops nothing.
  ///   - padding: Indices of each image's tokens that show only padding, ascending, for policies that drop them first.
  package init(
    _ policy: any TokenDroppingPolicy, layerCount: Int, visualTokenCounts: [Int], padding: [[Int]] = []
  ) throws(DropPolicyError) {
    // Without images there is nothing to select from.
    selection =
      visualTokenCounts.isEmpty
      ? nil
      : policy.preselection.map { preselection in
        Selection(
          preselection: preselection, counts: visualTokenCounts.map { preselection.tokenCount(of: $0) })
      }
    var stages: [[DropStage]] = []
    for count in selection?.counts ?? visualTokenCounts {
      stages.append(try policy.stages(layerCount: layerCount, visualTokenCount: count))
    }
    drops = (stages.first ?? []).enumerated().map { index, first in
      Drop(
        afterLayer: first.afterLayer, scoringLayer: first.scoringLayer, positions: first.positions,
        ranking: first.ranking, choice: first.choice, keepCounts: stages.map { $0[index].keepCount },
        droppedFirst: first.dropsPaddingFirst ? padding : [])
    }
  }
}

extension DropPlan {
  /// Number of visual tokens that enter the decoder, of `visualTokenCount` tokens of all images.
  package func enteringTokens(of visualTokenCount: Int) -> Int {
    selection?.counts.reduce(0, +) ?? visualTokenCount
  }

  /// Number of rows in each layer.
  ///
  /// - Parameters:
  ///   - rowCount: Rows of the prompt before selection and drops.
  ///   - visualTokenCount: Rows of the images among them.
  package func rowsPerLayer(rowCount: Int, visualTokenCount: Int, layerCount: Int) -> [Int] {
    (0..<layerCount).map { layer in
      let kept = drops.last { $0.afterLayer <= layer }.map { $0.keepCounts.reduce(0, +) }
      return rowCount - visualTokenCount + (kept ?? enteringTokens(of: visualTokenCount))
    }
  }
}

/// The result of a drop: kept tokens and scores of every image.
package struct DropResult: Sendable, Equatable {
  /// The result for one image.
  package struct Image: Sendable, Equatable {
    /// Row of the image's first token before the drop.
    package var start: Int
    /// Number of the image's tokens before the drop.
    package var count: Int
    /// Indices of the kept tokens, ascending, among the image's tokens before any drop.
    package var kept: [Int]
    /// Scores of the image's tokens before the drop, `[count]`.
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
