import Kernels
import LLaVA
import ModelFormats
import TestSupport
import Testing
import TokenDropping

/// Rankings against their definitions, and what they may cost.
@Suite struct RankingTests {
  static let rankings = Ranking.all(seed: 3)
  static let readingRankings = rankings.filter(\.readsLayer)
  static let layer = 3

  /// A policy that drops before layer 3: scored there, or in the layer before it.
  private static func policy(_ ranking: Ranking, next: Bool) -> any TokenDroppingPolicy {
    next
      ? PyramidDrop(.listed(layers: [layer], ratios: [0.3]), ranking: ranking)
      : FastV(k: layer, r: 0.7, ranking: ranking)
  }

  private struct Run {
    var records: [DropResult]
    var ledger: CostLedger
    var lengths: [Int]
    var logits: [Float]
  }

  private func run(
    _ test: TestModel, _ golden: GoldenCase, _ policy: any TokenDroppingPolicy, cache element: ElementType = .f32,
    threads: Int = 2, padding: [[Int]] = []
  ) throws -> Run {
    let (decoder, text) = (test.model.languageModel, test.model.configuration.text)
    let compute = ComputeContext(workers: Workers(count: threads))
    var state = DecoderState(text)
    var layout = try test.splice(&state.hidden, golden)
    let plan = try DropPlan(
      policy, layerCount: text.layerCount, visualTokenCounts: golden.num_image_tokens, padding: padding)
    let cache = KVCache(text, element: element)
    let records = decoder.prefill(&state, cache, &layout, plan, on: compute)
    return Run(
      records: records, ledger: compute.ledger, lengths: cache.lengths, logits: decoder.logits(state, on: compute))
  }

  /// What the layer `layer` is given of a prompt.
  private func rows(_ test: TestModel, _ golden: GoldenCase, infrontOf layer: Int) throws -> [[Float]] {
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
  func `scores are what the definition says`(ranking: Ranking, place: (model: String, next: Bool)) throws {
    let test = try TestModel(place.model)
    let (golden, _) = try GoldenCase.load(place.model, "shapes_640x480")
    let layer = place.next ? Self.layer : Self.layer - 1
    let plain = try PlainRanking(test, layer: layer, rows: rows(test, golden, infrontOf: layer))
    let policy = Self.policy(ranking, next: place.next)
    let span = golden.image_spans[0][0]..<golden.image_spans[0][0] + golden.image_spans[0][1]
    let expected = plain.scores(ranking, of: span, positions: Array(0..<golden.sequence_length)).map(Float.init)

    let found = try run(test, golden, policy).records[0].images[0]
    let difference = Difference.relativeToLargest(found.scores, expected)
    #expect(difference.largest <= 2e-4, "\(difference)")
    // The best by the definition stay, but for those that are as good as the last within the error.
    let best = topIndices(expected, count: found.kept.count)
    let limit = best.map { expected[$0] }.min() ?? 0
    let bound = 4e-4 * (expected.map { abs($0) }.max() ?? 0)
    for token in Set(best).symmetricDifference(found.kept) {
      #expect(abs(expected[token] - limit) <= bound, "token \(token)")
    }

    // A key or value in bf16 is off by at most 2^-9 of itself.
    let rounded = try run(test, golden, policy, cache: .bf16).records[0].images[0].scores
    let loss = Difference.relativeToLargest(rounded, expected)
    #expect(loss.largest <= (place.next ? 0.05 : 0.1), "\(loss)")
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"), arguments: rankings, [true, false])
  func `one thread and three rank alike`(ranking: Ranking, next: Bool) throws {
    let test = try TestModel("tiny-llava-next-mistral")
    let (golden, _) = try GoldenCase.load(test.name, "shapes_640x480")
    let one = try run(test, golden, Self.policy(ranking, next: next), threads: 1)
    let three = try run(test, golden, Self.policy(ranking, next: next), threads: 3)
    #expect(one.records == three.records && one.logits == three.logits)
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"), arguments: rankings, [true, false])
  func `every multiply-add is counted, and the closed formula counts the same`(ranking: Ranking, next: Bool) throws {
    let test = try TestModel("tiny-llava-next-mistral")
    let (golden, _) = try GoldenCase.load(test.name, "shapes_640x480")
    let policy = Self.policy(ranking, next: next)
    let run = try run(test, golden, policy)
    let text = test.model.configuration.text
    let plan = try DropPlan(policy, layerCount: text.layerCount, visualTokenCounts: golden.num_image_tokens)

    // 4 heads of 16 share 2 key-value heads; d is 64.
    let (before, after) = (run.records[0].tokensBefore, run.records[0].tokensAfter)
    let visual = run.records[0].images[0].count
    let keys = next ? (before - after) * 64 * 32 : 0
    let attention = (next ? 64 * 64 : 0) + before * 64
    let expected =
      switch ranking {
      case .attention, .attentionWithoutRotation: keys + attention
      case .attentionDebiased: keys + attention + 9 * visual
      case .valueWeighted: 2 * keys + attention + before * 32 + before * 4
      case .keyNorm: keys + before * 32
      case .random, .uniform: 0
      }
    #expect(run.ledger.total(.rank) == expected)
    #expect(
      rankMultiplyAdds(plan, rowCount: golden.sequence_length, visualTokenCounts: golden.num_image_tokens, text)
        == expected)
    #expect(run.ledger.total(.prefill) == prefillMultiplyAdds(rowsPerLayer: run.lengths, text))
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"), arguments: rankings)
  func `keeping everything is no dropping, bit for bit`(ranking: Ranking) throws {
    let test = try TestModel("tiny-llava-1.5")
    let (golden, _) = try GoldenCase.load(test.name, "shapes_640x480")
    let none = try run(test, golden, NoDropping()).logits
    let all = PyramidDrop(.listed(layers: [2, 9], ratios: [1, 1]), ranking: ranking)
    #expect(try run(test, golden, all).logits == none)
    #expect(try run(test, golden, FastV(r: 0, ranking: ranking)).logits == none)
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"), arguments: rankings, [true, false])
  func `what is listed first to leave leaves first`(ranking: Ranking, next: Bool) throws {
    let test = try TestModel("tiny-llava-1.5")
    let (golden, _) = try GoldenCase.load(test.name, "shapes_640x480")
    let count = golden.num_image_tokens[0]
    // 476 of 576 tokens in the list: of the 173 that stay, 100 are all the others.
    let leaving = (0..<count).filter { !(200..<300).contains($0) }
    func kept(_ policy: any TokenDroppingPolicy, _ padding: [Int]) throws -> [Int] {
      try run(test, golden, policy, padding: [padding]).records[0].images[0].kept
    }
    var pyramid = PyramidDrop(.listed(layers: [3], ratios: [0.3]), ranking: ranking, dropsPaddingFirst: true)
    var fastV = FastV(k: 3, r: 0.7, ranking: ranking, dropsPaddingFirst: true)
    let policy: any TokenDroppingPolicy = next ? pyramid : fastV
    let masked = try kept(policy, leaving)
    #expect(Set(200..<300).isSubset(of: masked) && masked == masked.sorted())
    #expect(masked.count == (next ? 172 : 173))
    // The rest is the best of the list by the ranking itself.
    #expect(try kept(policy, Array(0..<200)).allSatisfy { $0 >= 200 })
    // A policy that masks nothing keeps what it would.
    (pyramid.dropsPaddingFirst, fastV.dropsPaddingFirst) = (false, false)
    let plain: any TokenDroppingPolicy = next ? pyramid : fastV
    #expect(try kept(plain, leaving) == kept(plain, []))
  }
}
