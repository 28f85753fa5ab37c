import Kernels
import LLaVA
import ModelFormats
import TestSupport
import Testing

/// The vision encoder and the projector against the features of the reference, starting from the reference's pixels.
@Suite struct GoldenVisionTests {
  @Test(arguments: [
    ("tiny-llava-1.5", "shapes_640x480.png"), ("tiny-llava-1.5", "grace_hopper.jpg"),
    ("tiny-llava-1.5", "rgba_360x360.png"), ("tiny-llava-1.5", "wide_1000x200.png"),
    ("tiny-llava-1.5-bf16", "palette_512x256.png"),
  ])
  func `gives the features of the reference`(model: String, image: String) throws {
    let llava = try TestModel(model).model
    let pixels = try Self.pixelValues(image)
    let compute = ComputeContext(workers: Workers(count: 2))
    let golden = try Goldens.tensors("features/\(model)/\(image).safetensors")

    let features = llava.imageFeatures(pixels, .single, on: compute)
    try expectClose(features.values, golden.floats("features"), 2e-4, "features")
    guard golden.names.contains("vision_hidden_0") else { return }
    let vision = try #require(llava.imageEncoder).vision
    let embedded = vision.hidden(pixels, views: 1, layers: 0, on: compute)
    try expectClose(embedded.values, golden.floats("vision_hidden_0"), 2e-4, "vision_hidden_0")
    let selected = vision.hidden(pixels, views: 1, layers: .max, on: compute)
    try expectClose(selected.values, golden.floats("vision_hidden_select"), 2e-4, "vision_hidden_select")
  }

  @Test func `gives the same features for several views as for each alone`() throws {
    let llava = try TestModel("tiny-llava-1.5").model
    let compute = ComputeContext(workers: Workers(count: 2))
    let images = try ["shapes_640x480.png", "wide_1000x200.png"].map { try Self.pixelValues($0) }
    let together = llava.viewFeatures(images.flatMap { $0 }, views: 2, on: compute).values
    let alone = images.flatMap { llava.viewFeatures($0, views: 1, on: compute).values }
    expectClose(together, alone, 1e-5, "two views")
  }

  @Test(arguments: [
    ("tiny-llava-next-vicuna", "shapes_640x480.png", 2340), ("tiny-llava-next-vicuna", "wide_1000x200.png", 1598),
    ("tiny-llava-next-vicuna", "gray_300x400.png", 1376), ("tiny-llava-next-vicuna", "tiny_20x30.png", 984),
    ("tiny-llava-next-mistral", "shapes_640x480.png", 2340), ("tiny-llava-next-mistral", "palette_512x256.png", 1752),
  ])
  func `packs the features of several views like the reference`(model: String, image: String, tokenCount: Int) throws {
    let llava = try TestModel(model).model
    let layout = try Self.layout(image, llava)
    let pixels = try Self.pixelValues(image, of: "llava_next")
    let features = llava.imageFeatures(pixels, layout, on: ComputeContext(workers: Workers(count: 2)))
    #expect(features.rows == tokenCount && llava.visualTokenCount(layout) == tokenCount)
    let golden = try Goldens.tensors("features/\(model)/\(image).safetensors")
    try expectClose(features.values, golden.floats("features"), 2e-4, "features")
  }

  @Test func `ends an image in one view with a newline when the model has one`() throws {
    let llava = try TestModel("tiny-llava-next-vicuna").model
    let compute = ComputeContext(workers: Workers(count: 2))
    let pixels = try Self.pixelValues("shapes_640x480.png")
    let features = llava.imageFeatures(pixels, .single, on: compute)
    #expect(features.rows == 577 && llava.visualTokenCount(.single) == 577)
    let newline = try Checkpoint(directory: Goldens.path("models/tiny-llava-next-vicuna"))
      .tensor("image_newline", shape: [64]).floats()
    #expect(features.values == llava.viewFeatures(pixels, views: 1, on: compute).values + newline)
  }

  @Test func `gives the same features and logits for newer tensor names, bit for bit`() throws {
    let pixels = try Self.pixelValues("tiny_20x30.png", of: "llava_next")
    let results = try ["tiny-llava-next-vicuna", "tiny-llava-next-vicuna-newnames"].map { name in
      let llava = try TestModel(name).model
      let compute = ComputeContext(workers: Workers(count: 2))
      let layout = try Self.layout("tiny_20x30.png", llava)
      let features = llava.imageFeatures(pixels, layout, on: compute)
      let bits = features.values.map(\.bitPattern)
      var state = DecoderState(llava.configuration.text)
      var sequence = try llava.languageModel.splice(
        &state.hidden, tokens: [1, llava.configuration.imageTokenID, 300, 301], placeholder: 1200, features: features,
        featureCounts: [llava.visualTokenCount(layout)], limit: 4096)
      _ = llava.languageModel.prefill(&state, KVCache(llava.configuration.text), &sequence, .none, on: compute)
      return bits + llava.languageModel.logits(state, on: compute).map(\.bitPattern)
    }
    #expect(results[0] == results[1])
  }

  /// The views of a golden image.
  static func layout(_ image: String, _ llava: LLaVAModel) throws -> ViewLayout {
    struct Image: Decodable {
      var file: String
      var width: Int
      var height: Int
    }
    let images = try Goldens.json("images/images.json", as: [Image].self)
    let image = try #require(images.first { $0.file == image })
    let rules = try #require(llava.configuration.anyResolution)
    return .tiled(AnyResolutionGeometry(PixelSize(height: image.height, width: image.width), rules).tiles)
  }

  /// The reference's 8-bit pixels of an image, normalized like CLIP's.
  static func pixelValues(_ image: String, of model: String = "llava15") throws -> [Float] {
    let bytes = try Goldens.tensors("preprocess/\(model)/\(image).safetensors").bytes("pixels_u8")
    let mean: [Float] = [0.48145466, 0.4578275, 0.40821073]
    let deviation: [Float] = [0.26862954, 0.26130258, 0.27577711]
    let plane = 336 * 336
    return bytes.indices.map { i in
      let channel = i / plane % 3
      return (Float(bytes[i]) / 255 - mean[channel]) / deviation[channel]
    }
  }
}
