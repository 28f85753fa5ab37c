import Foundation
import Kernels
import ModelFormats
import TestSupport
import Testing

/// Pairs of GGUF files made by llama.cpp's converters and quantizer.
@Suite struct GGUFGoldenTests {
  private static func pair(_ model: String, _ kind: String, mmproj: String = "f16") throws -> any ModelFiles {
    let folder = Goldens.path("gguf/models/\(model)")
    return try ModelSearch.open(
      "\(folder)/ggml-model-\(kind).gguf", mmproj: "\(folder)/mmproj-model-\(mmproj).gguf")
  }

  @Test(arguments: [
    ("vicuna-64", "f16", "f16-2023"), ("vicuna-64", "q4_0-2023", "q8_0"), ("mistral-256", "q4_k_m", "f16"),
    ("next-mistral-64", "q8_0", "f16"), ("qwen2-64", "q4_k_m", "f16"),
  ])
  func `opens with all tensors`(model: String, kind: String, mmproj: String) throws {
    let files = try Self.pair(model, kind, mmproj: mmproj)
    try files.readEverything()
    #expect(files.checkpoint.unreadNames == [])
    #expect(try files.notes(imageToken: "<image>") == [])
    let preprocessor = try #require(try files.preprocessor())
    #expect(preprocessor.mean.map { Float($0) } == [0.48145466, 0.4578275, 0.40821073])
  }

  @Test func `reads the configuration of a Vicuna of 2023`() throws {
    let configuration = try Self.pair("vicuna-64", "q4_0-2023", mmproj: "f16-2023").configuration
    let text = configuration.text
    #expect(text.kind == .llama && text.layerCount == 8 && text.hiddenSize == 64 && text.intermediateSize == 160)
    #expect(text.headCount == 4 && text.keyValueHeadCount == 4 && text.headDimension == 16)
    #expect(text.vocabularySize == 1200 && text.contextLength == 4096 && text.ropeTheta == 10_000)
    #expect(text.rmsNormEpsilon == 1e-5)
    let vision = try #require(configuration.vision)
    #expect(vision.layerCount == 4 && configuration.visionLayersNeeded == 4 && vision.hiddenSize == 64)
    #expect(vision.headCount == 4 && vision.intermediateSize == 256 && vision.activation == .quickGELU)
    #expect(configuration.visualTokensPerView == 576)
  }

  @Test func `reads the configuration of a Mistral, a LLaVA-NeXT and a Qwen2`() throws {
    let mistral = try Self.pair("mistral-256", "q4_k_m").configuration.text
    #expect(mistral.keyValueHeadCount == 2 && mistral.headDimension == 64 && mistral.ropeTheta == 1e6)
    let next = try Self.pair("next-mistral-64", "q8_0").configuration
    #expect(next.modelType == "llava_next" && next.anyResolution?.merge == .spatialUnpad)
    #expect(next.anyResolution?.canvases.first == PixelSize(height: 336, width: 672))
    #expect(next.anyResolution?.canvases.count == 5)
    let qwen = try Self.pair("qwen2-64", "q4_k_m").configuration.text
    #expect(qwen.kind == .qwen2 && qwen.attentionBias == .queriesKeysValues && qwen.vocabularySize == 912)
    #expect(qwen.rmsNormEpsilon == 1e-6 && qwen.contextLength == 32_768)
  }

  @Test func `reads the vocabulary from the metadata`() throws {
    let metadata = try #require(try Self.pair("qwen2-64", "q4_k_m").metadata)
    #expect(try metadata.string("tokenizer.ggml.model") == "gpt2" && metadata.string("tokenizer.ggml.pre") == "qwen2")
    #expect(try metadata.strings("tokenizer.ggml.tokens")?.count == 912)
    #expect(try metadata.integers("tokenizer.ggml.token_type")?.count == 912)
    #expect(try metadata.strings("tokenizer.ggml.merges")?.count == 644)
    #expect(try metadata.integer("tokenizer.ggml.eos_token_id") == 902)
    #expect(try metadata.bool("tokenizer.ggml.add_bos_token") == false)
  }

  @Test func `has the values of another quantization within its error`() throws {
    let (precise, rounded) = (
      try Self.pair("vicuna-64", "f16", mmproj: "f16-2023"),
      try Self.pair("vicuna-64", "q4_0-2023", mmproj: "q8_0")
    )
    for name in ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"] {
      let path = "language_model.model.layers.3.\(name).weight"
      let (a, b) = (try precise.tensor(path, shape: [64, 64]), try rounded.tensor(path, shape: [64, 64]))
      #expect(a.type == .floats(.f16) && b.type == .blocks(.q4zero))
      // Steps of 1/8 of the largest value, from -8 to 7 of them, so its opposite is a step away; measured 0.075.
      #expect(Difference.relativeToLargest(b.floats(), a.floats()).largest <= 0.125)
    }
    let mlp = "vision_tower.vision_model.encoder.layers.1.mlp.fc1.weight"
    let (a, b) = (try precise.tensor(mlp, shape: [256, 64]), try rounded.tensor(mlp, shape: [256, 64]))
    #expect(b.type == .blocks(.q8zero) && Difference.relativeToLargest(b.floats(), a.floats()).largest < 0.005)
  }
}
