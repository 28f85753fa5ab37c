import Foundation
import ImageProcessing
import LLaVA
import ModelFormats
import ModelTestSupport
@testable import PDrop
import TestSupport
import Testing
import TokenDropping
import Tokenizers
import Verification

/// Sessions of SmolVLM: prompts with tile markers, views, limits of tiles, selections, caches and refusals.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct SmolVLMSessionTests {
  private let images = ["shapes_640x480.png", "wide_1000x200.png"].map { Goldens.path("images/\($0)") }

  private func load(_ change: (inout VisionLanguageModel.Options) -> Void = { _ in }) throws -> VisionLanguageModel {
    try .golden("tiny-smolvlm", change)
  }

  private func request(
    _ images: [Request.Image],
    _ policy: any TokenDroppingPolicy = PyramidDrop(.listed(layers: [2, 4, 6], ratios: [0.5, 0.25, 0.125]))
  ) -> Request {
    var request = Request(question: "What happens?", images: images, policy: policy)
    (request.options.maxTokens, request.options.ignoresEOS) = (8, true)
    return request
  }

  private struct Prompts: Decodable {
    struct Size: Decodable {
      var rows: Int
      var columns: Int
      var tokens: Int
      var visual_tokens: Int
    }

    struct Views: Decodable {
      var image: String
      var side: Int
      var views: Int
      var u8_sha256: String
    }

    var sizes: [Size]
    var prompts: [String: [Int]]
    var large: [Views]
  }

  @Test func `prompts of 300 image sizes have the tokens of the reference`() throws {
    let golden = try Goldens.json("ops/smolvlm.json", as: Prompts.self)
    let model = try load()
    #expect(golden.prompts.count >= 12)
    for size in golden.sizes {
      let layout: ViewLayout = size.rows == 0 ? .single : .split(rows: size.rows, columns: size.columns)
      let tokens = model.markingTiles([model.imageToken], [layout])
      #expect(tokens == golden.prompts["\(size.rows)x\(size.columns)"], "\(size)")
      // 64 tokens for each view in place of one.
      #expect(tokens.count + 63 * layout.viewCount == size.tokens, "\(size)")
    }
  }

  @Test func `views of the published sizes equal those of the reference`() throws {
    for views in try Goldens.json("ops/smolvlm.json", as: Prompts.self).large {
      var configuration = PreprocessorConfiguration(for: .smolVLM512)
      configuration.resizesTo = .longestEdge(4 * views.side)
      let rules = ImageSplitting(longestEdge: 4 * views.side, viewSize: views.side)
      let image = try ImageDecoder().decode(contentsOfFile: Goldens.path("images/\(views.image)"))
      let found = SplitPreprocessor(configuration, rules)(image)
      #expect(found.count == views.views && found.size == views.side)
      #expect(sha256(found.pixels) == views.u8_sha256, "\(views.image)")
    }
  }

  @Test(arguments: ["text_only", "wide_1000x200", "shapes_640x480", "tiny_20x30", "two_images"])
  func `logits are within 5e-5 of the reference`(name: String) throws {
    let (golden, tensors) = try GoldenCase.load("tiny-smolvlm", name)
    let model = try load()
    for run in golden.runs {
      let trace = try Trace(of: golden, run, model)
      #expect(trace.report.promptTokens == golden.promptIDs && trace.report.tokens == run.tokens)
      for logits in ["last_logits", "final_logits"] {
        try expectClose(
          trace.tensors.floats(logits), tensors.floats("\(run.name)/\(logits)"), 5e-5, "\(name)/\(run.name) \(logits)")
      }
    }
  }

  @Test func `renders the prompt of its chat template, and ends at its token`() throws {
    let model = try load()
    let asked = request([.file(images[1])])
    #expect(
      try model.rendered(asked.prompt) == "<|im_start|>User:<image>What happens?<end_of_utterance>\nAssistant:")
    #expect(model.eosTokens == Set(model.tokenizer.encode("<end_of_utterance>").map(Int.init)))
    let report = try model.report(asked)
    #expect(report.imageSpans.count == 5 && report.imageSpans.allSatisfy { $0[1] == 9 })
    #expect(report.visualTokensPerStage == [45, 22, 11, 5])
    #expect(report.sequenceLength == report.promptTokens.count + 5 * 8)
    #expect(try model.rendered(request([]).prompt) == "<|im_start|>User: What happens?<end_of_utterance>\nAssistant:")
  }

  @Test func `Idefics3 is the same model under another name`() throws {
    let changed = try ChangedModel("tiny-smolvlm", case: "wide_1000x200")
    try changed.changeJSON("tiny-smolvlm/config.json") { file in
      file["model_type"] = "idefics3"
      file["architectures"] = ["Idefics3ForConditionalGeneration"]
    }
    try changed.changeJSON("tiny-smolvlm/preprocessor_config.json") {
      $0["image_processor_type"] = "Idefics3ImageProcessor"
    }
    let result = try changed.report(on: "wide_1000x200")
    #expect(result.agrees, "\(String(describing: result.departure))")
  }

  @Test func `ties the head to the embedding as the file says`() throws {
    let changed = try ChangedModel("tiny-smolvlm", case: "text_only")
    try changed.changeJSON("tiny-smolvlm/config.json") { file in
      var text = file["text_config"] as? [String: Any] ?? [:]
      text["tie_word_embeddings"] = true
      file["text_config"] = text
    }
    let model = try VisionLanguageModel(directory: changed.directory)
    #expect(model.unusedTensors == ["language_model.lm_head.weight"])
    #expect(try model.report(request([])).tokens != load().report(request([])).tokens)
  }

  @Test func `a missing tensor is named as in the file`() throws {
    let changed = try ChangedModel("tiny-smolvlm", case: "text_only")
    let path = "tiny-smolvlm/model.safetensors"
    let name = "modality_projection"
    var bytes = try changed.bytes(path)
    let place = try #require(bytes.firstRange(of: Array(name.utf8)))
    bytes[place.lowerBound] = UInt8(ascii: "x")
    try changed.write(path, bytes)
    let error = #expect(throws: ModelError.self) { try VisionLanguageModel(directory: changed.directory) }
    #expect(error?.problem.contains("model.connector.modality_projection.proj.weight") == true)
  }

  @Test func `a limit of tiles gives fewer views`() throws {
    // 4 x 3 tiles of 50 pixels at 200 pixels, 3 x 3 at 150, 2 x 2 at 100.
    for (limit, views) in [(16, 13), (12, 13), (11, 10), (9, 10), (8, 5), (4, 5), (3, 1), (1, 1)] {
      let model = try load { $0.maxTiles = limit }
      #expect(model.preprocessor?.tileLimit == limit)
      let found = try model.report(request([.file(images[0])], NoDropping())).visualTokensPerStage
      #expect(found[0] == 9 * views, "\(limit): \(found)")
    }
    let error = #expect(throws: ModelError.self) { try load { $0.maxTiles = 0 } }
    #expect(error?.problem.contains("at most 0 tiles of an image: the model needs at least 1") == true)
  }

  @Test(arguments: [ImageMode.pad, .crop])
  func `refuses image modes of one view`(mode: ImageMode) throws {
    let error = #expect(throws: ModelError.self) { try load { $0.imageMode = mode } }
    #expect(error?.problem.contains("models of type smolvlm split images") == true)
  }

  @Test func `refuses videos`() throws {
    let error = #expect(throws: RequestError.self) { try load().report(request([.videoFrames(images)])) }
    #expect(error?.problem.contains("takes no videos: expected a LLaVA-OneVision model, found \"smolvlm\"") == true)
  }

  @Test(arguments: [Preselection.Method.divPrune, .cdPruner], [Preselection.Budget.image, .view])
  func `selects tokens of all views`(method: Preselection.Method, budget: Preselection.Budget) throws {
    let model = try load()
    for count in [1, 20, 45] {
      let selection = Preselection(method, .tokens(count), budget: budget)
      for policy in [
        Preselected(selection, then: NoDropping()),
        Preselected(selection, then: PyramidDrop(.listed(layers: [2], ratios: [0.5]))),
      ] {
        let report = try model.report(request([.file(images[1])], policy))
        #expect(report.visualTokensPerStage[0] == count)
        #expect(report.sequenceLength == report.promptTokens.count - 5 + count)
      }
    }
  }

  @Test func `refuses selections that need a class token or patches`() throws {
    let model = try load()
    for (method, words) in [
      (Preselection.Method.classAttention, "a class token"), (.scope(), "a class token"),
      (.localGlobal, "a class token"),
      (.tops(), "a class token"), (.mmTok, "the features of single patches"),
    ] {
      let policy = Preselected(Preselection(method, .tokens(20)), then: NoDropping())
      let error = #expect(throws: RequestError.self) { try model.report(request([.file(images[0])], policy)) }
      #expect(error?.problem.contains(words) == true, "\(String(describing: error))")
    }
  }

  @Test func `all rankings drop tokens of several spans`() throws {
    let model = try load()
    for ranking in [
      Ranking.attention, .attentionWithoutRotation, .attentionDebiased, .valueWeighted, .keyNorm, .textRaters, .uniform,
      .random(seed: 1),
    ] {
      for choice in [ChoiceRule.top, .coverage()] {
        let policy = PyramidDrop(.listed(layers: [2, 4], ratios: [0.5, 0.1]), ranking: ranking, choice: choice)
        let report = try model.report(request(images.map { .file($0) }, policy))
        #expect(report.stages.map { $0.images.map(\.kept.count) } == [[58, 22], [11, 4]], "\(ranking)")
      }
    }
  }

  @Test func `caches give the same answers`() throws {
    let folder = try TemporaryFolder()
    let plain = try load { $0.precision = .int8 }
    for _ in 0..<2 {
      let model = try load {
        $0.precision = .int8
        $0.featureCache = FeatureCacheOptions(directory: folder.path("features"))
        $0.promptCache = PromptCacheOptions(directory: folder.path("prompts"))
      }
      for question in ["What happens?", "Which colour is the circle at the left side?"] {
        for policy in [
          PyramidDrop(.listed(layers: [2], ratios: [0.3])) as any TokenDroppingPolicy, NoDropping(),
          Preselected(Preselection(.divPrune, .tokens(20)), then: NoDropping()),
        ] {
          var asked = request(images.map { .file($0) }, policy)
          asked.prompt = Request(question: question, images: asked.images).prompt
          let (cached, computed) = (try model.report(asked), try plain.report(asked))
          #expect(cached.tokens == computed.tokens && cached.imageSpans == computed.imageSpans)
          #expect(cached.promptTokens == computed.promptTokens && cached.flops == computed.flops)
        }
      }
      #expect(model.featureCacheStatistics?.damaged == 0 && model.promptCacheStatistics?.damaged == 0)
    }
  }

  @Test func `kept maps place tiles and the whole image`() throws {
    let model = try load()
    var asked = request([.file(images[0])])
    asked.recordsTensors = true
    let map = try Session(model, asked, threads: 1).keptMaps[0]
    #expect(map.regions.map(\.name) == ["whole image", "tiles"])
    #expect((map.regions[1].rows, map.regions[1].columns, map.regions[1].patchSize) == (9, 12, 16))
    #expect((map.regions[0].rows, map.regions[0].columns) == (3, 3))
    #expect(
      map.newlines.isEmpty && map.places.count == 117
        && Set(map.places.map { "\(String(describing: $0))" }).count == 117)
    #expect(map.places[9] == .some(KeptMap.Place(region: 1, row: 0, column: 3)))
    #expect(map.places[116] == .some(KeptMap.Place(region: 0, row: 2, column: 2)))
    #expect(map.stages.map(\.keptCount) == [58, 29, 14])
  }

  @Test(arguments: [ModelPreset.smolVLM256M, .smolVLM500M])
  func `presets have the tokens of the published models`(preset: ModelPreset) {
    let configuration = preset.configuration
    let layout = configuration.imageSplitting?.geometry(PixelSize(height: 480, width: 640)).layout
    #expect(layout == .split(rows: 3, columns: 4))
    #expect(layout.map(configuration.visualTokenCount) == 13 * 64)
  }
}
