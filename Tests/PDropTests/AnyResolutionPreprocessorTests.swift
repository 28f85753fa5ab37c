import Foundation
import ImageProcessing
import ModelFormats
import ModelTestSupport
import PDrop
import TestSupport
import Testing

@Suite struct AnyResolutionPreprocessorTests {
  struct Reference: Decodable, CustomTestStringConvertible {
    var image: String
    var pixelValuesShape: [Int]
    var u8SHA256: String
    var meanPerCrop: [Double]
    var numImageTokens: Int
    var testDescription: String { image }

    enum CodingKeys: String, CodingKey {
      case image
      case pixelValuesShape = "pixel_values_shape"
      case u8SHA256 = "u8_sha256"
      case meanPerCrop = "mean_per_crop"
      case numImageTokens = "num_image_tokens"
    }
  }

  private struct References: Decodable { var images: [Reference] }

  /// The references, without the 16-bit image, which Pillow clips to white.
  static let references = ((try? Goldens.json("preprocess/llava_next.json", as: References.self))?.images ?? [])
    .filter { !$0.image.hasPrefix("gray16") }

  private static let rules = AnyResolution(
    pinpoints: [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)], viewSize: 336, patchesPerSide: 24,
    sizeRule: .huggingFace)

  private func decoded(_ image: String) throws -> Image {
    try ImageDecoder().decode(contentsOfFile: Goldens.path("images/\(image)"))
  }

  @Test func `there are ten references`() { #expect(Self.references.count == 10) }

  @Test(arguments: references)
  func `cuts images into the views of Hugging Face's processor`(reference: Reference) throws {
    let views = try AnyResolutionPreprocessor(PreprocessorConfiguration(), Self.rules)(decoded(reference.image))
    #expect([views.count, 3, views.size, views.size] == reference.pixelValuesShape)
    #expect(sha256(views.pixels) == reference.u8SHA256)
    #expect(576 + (views.layout.tiles?.tokenCount ?? 0) == reference.numImageTokens)
    let values = views.pixelValues
    for (view, mean) in reference.meanPerCrop.enumerated() {
      let crop = values[view * 3 * 336 * 336..<(view + 1) * 3 * 336 * 336]
      #expect(abs(crop.reduce(0.0) { $0 + Double($1) } / Double(crop.count) - mean) < 1e-5, "view \(view)")
    }
    // Checksums are stored for every image, tensors for some.
    let file = "preprocess/llava_next/\(reference.image).safetensors"
    guard FileManager.default.fileExists(atPath: Goldens.path(file)) else { return }
    let pixels = try Goldens.tensors(file).bytes("pixels_u8")
    #expect(views.pixels == pixels)
    let (mean, deviation): ([Float], [Float]) = (
      [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    )
    let expected = pixels.enumerated().map { i, sample in
      (Float(sample) * Float(1.0 / 255) - mean[i / (336 * 336) % 3]) / deviation[i / (336 * 336) % 3]
    }
    expectClose(values, expected, 1e-6, "pixel_values")
  }

  @Test(arguments: [(1, 1), (1, 300), (1, 30_000), (30_000, 1), (337, 335)])
  func `accepts any aspect ratio`(width: Int, height: Int) throws {
    let image = try Image(width: width, height: height, pixels: [UInt8](repeating: 200, count: width * height * 3))
    let views = try AnyResolutionPreprocessor(PreprocessorConfiguration(), Self.rules)(image)
    let base = views.pixels[..<(3 * 336 * 336)]
    #expect(base.allSatisfy { $0 == 200 })
    #expect(views.pixels.dropFirst(base.count).allSatisfy { $0 == 200 || $0 == 0 })
    #expect(views.count == 1 + (views.layout.tiles?.tileCount ?? 0))
  }

  @Test func `refuses a preprocessor configuration with other views or canvases than the model`() {
    func refused(_ key: String, _ change: (inout PreprocessorConfiguration) -> Void) {
      var configuration = PreprocessorConfiguration()
      change(&configuration)
      let error = #expect(throws: PreprocessorConfigurationError.self) {
        try AnyResolutionPreprocessor(configuration, Self.rules)
      }
      guard case .invalidValue(key, _, _) = error else {
        Issue.record("\(key): \(String(describing: error))")
        return
      }
    }
    refused("crop_size") { $0.cropSize = .init(height: 224, width: 224) }
    refused("size") { $0.resizesTo = .shortestEdge(224) }
    refused("size") { $0.resizesTo = .exact(.init(height: 336, width: 224)) }
    refused("image_grid_pinpoints") { $0.gridPinpoints = [.init(height: 672, width: 336)] }
  }

  // MARK: - Whole models

  @Test(arguments: [("tiny-llava-1.5", ImageMode.crop), ("tiny-llava-next-vicuna", .anyres)])
  func `the type of the model selects the image mode`(name: String, mode: ImageMode) throws {
    #expect(try VisionLanguageModel(directory: Goldens.path("models/\(name)")).preprocessor?.mode == mode)
  }

  @Test func `refuses several views for a model with one view`() {
    var options = VisionLanguageModel.Options()
    options.imageMode = .anyres
    let error = #expect(throws: ModelError.self) {
      try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"), options: options)
    }
    #expect(error?.underlying is ImageModeError)
  }

  @Test(arguments: [ImageMode.pad, .crop])
  func `a LLaVA-NeXT image of one view has its features and a newline token`(mode: ImageMode) throws {
    var options = VisionLanguageModel.Options()
    options.imageMode = mode
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-next-vicuna"), options: options)
    let report = try trace(["gray_300x400.png"], model).report
    #expect(report.imageSpans.map { $0[1] } == [577])
  }

  @Test func `images of different shapes in one prompt have different numbers of tokens`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-next-vicuna"))
    let images = ["tiny_20x30.png", "wide_1000x200.png"]
    let trace = try trace(images, model)
    #expect(trace.report.imageSpans.map { $0[1] } == [984, 1598])
    #expect(try trace.tensors.shape("pixels_u8") == [7, 3, 336, 336])
    let features = try images.flatMap {
      try Goldens.tensors("features/tiny-llava-next-vicuna/\($0).safetensors").floats("features")
    }
    try expectClose(trace.tensors.floats("features"), features, 2e-4, "features")
    #expect(trace.report.stages[0].images.map(\.kept.count) == [492, 799])
  }

  /// The trace of one generated token after a prompt with images.
  private func trace(_ images: [String], _ model: VisionLanguageModel) throws -> Trace {
    var options = GenerationOptions()
    options.maxTokens = 1
    options.ignoresEOS = true
    var request = Request(
      prompt: .rendered("USER: \(images.map { _ in "<image>\n" }.joined())What is it? ASSISTANT:"),
      images: images.map { .file(Goldens.path("images/\($0)")) }, options: options)
    request.recordsTensors = true
    return try Trace(of: request, model)
  }
}
