import Kernels
import LLaVA
import TestSupport
import Testing

/// The tower and the projector against the reference's features, from the reference's own pixels on.
@Suite struct GoldenVisionTests {
  @Test(arguments: [
    ("tiny-llava-1.5", "shapes_640x480.png"), ("tiny-llava-1.5", "grace_hopper.jpg"),
    ("tiny-llava-1.5", "rgba_360x360.png"), ("tiny-llava-1.5", "wide_1000x200.png"),
    ("tiny-llava-1.5-bf16", "palette_512x256.png"),
  ])
  func `sees what the reference sees`(model: String, image: String) throws {
    let llava = try TestModel(model).model
    let pixels = try Self.pixelValues(image)
    let compute = Compute(workers: Workers(count: 2))
    let golden = try Goldens.tensors("features/\(model)/\(image).safetensors")

    let features = llava.imageFeatures(pixels, views: 1, on: compute)
    try expectClose(features.values, golden.floats("features"), 2e-4, "features")
    guard golden.names.contains("vision_hidden_0") else { return }
    let embedded = llava.vision.hidden(pixels, views: 1, layers: 0, on: compute)
    try expectClose(embedded.values, golden.floats("vision_hidden_0"), 2e-4, "vision_hidden_0")
    let selected = llava.vision.hidden(pixels, views: 1, layers: .max, on: compute)
    try expectClose(selected.values, golden.floats("vision_hidden_select"), 2e-4, "vision_hidden_select")
  }

  @Test func `encodes several views as it encodes each alone`() throws {
    let llava = try TestModel("tiny-llava-1.5").model
    let compute = Compute(workers: Workers(count: 2))
    let pictures = try ["shapes_640x480.png", "wide_1000x200.png"].map(Self.pixelValues)
    let together = llava.imageFeatures(pictures.flatMap { $0 }, views: 2, on: compute).values
    let alone = pictures.flatMap { llava.imageFeatures($0, views: 1, on: compute).values }
    expectClose(together, alone, 1e-5, "two views")
  }

  /// The reference's 8-bit pixels of a picture, normalised as CLIP does it.
  private static func pixelValues(_ image: String) throws -> [Float] {
    let bytes = try Goldens.tensors("preprocess/llava15/\(image).safetensors").bytes("pixels_u8")
    let mean: [Float] = [0.48145466, 0.4578275, 0.40821073]
    let deviation: [Float] = [0.26862954, 0.26130258, 0.27577711]
    let plane = bytes.count / 3
    return bytes.indices.map { (Float(bytes[$0]) / 255 - mean[$0 / plane]) / deviation[$0 / plane] }
  }
}
