import Kernels
import ModelFormats
import TestSupport
import Testing

@Suite struct SyntheticWeightsTests {
  private func checkpoint(sharesLayers: Bool = true, _ element: ElementType = .f32) -> Checkpoint {
    Checkpoint(SyntheticWeights(element: element, sharesLayers: sharesLayers, workers: Workers(count: 1)))
  }

  @Test func `returns the same tensor for a name in any shape`() throws {
    let first = try checkpoint().tensor("a.weight", shape: [3, 5])
    #expect(first.shape == [3, 5] && first.element == .f32)
    #expect(try checkpoint().tensor("a.weight", shape: [3, 5]).floats() == first.floats())
    #expect(try checkpoint().tensor("b.weight", shape: [3, 5]).floats() != first.floats())
    #expect(try checkpoint(.bf16).tensor("a.weight", shape: [3, 5]).element == .bf16)
  }

  @Test func `norm weights are about one, matmuls keep the size of their inputs`() throws {
    func deviation(_ name: String, _ shape: [Int], from mean: Float) throws -> Float {
      let values = try checkpoint().tensor(name, shape: shape).floats()
      return (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Float(values.count)).squareRoot()
    }
    // The standard error of a deviation of 1024 numbers is 2.2%.
    for name in ["layers.0.input_layernorm.weight", "pre_layrnorm.weight", "encoder.layers.1.layer_norm2.weight"] {
      #expect(abs(try deviation(name, [1024], from: 1) / 0.02 - 1) < 0.11)
    }
    #expect(abs(try deviation("layer_norm1.bias", [1024], from: 0) / 0.02 - 1) < 0.11)
    #expect(abs(try deviation("mlp.fc1.weight", [64, 16], from: 0) * 4 - 1) < 0.11)
    #expect(abs(try deviation("patch_embedding.weight", [16, 4, 4, 4], from: 0) * 8 - 1) < 0.11)
  }

  @Test(arguments: [true, false])
  func `layers share their weights on request`(sharesLayers: Bool) throws {
    let checkpoint = checkpoint(sharesLayers: sharesLayers)
    func up(_ layer: Int) throws -> [Float] {
      try checkpoint.tensor("language_model.model.layers.\(layer).mlp.up_proj.weight", shape: [4, 4]).floats()
    }
    #expect(try (up(0) == up(31)) == sharesLayers)
    let (one, other) = (
      try checkpoint.tensor("a.layers.3.q.weight", shape: [4, 4]).floats(),
      try checkpoint.tensor("b.layers.3.q.weight", shape: [4, 4]).floats()
    )
    #expect(one != other)
  }

  /// The published sizes: Vicuna with 64 more tokens, the vision encoder of CLIP ViT-L/14-336 (303,507,456), the
  /// projector, and for LLaVA-NeXT the newline.
  @Test(arguments: [
    (ModelPreset.llava15With7B, 6_738_939_904 + 303_507_456 + 20_979_712),
    (.llava15With13B, 13_016_519_680 + 303_507_456 + 31_467_520),
    (.llavaNext7B, 6_738_939_904 + 303_507_456 + 20_979_712 + 4096),
    (.llavaNextMistral7B, 7_242_256_384 + 303_507_456 + 20_979_712 + 4096),
    // Qwen2-0.5B (494,032,768) with 64 more tokens of 896, and SigLIP so400m without its last layer and head.
    (.llavaOneVision05B, 494_032_768 + 64 * 896 + 397_747_744 + 1152 * 896 + 896 * 896 + 3 * 896),
    // The sums of the tensors in the published files.
    (.smolVLM256M, 256_484_928), (.smolVLM500M, 507_482_304),
  ])
  func `presets have the published number of parameters`(preset: ModelPreset, count: Int) {
    #expect(preset.configuration.parameterCount == count)
  }

  @Test(arguments: [
    "tiny-llava-1.5", "tiny-llava-next-vicuna", "tiny-llava-next-mistral", "tiny-llava-onevision",
    "tiny-smolvlm",
  ])
  func `counts the parameters of a checkpoint`(name: String) throws {
    let directory = Goldens.path("models/\(name)")
    let file = try SafetensorsFile(directory + "/model.safetensors")
    let stored = file.records.values.reduce(0) { $0 + $1.shape.reduce(1, *) }
    #expect(try LLaVAConfiguration(directory: directory).parameterCount == stored)
  }
}
