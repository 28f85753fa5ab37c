import Foundation
import ModelFormats
import Storage
import TestSupport
import Testing

/// The choice of the vision encoder of an original checkpoint.
@Suite struct VisionTowerTests {
  private let layout: OriginalLayout
  private let folder: URL

  init() throws {
    layout = try OriginalLayout("tiny-llava-1.5")
    folder = FileManager.default.temporaryDirectory.appending(path: "vision-tower-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }

  private func visionWeights(
    _ place: OriginalLayout.VisionTower, given: String? = nil, _ change: (inout [String: Any]) -> Void = { _ in }
  ) throws -> VisionTower {
    defer { try? FileManager.default.removeItem(at: folder) }
    var layout = layout
    change(&layout.configuration)
    let model = try layout.write(into: folder, visionTower: place)
    return try ModelDirectory(model.path, visionTower: given.map { folder.appending(path: $0).path }).visionTower
  }

  @Test(arguments: ["openai/clip-tiny", "clip-tiny", "model/openai/clip-tiny", "model/clip-tiny", "model/vision_tower"])
  func `finds the named CLIP directory in the model's directory or next to it`(place: String) throws {
    let visionTower = try visionWeights(.directory(place))
    #expect(visionTower.checkpoint != nil && visionTower.configuration.headCount == 2)
    #expect(
      visionTower.directory.map { URL(filePath: $0).standardizedFileURL.path } == folder.appending(path: place).path)
  }

  @Test(arguments: [
    "/home/trainer/ckpt/clip-tiny", "/ckpt/clip-tiny/", "/", #"C:\models\clip-tiny"#,
    "/root/.cache/huggingface/hub/models--openai--clip-tiny/snapshots/ce19dc",
  ])
  func `finds the directory by the last part of an absolute path of another machine`(path: String) throws {
    let place = path == "/" ? "model/vision_tower" : "clip-tiny"
    let visionTower = try visionWeights(.directory(place)) { $0["mm_vision_tower"] = path }
    #expect(visionTower.checkpoint != nil)
  }

  @Test func `finds the directory next to a link to the model, and next to the model itself`() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let manager = FileManager.default
    for (place, link) in [("links/clip-tiny", "links/one"), ("clip-tiny", "links/two")] {
      let model = try layout.write(into: folder, visionTower: .directory(place))
      try manager.createSymbolicLink(at: folder.appending(path: link), withDestinationURL: model)
      #expect(try ModelDirectory(folder.appending(path: link).path).visionTower.checkpoint != nil)
      try manager.removeItem(at: folder.appending(path: place))
      try manager.removeItem(at: model)
    }
  }

  @Test func `finds the directory in the cache of the hub`() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let model = try layout.write(into: folder, visionTower: .directory("hub/models--openai--clip-tiny/snapshots/b"))
    let snapshot = folder.appending(path: "hub/models--org--llava/snapshots/a")
    try FileManager.default.createDirectory(
      at: snapshot.deletingLastPathComponent(), withIntermediateDirectories: true)
    try FileManager.default.moveItem(at: model, to: snapshot)
    #expect(try ModelDirectory(snapshot.path).visionTower.checkpoint != nil)
  }

  @Test func `prefers architectures to the model type`() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    for (name, kind) in [("LlavaLlamaForCausalLM", LanguageModelFamily.llama), ("LlavaMistralForCausalLM", .mistral)] {
      var layout = layout
      layout.configuration["architectures"] = [name]
      layout.configuration["num_key_value_heads"] = 4
      let model = try layout.write(into: folder, visionTower: .directory("clip-tiny"))
      let configuration = try ModelDirectory(model.path).configuration
      #expect(configuration.text.kind == kind && configuration.architectures == [name])
      try FileManager.default.removeItem(at: folder)
    }
  }

  @Test func `uses the given directory`() throws {
    #expect(try visionWeights(.directory("elsewhere"), given: "elsewhere").checkpoint != nil)
  }

  @Test func `lists the searched paths if there is no vision encoder`() throws {
    let error = #expect(throws: CheckpointError.self) { try visionWeights(.directory("elsewhere")) }
    guard case .missingVisionTower(_, "openai/clip-tiny", let looked) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(looked.count == 7)
    #expect(error?.remedies == [.visionTower])
  }

  @Test func `refuses a given directory without a configuration or with another model type`() throws {
    let missing = #expect(throws: CheckpointError.self) { try visionWeights(.inside, given: "none") }
    #expect(missing == .file(.notFound(path: folder.appending(path: "none/config.json").path)))
    let other = folder.appending(path: "other")
    try FileManager.default.createDirectory(at: other, withIntermediateDirectories: true)
    try Data(#"{"model_type":"siglip2"}"#.utf8).write(to: other.appending(path: "config.json"))
    let error = #expect(throws: CheckpointError.self) { try visionWeights(.inside, given: "other") }
    guard case .badValue(_, "model_type", _, "\"siglip2\"") = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func `refuses stock CLIP if the vision encoder was trained`() throws {
    let error = #expect(throws: CheckpointError.self) {
      try visionWeights(.directory("clip-tiny")) { $0["unfreeze_mm_vision_tower"] = true }
    }
    guard case .missingTrainedVisionTower = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  /// Whether the vision encoder was trained, whether a CLIP directory is given, and whether its weights are used.
  @Test(
    arguments: [
      (true, true, false), (true, false, false), (nil, false, false), (nil, true, true), (false, true, true),
      (false, false, true),
    ] as [(Bool?, Bool, Bool)])
  func `chooses between the checkpoint's vision encoder and a CLIP directory`(
    trained: Bool?, given: Bool, usesDirectory: Bool
  ) throws {
    // A CLIP directory with weights next to a model that contains its vision encoder.
    _ = try layout.write(into: folder, visionTower: .directory("clip-tiny"))
    try FileManager.default.removeItem(at: folder.appending(path: "model"))
    let visionTower = try visionWeights(.inside, given: given ? "clip-tiny" : nil) {
      $0["unfreeze_mm_vision_tower"] = trained
    }
    #expect((visionTower.checkpoint != nil) == usesDirectory)
    #expect(visionTower.directory != nil)
  }

  @Test func `uses only the configuration of a directory if the weights are in the checkpoint`() throws {
    try layout.writeVisionTowerConfiguration(into: folder.appending(path: "clip-tiny"))
    let visionTower = try visionWeights(.inside)
    #expect(visionTower.checkpoint == nil && visionTower.configuration.hiddenSize == 32)
  }

  @Test func `recognises the published vision encoder by its name`() throws {
    // The tiny weights do not fit ViT-L/14; the error shows that its configuration was used.
    let error = #expect(throws: CheckpointError.self) {
      try visionWeights(.inside) { $0["mm_vision_tower"] = "openai/clip-vit-large-patch14-336" }
    }
    guard case .badValue(_, "mm_hidden_size", "1024, the vision encoder's", "32") = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func `refuses a given directory for a converted checkpoint`() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    #expect(throws: CheckpointError.self) {
      try ModelDirectory(Goldens.path("models/tiny-llava-1.5"), visionTower: folder.path)
    }
  }

  @Test(arguments: [
    ("model_type", "llava_mpt"), ("mm_projector_type", "linear"), ("mm_projector_type", "resampler"),
    ("mm_resampler_type", "spatial_pool"), ("architectures", "LlavaMptForCausalLM"),
    ("mm_vision_select_feature", "cls"), ("image_aspect_ratio", "anyres_max_0"), ("mm_patch_merge_type", "maxpool2x2"),
  ])
  func `refuses an unsupported value and names its key`(key: String, value: String) throws {
    let error = #expect(throws: CheckpointError.self) {
      try visionWeights(.directory("clip-tiny")) {
        if key == "mm_patch_merge_type" { $0["image_aspect_ratio"] = "anyres" }
        $0[key] = key == "architectures" ? [value] : value
      }
    }
    guard case .badValue(_, key, _, let found) = error, found.contains(value) else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func `limits prompts to the trained length`() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    var layout = layout
    layout.configuration["tokenizer_model_max_length"] = 2048
    let model = try layout.write(into: folder, visionTower: .directory("clip-tiny"))
    let configuration = try ModelDirectory(model.path).configuration
    #expect(configuration.promptLimit == 2048 && configuration.text.contextLength == 4096)
  }
}
