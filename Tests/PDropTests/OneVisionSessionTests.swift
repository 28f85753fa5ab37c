import Foundation
import ImageProcessing
import LLaVA
import ModelFormats
import ModelTestSupport
@testable import PDrop
import TestSupport
import Testing
import TokenDropping

/// Sessions of LLaVA-OneVision: videos, several images, limits of tiles, selections and caches.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct OneVisionSessionTests {
  private let images = ["shapes_640x480.png", "wide_1000x200.png", "gray_300x400.png"]
    .map { Goldens.path("images/\($0)") }

  private func load(_ change: (inout VisionLanguageModel.Options) -> Void = { _ in }) throws -> VisionLanguageModel {
    try .golden("tiny-llava-onevision", change)
  }

  private func request(
    _ images: [Request.Image],
    _ policy: any TokenDroppingPolicy = PyramidDrop(.listed(layers: [3, 6, 9], ratios: [0.5, 0.25, 0.125]))
  ) -> Request {
    var request = Request(question: "What happens?", images: images, policy: policy)
    (request.options.maxTokens, request.options.ignoresEOS) = (8, true)
    return request
  }

  @Test func `answers a question about a video like the reference`() throws {
    let model = try load()
    let golden = try Goldens.tensors("features/tiny-llava-onevision/video.safetensors")
    let asked = request([.videoFrames(images)])
    let report = try model.report(asked)
    #expect(report.visualTokensPerStage == [28, 14, 7, 3])
    #expect(try report.tokens == golden.integers("tokens"))
    let logits = try Session(model, asked, threads: 2).logits
    try expectClose(logits, golden.floats("last_logits"), 3e-3, "logits")
    // The same frames, encoded before.
    let encoded = try model.encode(.videoFrames(images), threads: 1)
    #expect(encoded.tokenCount == 28 && encoded.viewCount == 3)
    #expect(try model.report(request([.features(encoded)])).tokens == report.tokens)
    #expect(model.template.name == "chat_template.json")
    #expect(try model.rendered(asked.prompt).contains("<video>\nWhat happens?"))
  }

  @Test func `videos and images follow the order of their tokens in the prompt`() throws {
    let model = try load()
    let mixed: [Request.Image] = [.file(images[0]), .videoFrames(Array(images[1...]))]
    // The template writes images first. Videos do not count, so the image keeps its tiles.
    #expect(try model.report(request(mixed)).imageSpans.map { $0[1] } == [351, 19])
    var videoFirst = request(mixed)
    videoFirst.prompt = .rendered("<video> <image> What happens?")
    #expect(try model.report(videoFirst).imageSpans.map { $0[1] } == [19, 351])
    // Without a video token, image tokens are for both in order, as in other layouts.
    videoFirst.prompt = .rendered("<image> <image> a")
    #expect(try model.report(videoFirst).imageSpans.map { $0[1] } == [351, 19])
    for (prompt, words) in [
      ("<video> a", "1 image(s) given"), ("<video> <video> <image> a", "1 video(s) given, but the prompt has 2"),
      ("<image> a", "2 image(s)"),
    ] {
      videoFirst.prompt = .rendered(prompt)
      let error = #expect(throws: RequestError.self) { try model.report(videoFirst) }
      #expect(error?.problem.contains(words) == true, "\(prompt): \(String(describing: error))")
    }
  }

  @Test(arguments: [ImageMode.pad, .crop])
  func `one-view image modes take videos too, and refuse limits of tiles`(mode: ImageMode) throws {
    let model = try load { $0.imageMode = mode }
    #expect(try model.report(request([.videoFrames(images)])).visualTokensPerStage[0] == 28)
    #expect(try model.report(request([.file(images[0])])).visualTokensPerStage[0] == 37)
    let error = #expect(throws: ModelError.self) {
      try load {
        $0.imageMode = mode
        $0.maxTiles = 4
      }
    }
    #expect(error?.problem.contains("image mode \(mode.rawValue) has one view per image") == true)
  }

  @Test func `a video needs frames, also before a session`() throws {
    let model = try load()
    for run in [
      { _ = try model.encode(.videoFrames([]), threads: 1) }, { _ = try model.report(request([.videoFrames([])])) },
    ] {
      let error = #expect(throws: RequestError.self) { try run() }
      #expect(error?.problem == "the video has no frames; expected at least one image file")
    }
    let other = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    #expect(throws: RequestError.self) { try other.encode(.videoFrames(images), threads: 1) }
  }

  @Test func `models without a video token take <video> in a question`() throws {
    let folder = try TemporaryFolder()
    let layout = try OriginalLayout("tiny-llava-onevision")
    try layout.writeVisionTowerConfiguration(into: folder.url.appending(path: "siglip-tiny"))
    let model = try VisionLanguageModel(directory: layout.write(into: folder.url, visionTower: .inside).path)
    let asked = Request(question: "See <video> here", images: [.videoFrames(images)], policy: NoDropping())
    #expect(try model.rendered(asked.prompt).contains("See <image> here"))
    #expect(try Session(model, asked, threads: 1).report.visualTokensPerStage == [28])
  }

  @Test func `merge type flat takes no videos`() throws {
    let folder = try TemporaryFolder()
    var layout = try OriginalLayout("tiny-llava-onevision")
    layout.configuration["mm_patch_merge_type"] = "flat"
    try layout.writeVisionTowerConfiguration(into: folder.url.appending(path: "siglip-tiny"))
    let model = try VisionLanguageModel(directory: layout.write(into: folder.url, visionTower: .inside).path)
    #expect(throws: RequestError.self) { try model.report(request([.videoFrames(images)])) }
    #expect(try model.report(request([.file(images[0])], NoDropping())).visualTokensPerStage == [36 * 31])
  }

  @Test func `other models refuse videos`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    let error = #expect(throws: RequestError.self) { try model.report(request([.videoFrames(images)])) }
    #expect(error?.problem.contains("takes no videos: expected a LLaVA-OneVision model, found \"llava\"") == true)
  }

  @Test func `a limit of tiles gives fewer tokens, and has to leave a canvas`() throws {
    let all = try load().report(request([.file(images[0])])).visualTokensPerStage[0]
    let few = try load({ $0.maxTiles = 2 }).report(request([.file(images[0])])).visualTokensPerStage[0]
    // 90 x 180 pixels: 6 rows of 8 features after unpadding, and newlines.
    #expect(all == 351 && few == 36 + 6 * 9)
    let model = try load { $0.maxTiles = 1 }
    #expect(model.preprocessor?.tileLimit == 1)
    let error = #expect(throws: ModelError.self) { try load { $0.maxTiles = 0 } }
    #expect(error?.problem.contains("at most 0 tiles of an image: the model needs at least 1") == true)
    #expect(throws: ModelError.self) {
      var options = VisionLanguageModel.Options()
      options.maxTiles = 3
      _ = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"), options: options)
    }
  }

  @Test func `an image that is encoded before has tiles, or one view as one of several`() throws {
    let model = try load()
    let alone = try model.encode(.file(images[0]), threads: 1)
    let several = try model.encode(.file(images[0]), isOneOfSeveral: true, threads: 1)
    #expect((alone.tokenCount, several.tokenCount) == (351, 37))
    let files: [Request.Image] = [.file(images[0]), .file(images[2])]
    let other = try model.encode(.file(images[2]), isOneOfSeveral: true, threads: 1)
    let encoded: [Request.Image] = [.features(several), .features(other)]
    #expect(try model.report(request(files)).tokens == model.report(request(encoded)).tokens)
  }

  @Test func `the feature cache tells a single image from one of several`() throws {
    let folder = try TemporaryFolder()
    let model = try load { $0.featureCache = FeatureCacheOptions(directory: folder.path("cache")) }
    let plain = try load()
    for _ in 0..<2 {
      for images in [[images[0]], [images[0], images[2]]] {
        let asked = request(images.map { .file($0) })
        let (cached, computed) = (try model.report(asked), try plain.report(asked))
        #expect(cached.tokens == computed.tokens && cached.imageSpans == computed.imageSpans)
        #expect(cached.flops == computed.flops)
      }
    }
    #expect(model.featureCacheStatistics?.written == 3)
    #expect(model.featureCacheStatistics?.damaged == 0)
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path("cache"))
    #expect(names.count { $0.contains("-several-") } == 2)
  }

  @Test(arguments: [Preselection.Method.divPrune, .mmTok, .cdPruner])
  func `selects from a reduced map and from a video`(method: Preselection.Method) throws {
    let model = try load()
    for (image, budget) in [
      (Request.Image.file(images[0]), Preselection.Budget.view), (.file(images[0]), .image),
      (.videoFrames(images), .view),
    ] {
      for count in [1, 2, 20] {
        let selection = Preselection(method, .tokens(count), budget: budget)
        let report = try model.report(request([image], Preselected(selection, then: NoDropping())))
        #expect(report.visualTokensPerStage == [count])
        #expect(report.sequenceLength == report.promptTokens.count + count - 1)
      }
    }
  }

  @Test(arguments: [Preselection.Method.classAttention, .scope(), .localGlobal, .tops()])
  func `refuses selections that need a class token`(method: Preselection.Method) throws {
    let model = try load()
    let policy = Preselected(Preselection(method, .tokens(20)), then: NoDropping())
    let error = #expect(throws: RequestError.self) { try model.report(request([.file(images[0])], policy)) }
    #expect(error?.problem.contains("use divprune, mmtok or cdpruner") == true)
  }

  @Test func `a model of class llava with SigLIP has the features of the reference`() throws {
    let changed = try ChangedModel("tiny-llava-onevision", case: "tiny_20x30")
    try changed.changeJSON("tiny-llava-onevision/config.json") { file in
      file["model_type"] = "llava"
      file["architectures"] = ["LlavaForConditionalGeneration"]
    }
    try changed.changeJSON("tiny-llava-onevision/preprocessor_config.json") { file in
      file["image_processor_type"] = "SiglipImageProcessor"
      file["do_pad"] = nil
      file["image_grid_pinpoints"] = nil
    }
    let model = try VisionLanguageModel(directory: changed.directory)
    #expect(model.unusedTensors == ["image_newline"])
    var asked = request([.file(images[1])])
    asked.recordsTensors = true
    let trace = try Trace(of: asked, model)
    let golden = try Goldens.tensors("features/tiny-llava-onevision/interleave.safetensors")
    try expectClose(trace.tensors.floats("features"), golden.floats("features"), 2e-4, "features")
    #expect(trace.report.visualTokensPerStage == [36, 18, 9, 4])
  }

  @Test func `kept maps place the tokens of reduced maps and of frames`() throws {
    let model = try load()
    var asked = request([.file(images[0])])
    asked.recordsTensors = true
    let image = try Session(model, asked, threads: 1).keptMaps[0]
    #expect(image.regions.map(\.name) == ["whole image", "tiles"])
    #expect((image.regions[1].rows, image.regions[1].columns) == (15, 20))
    #expect(image.regions[1].image.height == 15 * image.regions[1].patchSize)
    #expect(image.newlines.count == 15 && image.places.allSatisfy { $0 != nil })
    #expect(image.places.last == .some(KeptMap.Place(region: 1, row: 14, column: 20)))
    asked = request([.videoFrames(images)])
    asked.recordsTensors = true
    let video = try Session(model, asked, threads: 1).keptMaps[0]
    #expect(video.regions.map(\.name) == ["frame 1", "frame 2", "frame 3"] && video.newlines == [27])
    #expect(video.places[9] == .some(KeptMap.Place(region: 1, row: 0, column: 0)))
  }

  /// One canvas of 40 tiles, in which the image is a strip two patches wide, and a limit of one view.
  @Test func `a strip whose map is reduced to no column shows the whole image alone`() throws {
    let folder = try TemporaryFolder()
    var layout = try OriginalLayout("tiny-llava-onevision")
    layout.configuration["image_aspect_ratio"] = "anyres_max_1"
    layout.configuration["image_grid_pinpoints"] = [[90, 40 * 90]]
    try layout.writeVisionTowerConfiguration(into: folder.url.appending(path: "siglip-tiny"))
    let model = try VisionLanguageModel(directory: layout.write(into: folder.url, visionTower: .inside).path)
    let strip = try Image(width: 1, height: 200, pixels: [UInt8](repeating: 90, count: 600))
    var asked = request([.decoded(strip)])
    asked.recordsTensors = true
    let map = try Session(model, asked, threads: 1).keptMaps[0]
    #expect(map.regions.map(\.name) == ["whole image"])
    #expect(map.places.count > 36 && map.places.prefix(36).allSatisfy { $0 != nil })
  }
}
