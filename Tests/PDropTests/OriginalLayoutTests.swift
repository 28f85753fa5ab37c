import Foundation
import ImageProcessing
import ModelFormats
import ModelTestSupport
import PDrop
import TestSupport
import Testing
import TokenDropping

/// Directories in the layout of the original LLaVA code, made from golden checkpoints by renaming, against the goldens.
@Suite struct OriginalLayoutTests {
  /// The bits of the features and of the logits after a prompt.
  private func bits(_ model: VisionLanguageModel, _ image: String, _ prompt: String) throws -> [[UInt32]] {
    var request = Request(
      prompt: .rendered(prompt), images: [.file(Goldens.path("images/\(image)"))], policy: PyramidDrop())
    request.options.maxTokens = 1
    request.recordsTensors = true
    let trace = try Trace(of: request, model)
    return try ["features", "last_logits"].map { try trace.tensors.floats($0).map(\.bitPattern) }
  }

  @Test(arguments: [
    ("tiny-llava-1.5", "gray_300x400.png", false), ("tiny-llava-next-vicuna", "gray_300x400.png", true),
    ("tiny-llava-next-mistral", "gray_300x400.png", true),
  ])
  func `gives the logits of the converted checkpoint, bit for bit`(
    golden: String, image: String, visionEncoderInside: Bool
  ) throws {
    let folder = try TemporaryFolder()
    let layout = try OriginalLayout(golden)
    let directory = try layout.write(
      into: folder.url, visionTower: visionEncoderInside ? .inside : .directory("openai/clip-tiny"))
    var options = VisionLanguageModel.Options()
    if visionEncoderInside {
      options.visionTower = folder.path("clip")
      try layout.writeVisionTowerConfiguration(into: folder.url.appending(path: "clip"))
    }
    // The image mode is that of the converted directory, as the configuration sets no aspect ratio or anyres.
    let original = try VisionLanguageModel(directory: directory.path, options: options)
    let converted = try VisionLanguageModel(directory: Goldens.path("models/\(golden)"))
    #expect(original.unusedTensors.isEmpty)
    #expect(original.weightBytes == converted.weightBytes)
    #expect((original.visionTower == nil) == visionEncoderInside)

    let prompt = "USER: <image>\nWhat is this? ASSISTANT:"
    let (own, theirs) = try (original.tokens(of: .rendered(prompt)), converted.tokens(of: .rendered(prompt)))
    #expect(original.imageToken == -200 && own.contains(-200) && !theirs.contains(-200))
    #expect(own.map { $0 == -200 ? converted.imageToken : $0 } == theirs)
    #expect(try original.rendered(.tokens(original.tokens(of: .rendered("a<image>b")))).contains("<image>"))
    #expect(try bits(original, image, prompt) == bits(converted, image, prompt))
  }

  @Test(
    .enabled(if: isOptimized, "slow without optimisation"),
    arguments: [["gray_300x400.png"], ["tiny_20x30.png", "gray_300x400.png"]])
  func `all layouts of LLaVA-OneVision give the same logits, bit for bit`(images: [String]) throws {
    let folder = try TemporaryFolder()
    let layout = try OriginalLayout("tiny-llava-onevision")
    let newer = try layout.writeNewerNames(into: folder.url)
    let original = try layout.write(into: folder.url, visionTower: .inside)
    try layout.writeVisionTowerConfiguration(into: folder.url.appending(path: "siglip-tiny"))
    let results = try [Goldens.url("models/tiny-llava-onevision"), newer, original].map { directory in
      let model = try VisionLanguageModel(directory: directory.path)
      #expect(model.unusedTensors.isEmpty && model.warnings.isEmpty)
      var request = Request(
        prompt: .rendered(String(repeating: "<image>\n", count: images.count) + "What is this?"),
        images: images.map { .file(Goldens.path("images/\($0)")) },
        policy: PyramidDrop(.listed(layers: [6], ratios: [0.5])))
      request.options.maxTokens = 1
      request.recordsTensors = true
      let trace = try Trace(of: request, model)
      return try ["features", "last_logits"].map { try trace.tensors.floats($0).map(\.bitPattern) }
    }
    #expect(results[0] == results[1])
    #expect(results[0] == results[2])
  }

  @Test func `uses the image token of the tokenizer if it has one`() throws {
    let folder = try TemporaryFolder()
    let directory = try OriginalLayout("tiny-llava-1.5").write(into: folder.url, visionTower: .directory("clip-tiny"))
    let added = Goldens.url("models/tiny-llava-1.5/added_tokens.json")
    try FileManager.default.copyItem(at: added, to: directory.appending(path: "added_tokens.json"))
    #expect(try VisionLanguageModel(directory: directory.path).imageToken == 1200)
  }

  @Test(arguments: [("pad", ImageMode.pad), ("square", .crop), (nil, .crop)] as [(String?, ImageMode)])
  func `the aspect ratio in the configuration selects the image mode`(ratio: String?, mode: ImageMode) throws {
    let folder = try TemporaryFolder()
    var layout = try OriginalLayout("tiny-llava-1.5")
    layout.configuration["image_aspect_ratio"] = ratio
    let directory = try layout.write(into: folder.url, visionTower: .directory("clip-tiny"))
    #expect(try VisionLanguageModel(directory: directory.path).preprocessor?.mode == mode)
  }

  @Test func `reads canvases as width and height, and truncates sizes to integers`() throws {
    let folder = try TemporaryFolder()
    let layout = try OriginalLayout("tiny-llava-next-vicuna")
    try layout.writeVisionTowerConfiguration(into: folder.url.appending(path: "clip-tiny"))
    let directory = try layout.write(into: folder.url, visionTower: .inside)
    let rules = try #require(ModelDirectory(directory.path).configuration.anyResolution)
    #expect(rules.sizeRule == .original && rules.merge == .spatialUnpad)
    #expect(rules.canvases.first == PixelSize(height: 672, width: 336))
    // Two canvases fit a small image equally well. The original code takes the upright one, transformers the other.
    #expect(AnyResolutionGeometry(PixelSize(height: 336, width: 336), rules).canvas == rules.canvases[0])
  }

  @Test func `merge type flat concatenates all features of all views`() throws {
    let folder = try TemporaryFolder()
    var layout = try OriginalLayout("tiny-llava-next-vicuna")
    layout.configuration["mm_patch_merge_type"] = "flat"
    try layout.writeVisionTowerConfiguration(into: folder.url.appending(path: "clip-tiny"))
    let model = try VisionLanguageModel(
      directory: layout.write(into: folder.url, visionTower: .inside).path)
    #expect(model.unusedTensors == ["image_newline"])
    var request = Request(
      prompt: .rendered("<image>"), images: [.file(Goldens.path("images/gray_300x400.png"))], policy: NoDropping())
    request.options.maxTokens = 0
    #expect(try Session(model, request, threads: 2).report.sequenceLength == 1 + 3 * 576)
  }
}
