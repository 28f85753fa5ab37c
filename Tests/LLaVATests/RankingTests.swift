import Foundation
import Kernels
import LLaVA
import ModelFormats
import TestSupport
import Testing
import TokenDropping
import TokenSelection

/// Rankings against their definitions, and their costs.
@Suite struct RankingTests {
  static let rankings = Ranking.all(seed: 3)
  /// Text raters have a test of their own.
  static let readingRankings = rankings.filter { $0.needsScoringLayer && $0 != .textRaters }
  static let layer = 3

  /// A policy that drops before layer 3 and scores with this layer, or with the one before it.
  private static func policy(_ ranking: Ranking, next: Bool) -> any TokenDroppingPolicy {
    next
      ? PyramidDrop(.listed(layers: [layer], ratios: [0.3]), ranking: ranking)
      : FastV(k: layer, r: 0.7, ranking: ranking)
  }

  private struct Run {
    var drops: [DropResult]
    var ledger: CostLedger
    var lengths: [Int]
    var logits: [Float]
  }

  private func run(
    _ test: TestModel, _ golden: GoldenCase, _ policy: any TokenDroppingPolicy, cache type: CacheType = .f32,
    threads: Int = 2, padding: [[Int]] = []
  ) throws -> Run {
    let (decoder, text) = (test.model.languageModel, test.model.configuration.text)
    let compute = ComputeContext(workers: Workers(count: threads))
    var state = DecoderState(text)
    var layout = try test.splice(&state.hidden, golden)
    let plan = try DropPlan(
      policy, layerCount: text.layerCount, visualTokenCounts: golden.numImageTokens, padding: padding)
    let cache = KVCache(text, type: type)
    let drops = decoder.prefill(&state, cache, &layout, plan, on: compute)
    return Run(
      drops: drops, ledger: compute.ledger, lengths: cache.lengths, logits: decoder.logits(state, on: compute))
  }

  /// The rows of a prompt before a layer, `[T, D]`.
  private func rows(_ test: TestModel, _ golden: GoldenCase, before layer: Int) throws -> [[Float]] {
    let text = test.model.configuration.text
    let compute = ComputeContext(workers: Workers(count: 2))
    var state = DecoderState(text)
    _ = try test.splice(&state.hidden, golden)
    _ = test.model.languageModel.prefix(&state, KVCache(text), depth: layer, reservedRows: 0, on: compute)
    return (0..<state.hidden.rows).map { state.hidden.rowValues($0) }
  }

  @Test(
    .enabled(if: isOptimized, "slow without optimisation"), arguments: readingRankings,
    [
      ("tiny-llava-1.5", true), ("tiny-llava-1.5", false), ("tiny-llava-next-mistral", true),
      ("tiny-llava-next-mistral", false),
    ])
  func `scores agree with the definition`(ranking: Ranking, place: (model: String, next: Bool)) throws {
    let test = try TestModel(place.model)
    let (golden, _) = try GoldenCase.load(place.model, "shapes_640x480")
    let layer = place.next ? Self.layer : Self.layer - 1
    let plain = try PlainRanking(test, layer: layer, rows: rows(test, golden, before: layer))
    let policy = Self.policy(ranking, next: place.next)
    let span = golden.imageSpans[0][0]..<golden.imageSpans[0][0] + golden.imageSpans[0][1]
    let expected = plain.scores(ranking, of: span, positions: Array(0..<golden.sequenceLength)).map(Float.init)

    let found = try run(test, golden, policy).drops[0].images[0]
    let difference = Difference.relativeToLargest(found.scores, expected)
    #expect(difference.largest <= 2e-4, "\(difference)")
    // The best by the definition are kept, except for scores that equal the last kept one within the error.
    let best = topIndices(expected, count: found.kept.count)
    let limit = best.map { expected[$0] }.min() ?? 0
    let bound = 4e-4 * (expected.map { abs($0) }.max() ?? 0)
    for token in Set(best).symmetricDifference(found.kept) {
      #expect(abs(expected[token] - limit) <= bound, "token \(token)")
    }

    // A key or value in bf16 is off by at most 2^-9 of itself.
    let rounded = try run(test, golden, policy, cache: .bf16).drops[0].images[0].scores
    let loss = Difference.relativeToLargest(rounded, expected)
    #expect(loss.largest <= (place.next ? 0.05 : 0.1), "\(loss)")
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"), arguments: rankings, [true, false])
  func `one thread and three give the same ranking`(ranking: Ranking, next: Bool) throws {
    let test = try TestModel("tiny-llava-next-mistral")
    let (golden, _) = try GoldenCase.load(test.name, "shapes_640x480")
    let one = try run(test, golden, Self.policy(ranking, next: next), threads: 1)
    let three = try run(test, golden, Self.policy(ranking, next: next), threads: 3)
    #expect(one.drops == three.drops && one.logits == three.logits)
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"), arguments: rankings, [true, false])
  func `counted multiply-adds equal the closed formula`(ranking: Ranking, next: Bool) throws {
    let test = try TestModel("tiny-llava-next-mistral")
    let (golden, _) = try GoldenCase.load(test.name, "shapes_640x480")
    let policy = Self.policy(ranking, next: next)
    let run = try run(test, golden, policy)
    let text = test.model.configuration.text
    let plan = try DropPlan(policy, layerCount: text.layerCount, visualTokenCounts: golden.numImageTokens)

    // 4 heads of 16 share 2 key-value heads; d is 64.
    let (before, after) = (run.drops[0].tokensBefore, run.drops[0].tokensAfter)
    let visual = run.drops[0].images[0].count
    let keys = next ? (before - after) * 64 * 32 : 0
    let attention = (next ? 64 * 64 : 0) + before * 64
    let expected =
      switch ranking {
      case .attention, .attentionWithoutRotation: keys + attention
      case .attentionDebiased: keys + attention + 9 * visual
      case .valueWeighted: 2 * keys + attention + before * 32 + before * 4
      case .keyNorm: keys + before * 32
      case .textRaters, .random, .uniform: 0
      }
    let formula = rankMultiplyAdds(
      plan, rowCount: golden.sequenceLength, visualTokenCounts: golden.numImageTokens, text)
    if ranking == .textRaters {
      // The number of raters depends on the prompt.
      #expect(run.ledger.total(.rank) > keys + attention && run.ledger.total(.rank) <= formula)
    } else {
      #expect(run.ledger.total(.rank) == expected && formula == expected)
    }
    #expect(run.ledger.total(.prefill) == prefillMultiplyAdds(rowsPerLayer: run.lengths, text))
  }

  /// The attention of the raters is a mean of rows of probabilities, so that of one is that of the last row.
  @Test(.enabled(if: isOptimized, "slow without optimisation"), arguments: [true, false])
  func `text raters are the text tokens above the mean`(next: Bool) throws {
    let test = try TestModel("tiny-llava-1.5")
    let (golden, _) = try GoldenCase.load(test.name, "shapes_640x480")
    let rows = try rows(test, golden, before: Self.layer).map { $0.map(Double.init) }
    let (start, count) = (golden.imageSpans[0][0], golden.imageSpans[0][1])
    let text = Array(start + count..<golden.sequenceLength)
    var relevance = [Double](repeating: 0, count: text.count)
    for visual in start..<start + count {
      let products = text.map { zip(rows[visual], rows[$0]).reduce(0) { $0 + $1.0 * $1.1 } }
      let powers = products.map { exp($0 - (products.max() ?? 0)) }
      for i in powers.indices { relevance[i] += powers[i] / powers.reduce(0, +) }
    }
    let mean = relevance.reduce(0, +) / Double(text.count)
    let raters = text.indices.filter { relevance[$0] > mean }.map { text[$0] }
    try #require(!raters.isEmpty && raters.count < text.count)

    let layer = next ? Self.layer : Self.layer - 1
    var expected = [Double](repeating: 0, count: count)
    for rater in raters {
      // A prompt that ends with the rater.
      let plain = try PlainRanking(
        test, layer: layer, rows: Array(self.rows(test, golden, before: layer)[...rater]))
      let scores = plain.scores(.attention, of: start..<start + count, positions: Array(0...rater))
      for i in scores.indices { expected[i] += scores[i] / Double(raters.count) }
    }
    let found = try run(test, golden, Self.policy(.textRaters, next: next)).drops[0].images[0].scores
    let difference = Difference.relativeToLargest(found, expected.map(Float.init))
    #expect(difference.largest <= 2e-4, "\(difference)")
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"), arguments: [true, false])
  func `a choice by coverage is that of TOPS on the rows at the drop`(next: Bool) throws {
    let test = try TestModel("tiny-llava-1.5")
    let (golden, _) = try GoldenCase.load(test.name, "shapes_640x480")
    let (start, count) = (golden.imageSpans[0][0], golden.imageSpans[0][1])
    let policy: any TokenDroppingPolicy =
      next
      ? PyramidDrop(.listed(layers: [Self.layer], ratios: [0.2]), choice: .coverage(lambda: 1))
      : FastV(k: Self.layer, r: 0.8, choice: .coverage(lambda: 1))
    let run = try run(test, golden, policy)
    let drop = run.drops[0].images[0]
    let rows = try rows(test, golden, before: Self.layer)[start..<start + count]
    var rule = Tops()
    rule.lambda = 1
    let order = try rule.select(
      Matrix(rows.flatMap(\.self), columns: rows[start].count), relevance: drop.scores, count: drop.kept.count,
      on: ComputeContext(workers: Workers(count: 1)))
    #expect(drop.kept == order.sorted())
    let text = test.model.configuration.text
    let plan = try DropPlan(policy, layerCount: text.layerCount, visualTokenCounts: golden.numImageTokens)
    #expect(
      run.ledger.total(.rank)
        == rankMultiplyAdds(
          plan, rowCount: golden.sequenceLength, visualTokenCounts: golden.numImageTokens, text))
  }

  /// Stage 0 with some tokens, then a pyramid, is the pyramid on an image that has only these.
  @Test(.enabled(if: isOptimized, "slow without optimisation"))
  func `a selection composes with drops`() throws {
    let test = try TestModel("tiny-llava-1.5")
    let (golden, _) = try GoldenCase.load(test.name, "shapes_640x480")
    let (decoder, text) = (test.model.languageModel, test.model.configuration.text)
    let selected = (0..<golden.numImageTokens[0]).filter { $0 % 5 == 2 || $0 % 7 == 0 }
    let plan = try DropPlan(PyramidDrop(), layerCount: text.layerCount, visualTokenCounts: [selected.count])
    let file = golden.images[0].split(separator: "/").last.map(String.init) ?? golden.images[0]
    var features = Matrix(
      try Goldens.tensors("features/\(test.name)/\(file).safetensors").floats("features"), columns: text.hiddenSize)
    features.keepRows(selected)
    func run(_ selected: [[Int]]?) throws -> (kept: [[Int]], logits: [Float]) {
      let compute = ComputeContext(workers: Workers(count: 2))
      var state = DecoderState(text)
      var layout = try decoder.splice(
        &state.hidden, tokens: golden.promptIDs, placeholder: test.model.configuration.imageTokenID,
        features: features, featureCounts: [features.rows], selected: selected, limit: text.contextLength)
      let drops = decoder.prefill(&state, KVCache(text), &layout, plan, on: compute)
      return (drops.map { $0.images[0].kept }, decoder.logits(state, on: compute))
    }
    let (stage, alone) = (try run([selected]), try run(nil))
    #expect(stage.logits == alone.logits)
    #expect(stage.kept == alone.kept.map { $0.map { selected[$0] } })
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"), arguments: rankings)
  func `keeping everything equals no dropping, bit for bit`(ranking: Ranking) throws {
    let test = try TestModel("tiny-llava-1.5")
    let (golden, _) = try GoldenCase.load(test.name, "shapes_640x480")
    let none = try run(test, golden, NoDropping()).logits
    let all = PyramidDrop(.listed(layers: [2, 9], ratios: [1, 1]), ranking: ranking)
    #expect(try run(test, golden, all).logits == none)
    #expect(try run(test, golden, FastV(r: 0, ranking: ranking)).logits == none)
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"), arguments: rankings, [true, false])
  func `padding tokens are dropped first`(ranking: Ranking, next: Bool) throws {
    let test = try TestModel("tiny-llava-1.5")
    let (golden, _) = try GoldenCase.load(test.name, "shapes_640x480")
    let count = golden.numImageTokens[0]
    // 476 of the 576 tokens are padding, so the 172 or 173 kept tokens include the 100 others.
    let padding = (0..<count).filter { !(200..<300).contains($0) }
    func kept(_ policy: any TokenDroppingPolicy, _ padding: [Int]) throws -> [Int] {
      try run(test, golden, policy, padding: [padding]).drops[0].images[0].kept
    }
    var pyramid = PyramidDrop(.listed(layers: [3], ratios: [0.3]), ranking: ranking, dropsPaddingFirst: true)
    var fastV = FastV(k: 3, r: 0.7, ranking: ranking, dropsPaddingFirst: true)
    let policy: any TokenDroppingPolicy = next ? pyramid : fastV
    let masked = try kept(policy, padding)
    #expect(Set(200..<300).isSubset(of: masked) && masked == masked.sorted())
    #expect(masked.count == (next ? 172 : 173))
    // Padding tokens are not kept as long as others remain.
    #expect(try kept(policy, Array(0..<200)).allSatisfy { $0 >= 200 })
    // A policy that does not drop padding first ignores the list.
    (pyramid.dropsPaddingFirst, fastV.dropsPaddingFirst) = (false, false)
    let plain: any TokenDroppingPolicy = next ? pyramid : fastV
    #expect(try kept(plain, padding) == kept(plain, []))
  }
}
