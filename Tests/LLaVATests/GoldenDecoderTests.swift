import Kernels
import LLaVA
import ModelFormats
import TestSupport
import Testing

/// The decoder against the runs of the reference, starting from the reference's image features.
@Suite struct GoldenDecoderTests {
  @Test(arguments: GoldenCase.all)
  func `agrees with every run of the reference`(model: String, name: String) throws {
    let (golden, tensors) = try GoldenCase.load(model, name)
    let llava = try TestModel(model)
    for run in golden.runs {
      try check(run, of: golden, tensors, llava, "\(model)/\(name)/\(run.name)")
    }
  }

  private func check(
    _ run: GoldenCase.Run, of golden: GoldenCase, _ tensors: GoldenTensors, _ llava: TestModel, _ label: String
  ) throws {
    let decoder = llava.model.languageModel
    let compute = ComputeContext(workers: Workers(count: 2))
    var state = DecoderState(llava.model.configuration.text)
    let cache = KVCache(llava.model.configuration.text)
    state.recordsLastRows = true
    var layout = try llava.splice(&state.hidden, golden)
    #expect(layout.rowCount == golden.sequenceLength, "\(label)")
    #expect(layout.visualSpans == golden.imageSpans, "\(label)")

    let plan = try DropPlan(
      run.policy.policy, layerCount: llava.model.configuration.text.layerCount,
      visualTokenCounts: golden.numImageTokens)
    let results = decoder.prefill(&state, cache, &layout, plan, on: compute)
    var logits = decoder.logits(state, on: compute)
    #expect(cache.lengths == run.kvLenPrefill, "\(label)")
    try expectClose(logits, tensors.floats("\(run.name)/last_logits"), 3e-3, "\(label) last_logits")
    try expectClose(
      state.lastRows.flatMap { $0 }, tensors.floats("\(run.name)/hidden_last"), 3e-3, "\(label) hidden_last")
    try check(results, run, tensors, label)

    state.recordsLastRows = false
    var tokens: [Int] = []
    for step in 0..<golden.newTokens {
      let token = try #require(indexOfMaximum(logits))
      tokens.append(token)
      guard step + 1 < golden.newTokens else { break }
      decoder.embed([token], into: &state.hidden)
      decoder.decode(&state, [cache], on: compute)
      logits = decoder.logits(state, on: compute)
    }
    #expect(tokens == run.tokens, "\(label)")
    #expect(cache.lengths == run.kvLenEnd, "\(label)")
    try expectClose(logits, tensors.floats("\(run.name)/final_logits"), 3e-3, "\(label) final_logits")
  }

  private func check(_ results: [DropResult], _ run: GoldenCase.Run, _ tensors: GoldenTensors, _ label: String) throws {
    guard !run.stages.isEmpty, !run.stages[0].images.isEmpty else {
      #expect(results.isEmpty, "\(label)")
      return
    }
    #expect(results.count == run.stages.count, "\(label)")
    for (s, (result, stage)) in zip(results, run.stages).enumerated() {
      #expect(result.layer == stage.layer, "\(label) stage \(s)")
      #expect(
        result.tokensBefore == stage.tokensBefore && result.tokensAfter == stage.tokensAfter, "\(label) stage \(s)")
      for (j, image) in result.images.enumerated() {
        let prefix = "\(run.name)/stage\(s)/image\(j)"
        #expect(image.start == stage.images[j].start && image.count == stage.images[j].count, "\(label) \(prefix)")
        #expect(try image.kept == tensors.integers("\(prefix)/kept"), "\(label) \(prefix)")
        let scores = try tensors.floats("\(prefix)/scores")
        let difference = Difference.relative(image.scores, scores)
        #expect(difference.largest <= 2e-3, "\(label) \(prefix): \(difference)")
      }
    }
  }
}
