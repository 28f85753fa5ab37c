import Kernels
import LLaVA
import ModelFormats
import TestSupport
import Testing
import TokenDropping

/// Prefill after a cached prefix against prefill of the whole prompt, and batch-invariant decode.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct PrefixCacheTests {
  @Test(
    arguments: [ComputeType.bf16, .int8],
    [NoDropping(), PyramidDrop(), FastV(), PyramidDrop(.listed(layers: [1], ratios: [0.3]))]
      as [any TokenDroppingPolicy])
  func `a cached prefix changes no bit`(computeType: ComputeType, policy: any TokenDroppingPolicy) throws {
    guard computeType != .bf16 || Processor.current.instructions >= .avx512BF16 else { return }
    let (golden, _) = try GoldenCase.load("tiny-llava-1.5", "shapes_640x480")
    let test = try TestModel("tiny-llava-1.5", computeType)
    let (decoder, text) = (test.model.languageModel, test.model.configuration.text)
    #expect(decoder.splitsPrompts)
    let compute = ComputeContext(workers: Workers(count: 2))
    let plan = try DropPlan(policy, layerCount: text.layerCount, visualTokenCounts: golden.numImageTokens)

    var state = DecoderState(text)
    var layout = try test.splice(&state.hidden, golden)
    let prefixRows = try #require(layout.prefixRowCount)
    let cacheType = computeType == .int8 ? CacheType.int8 : .bf16
    let whole = KVCache(text, type: cacheType)
    let results = decoder.prefill(&state, whole, &layout, plan, on: compute)
    let logits = decoder.logits(state, on: compute)

    let firstLayout = try test.splice(&state.hidden, golden)
    var rest = Matrix(rows: 0, columns: text.hiddenSize)
    rest.assign(state.hidden, rows: prefixRows..<state.hidden.rows)
    state.hidden.resize(rows: prefixRows)
    let prefix = decoder.prefix(
      &state, KVCache(text, type: cacheType), depth: plan.depth(layerCount: text.layerCount), reservedRows: 0,
      on: compute)
    #expect(prefix.rowCount == prefixRows)
    // Twice, as using the prefix must not change it.
    for _ in 0..<2 {
      layout = firstLayout
      state.hidden.assign(rest, rows: 0..<rest.rows)
      let cache = prefix.cache.copy(rows: firstLayout.rowCount)
      #expect(decoder.prefill(&state, cache, &layout, plan, after: prefix, on: compute) == results)
      #expect(decoder.logits(state, on: compute).map(\.bitPattern) == logits.map(\.bitPattern))
      #expect(cache.lengths == whole.lengths)
    }
  }

  /// The limit of rows of the MLP's matrices divides the longer prompt, but not the shorter one.
  @Test(arguments: [ComputeType.bf16, .int8])
  func `parts of the MLP change no bit`(computeType: ComputeType) throws {
    guard computeType != .bf16 || Processor.current.instructions >= .avx512BF16 else { return }
    let test = try TestModel("tiny-llava-1.5", computeType)
    let (decoder, text) = (test.model.languageModel, test.model.configuration.text)
    #expect(decoder.splitsPrompts)
    let (short, long) = (DecoderState.mlpRowLimit - 50, DecoderState.mlpRowLimit + 77)
    let compute = ComputeContext(workers: Workers(count: 2))
    var state = DecoderState(text)
    var results: [[UInt32]] = []
    for rows in [short, long] {
      decoder.embed((0..<rows).map { 3 + $0 * 7 % 900 }, into: &state.hidden)
      let cache = KVCache(text, type: .bf16)
      let prefix = decoder.prefix(&state, cache, depth: 3, reservedRows: 0, on: compute)
      results.append(prefix.hidden.values.prefix(short * text.hiddenSize).map(\.bitPattern))
    }
    #expect(results[0] == results[1])
  }

  @Test(arguments: [ComputeType.f32, .bf16, .int8])
  func `a token's logits do not depend on the other sequences of the batch`(computeType: ComputeType) throws {
    let test = try TestModel("tiny-llava-1.5", computeType)
    let (decoder, text) = (test.model.languageModel, test.model.configuration.text)
    let compute = ComputeContext(workers: Workers(count: 2))
    var state = DecoderState(text)
    /// The KV cache of a sequence after prefill.
    func cache(_ tokens: [Int]) throws -> KVCache {
      let cache = KVCache(text, type: computeType == .f32 ? .f32 : computeType == .int8 ? .int8 : .bf16)
      var layout = try decoder.splice(
        &state.hidden, tokens: tokens, placeholder: -1, features: Matrix(rows: 0, columns: text.hiddenSize),
        featureCounts: [], limit: 4096)
      _ = decoder.prefill(&state, cache, &layout, .none, on: compute)
      return cache
    }
    let prompts = (1...16).map { length in (0..<3 * length).map { 3 + ($0 * 7 + length) % 900 } }
    var alone: [[Float]] = []
    for (i, prompt) in prompts.enumerated() {
      let cache = try cache(prompt)
      for step in 0..<2 {
        decoder.embed([100 + i + step], into: &state.hidden)
        decoder.decode(&state, [cache], on: compute)
      }
      alone.append(decoder.logits(state.hidden, on: compute).values)
    }
    for count in [2, 5, 16] {
      let caches = try prompts.prefix(count).map(cache)
      for step in 0..<2 {
        decoder.embed((0..<count).map { 100 + $0 + step }, into: &state.hidden)
        decoder.decode(&state, caches, on: compute)
      }
      let logits = decoder.logits(state.hidden, on: compute)
      for i in 0..<count { #expect(logits.rowValues(i) == alone[i], "\(i) of \(count)") }
    }
  }
}
