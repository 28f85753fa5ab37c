import Foundation
import Kernels
@testable import ModelFormats
import Storage
import TestSupport
import Testing

/// The sizes and the configuration of split images, as in SmolVLM.
@Suite struct ImageSplittingTests {
  private struct Sizes: Decodable {
    struct Size: Decodable {
      var hw: [Int]
      var side: Int
      var edge: Int
      var resized_hw: [Int]
      var rows: Int
      var columns: Int
      var views: Int
      var visual_tokens: Int
    }

    var sizes: [Size]
  }

  @Test func `300 image sizes are split as by the reference`() throws {
    let golden = try Goldens.json("ops/smolvlm.json", as: Sizes.self)
    #expect(golden.sizes.count == 300)
    for size in golden.sizes {
      let rules = ImageSplitting(longestEdge: size.edge, viewSize: size.side)
      let geometry = rules.geometry(PixelSize(height: size.hw[0], width: size.hw[1]))
      let layout: ViewLayout = size.rows == 0 ? .single : .split(rows: size.rows, columns: size.columns)
      #expect(geometry.layout == layout && layout.viewCount == size.views, "\(size)")
      #expect([geometry.canvas.height, geometry.canvas.width] == size.resized_hw, "\(size)")
      #expect(size.rows * size.columns <= rules.maxTileCount && size.visual_tokens == 64 * size.views, "\(size)")
    }
  }

  @Test(arguments: [1, 2, 3, 5, 8, 12, 16, 17])
  func `a limit of tiles is kept by every size`(limit: Int) {
    var generator = SeededGenerator(UInt64(limit))
    for view in [512, 384, 25] {
      var rules = ImageSplitting(longestEdge: 4 * view, viewSize: view)
      let all = rules
      rules.tileLimit = limit
      for _ in 0..<200 {
        let size = PixelSize(
          height: .random(in: 1...3000, using: &generator), width: .random(in: 1...3000, using: &generator))
        let geometry = rules.geometry(size)
        let tiles = geometry.layout.viewCount - 1
        #expect(tiles <= limit && tiles <= rules.maxTileCount)
        #expect(tiles > 0 || (geometry.canvas.width, geometry.canvas.height) == (view, view))
        if all.geometry(size).layout.viewCount - 1 <= limit { #expect(geometry == all.geometry(size)) }
      }
    }
  }

  // MARK: - Configuration

  private func read(_ text: String) throws -> LLaVAConfiguration {
    let folder = try TemporaryFolder()
    try folder.write("config.json", text)
    return try LLaVAConfiguration(directory: folder.path)
  }

  @Test(arguments: [
    #"{"model_type":"smolvlm"}"#, #"{"architectures":["Idefics3ForConditionalGeneration"]}"#,
    #"{"model_type":"idefics3","text_config":null,"vision_config":null}"#,
  ])
  func `has Idefics3's values for missing keys`(file: String) throws {
    // 7 by 7 patches cannot be joined by twos.
    let error = #expect(throws: CheckpointError.self) { try read(file) }
    guard case .badValue(_, "scale_factor", _, "2") = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    let keys = file.replacing("_config\":null", with: "_config_\":null").dropLast()
    let configuration = try read(keys + #", "scale_factor": 7, "vision_config": {"model_type": "idefics3"}}"#)
    #expect(configuration.imageTokenID == 128_257 && configuration.visionFeatureLayer == -1)
    #expect(configuration.pixelShuffle == 7 && configuration.visualTokensPerView == 1 && configuration.tokenSize == 224)
    #expect(configuration.text.rmsNormEpsilon == 1e-5 && !configuration.tiesWordEmbeddings)
    let vision = try #require(configuration.vision)
    #expect((vision.hiddenSize, vision.layerCount, vision.headCount) == (1152, 12, 16))
    #expect((vision.imageSize, vision.patchSize, vision.intermediateSize) == (224, 32, 3072))
    #expect(vision.activation == .tanhGELU && vision.appliesFinalNorm && !vision.hasClassToken)
  }

  @Test func `reads the tokens of the published sizes`() throws {
    let small = try read(
      #"{"model_type":"smolvlm","scale_factor":4,"text_config":{},"vision_config":{"image_size":512,"patch_size":16}}"#)
    #expect(small.visualTokensPerView == 64)
    #expect(small.text.rmsNormEpsilon == 1e-6)
    let large = try read(
      #"{"model_type":"smolvlm","scale_factor":3,"vision_config":{"image_size":384,"patch_size":14}}"#)
    #expect(large.visualTokensPerView == 81)
  }

  private func read(
    preprocessor: String
  ) throws -> (splitting: ImageSplitting?, preprocessor: PreprocessorConfiguration?) {
    let folder = try TemporaryFolder()
    for name in ["config.json", "model.safetensors"] {
      try FileManager.default.createSymbolicLink(
        at: folder.url.appending(path: name), withDestinationURL: Goldens.url("models/tiny-smolvlm/\(name)"))
    }
    try folder.write("preprocessor_config.json", preprocessor)
    let directory = try ModelDirectory(folder.path)
    return (directory.configuration.imageSplitting, try directory.preprocessor())
  }

  @Test func `reads the image processor`() throws {
    let published = try ModelDirectory(Goldens.path("models/tiny-smolvlm"))
    #expect(published.configuration.imageSplitting == ImageSplitting(longestEdge: 200, viewSize: 50))
    #expect(try published.preprocessor()?.filter == .lanczos)
    let other = try read(
      preprocessor: """
        {"max_image_size": {"longest_edge": 50}, "size": {"longest_edge": 150}, "do_image_splitting": false, "resample": 3}
        """)
    #expect(other.splitting == ImageSplitting(longestEdge: 150, viewSize: 50, splits: false))
    #expect(other.preprocessor?.filter == .bicubic)
  }

  @Test(arguments: [
    (#"{"max_image_size": {"longest_edge": 49}}"#, "max_image_size.longest_edge"),
    ("{}", "max_image_size.longest_edge"),
    (#"{"max_image_size": {"longest_edge": 50}, "size": {"longest_edge": 801}}"#, "size.longest_edge"),
    (#"{"size": {"height": 50, "width": 50}}"#, "size.longest_edge"), (#"{"max_image_size": 50}"#, "max_image_size"),
    (#"{"max_image_size": {"longest_edge": 0}}"#, "max_image_size.longest_edge"),
    (#"{"do_resize": false}"#, "do_resize"), (#"{"resample": 2}"#, "resample"),
    (#"{"image_processor_type": "CLIPImageProcessor"}"#, "image_processor_type"),
  ])
  func `refuses a value and names its key`(file: String, key: String) {
    let error = #expect(throws: CheckpointError.self) { try read(preprocessor: file) }
    guard case .badValue(_, key, _, _) = error else {
      Issue.record("\(file): \(String(describing: error))")
      return
    }
  }
}
