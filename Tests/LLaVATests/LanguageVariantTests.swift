import Foundation
import Kernels
import LLaVA
import ModelFormats
import TestSupport
import Testing

/// Language models that the goldens do not include, against the logits of the reference library.
@Suite struct LanguageVariantTests {
  private static func file(_ path: String) -> String { Fixtures.url("languages/\(path)").path(percentEncoded: false) }

  @Test(arguments: ["llama3", "linear", "qwen2"])
  func `gives the reference's logits at every position`(language: String) throws {
    let files = try ModelDirectory(Self.file(language))
    let model = try LLaVAModel(files.checkpoint, files.configuration)
    #expect(model.unusedTensors(of: files.checkpoint).isEmpty)
    let reference = try GoldenTensors(Fixtures.url("languages/\(language)/reference.safetensors"))
    let compute = ComputeContext(workers: Workers(count: 2))
    let features = try model.imageFeatures(reference.floats("pixel_values"), .single, on: compute)
    var state = DecoderState(model.configuration.text)
    var layout = try model.languageModel.splice(
      &state.hidden, tokens: reference.integers("tokens"), placeholder: model.configuration.imageTokenID,
      features: features, featureCounts: [4], limit: 256)
    _ = model.languageModel.prefill(
      &state, KVCache(model.configuration.text), &layout, .none, after: nil, on: compute)
    let logits = model.languageModel.logits(state.hidden, on: compute)
    try expectClose(logits.values, reference.floats("logits"), 1e-4 * Self.scale(reference), language)
  }

  /// The largest absolute logit, to which the bound is relative: a logit is a sum of a few dozen products.
  private static func scale(_ reference: GoldenTensors) throws -> Double {
    try reference.floats("logits").map { Double(abs($0)) }.max() ?? 1
  }

  @Test(arguments: ["llama3", "linear", "qwen2"])
  func `scales RoPE frequencies like the reference, bit for bit`(language: String) throws {
    let text = try ModelDirectory(Self.file(language)).configuration.text
    let frequencies = text.ropeScaling.frequencies(headDimension: text.headDimension, theta: text.ropeTheta)
    #expect(
      try frequencies == GoldenTensors(Fixtures.url("languages/\(language)/reference.safetensors")).floats("inv_freq"))
  }

  @Test func `scales Llama 3.1's low, medium and high frequencies, bit for bit`() throws {
    let scaling = RotaryScaling.llama3(
      factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContextLength: 8192)
    let expected = try GoldenTensors(Fixtures.url("languages/llama3.1-8b.safetensors")).floats("inv_freq")
    #expect(scaling.frequencies(headDimension: 128, theta: 5e5) == expected)
  }
}
