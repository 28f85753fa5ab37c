import Foundation
import ImageProcessing
import ModelTestSupport
import PDrop
import TestSupport
import Testing
import Verification

/// A model with one change departs at the stage of that change.
@Suite struct ModelCheckTests {
  private func expectDeparture(
    _ report: CaseResult, _ kind: CheckStage.Kind, at first: String? = nil, _ cause: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let departure = try #require(report.departure, sourceLocation: sourceLocation)
    #expect(departure.stage.kind == kind, "\(departure)", sourceLocation: sourceLocation)
    #expect(departure.difference > departure.tolerance.limit, sourceLocation: sourceLocation)
    let place = try #require(departure.place, sourceLocation: sourceLocation)
    #expect(place.expected != place.found, sourceLocation: sourceLocation)
    if let first {
      let coordinate = place.coordinates.first.map { "\($0.axis) \($0.index)" }
      #expect(coordinate == first, "\(departure)", sourceLocation: sourceLocation)
    }
    #expect(report.likelyCause?.contains(cause) == true, "\(report.likelyCause ?? "")", sourceLocation: sourceLocation)
    #expect(!report.agrees, sourceLocation: sourceLocation)
  }

  // MARK: - Cases without images

  @Test func `agrees without a change`() throws {
    #expect(try ChangedModel().report().agrees)
  }

  @Test func `detects a tokenizer without half its merges`() throws {
    let changed = try ChangedModel()
    try changed.changeJSON("tiny-llava-1.5/tokenizer.json") { file in
      var model = file["model"] as? [String: Any] ?? [:]
      model["merges"] = (model["merges"] as? [String])?.prefix(400).map { $0 }
      file["model"] = model
    }
    try expectDeparture(changed.report(), .promptTokens, at: "token 3", "tokenizer")
  }

  @Test func `detects a changed embedding table`() throws {
    let changed = try ChangedModel()
    try changed.add(0.01, to: "language_model.model.embed_tokens.weight")
    try expectDeparture(changed.report(), .embedding, "embed_tokens")
  }

  @Test func `detects a changed rope_theta at layer 0`() throws {
    let changed = try ChangedModel()
    try changed.changeJSON("tiny-llava-1.5/config.json") { file in
      var text = file["text_config"] as? [String: Any] ?? [:]
      text["rope_theta"] = 20000
      file["text_config"] = text
    }
    try expectDeparture(changed.report(), .layers, at: "layer 0", "rope_theta")
  }

  @Test(arguments: [1, 5, 31])
  func `finds the layer with different weights`(layer: Int) throws {
    let changed = try ChangedModel()
    try changed.add(0.01, to: "language_model.model.layers.\(layer).mlp.down_proj.weight")
    try expectDeparture(changed.report(), .layers, at: "layer \(layer)", "layer \(layer) has different weights")
  }

  @Test(arguments: ["language_model.lm_head.weight", "language_model.model.norm.weight"])
  func `detects a changed final norm or output head`(tensor: String) throws {
    let changed = try ChangedModel()
    try changed.add(0.1, to: tensor)
    try expectDeparture(changed.report(), .lastLogits, "lm_head")
  }

  @Test func `NaN weights are a departure`() throws {
    let changed = try ChangedModel()
    try changed.add(.nan, to: "language_model.model.layers.7.mlp.up_proj.weight")
    let report = try changed.report()
    try expectDeparture(report, .layers, at: "layer 7", "layer 7")
    #expect(report.departure?.difference == .infinity && report.departure?.place?.found == "nan")
    #expect(report.stages.contains { $0.stage.kind == .tokens && !$0.agrees })
  }

  @Test func `detects a different chat template`() throws {
    let changed = try ChangedModel()
    let question = "What is shown in this image?"
    try changed.changeJSON("reference/cases/tiny-llava-1.5/text_only.json") { $0["question"] = question }
    #expect(try changed.report().agrees)
    var options = VisionLanguageModel.Options()
    options.template = ChatTemplate(named: "mistral_instruct")
    let model = try VisionLanguageModel(directory: changed.directory, options: options)
    try expectDeparture(changed.report(of: model), .prompt, at: "character 0", "chat_template")
  }

  // MARK: - Cases with an image

  private static let case15 = "multi_turn"

  private func changed(runs: [String] = ["vanilla"]) throws -> ChangedModel {
    try ChangedModel(case: Self.case15, runs: runs)
  }

  @Test func `agrees for the original layout, whose vocabulary has no image token`() throws {
    let folder = try TemporaryFolder()
    let directory = try OriginalLayout("tiny-llava-1.5").write(into: folder.url, visionTower: .directory("clip-tiny"))
    let model = try VisionLanguageModel(directory: directory.path)
    let report = try changed(runs: ["pdrop_default"]).report(on: Self.case15, of: model)
    #expect(model.imageToken < 0 && report.agrees, "\(report)")
  }

  @Test func `stops at a prompt without its image placeholder, and reports why`() throws {
    let changed = try changed()
    try changed.changeJSON("reference/cases/tiny-llava-1.5/multi_turn.json") { expected in
      expected["prompt"] = (expected["prompt"] as? String ?? "").replacing("<image>", with: "")
    }
    let report = try changed.report(on: Self.case15)
    try expectDeparture(report, .promptTokens, "tokenizer")
    #expect(report.end?.contains("no <image>") == true && report.stages.count == 1)
  }

  @Test func `detects a different image mode`() throws {
    var options = VisionLanguageModel.Options()
    options.imageMode = .pad
    let changed = try changed()
    let report = try changed.report(
      on: Self.case15, of: VisionLanguageModel(directory: changed.directory, options: options))
    try expectDeparture(report, .pixels, at: "view 0", "'pad'")
    #expect(report.departure?.stage.image == "shapes_640x480.png")
  }

  @Test func `distinguishes image_mean from the pixels`() throws {
    let changed = try changed()
    try changed.changeJSON("tiny-llava-1.5/preprocessor_config.json") { $0["image_mean"] = [0.5, 0.5, 0.5] }
    try expectDeparture(changed.report(on: Self.case15), .pixelValues, at: "view 0", "image_mean")
  }

  @Test(arguments: [
    ("vision_tower.vision_model.pre_layrnorm.bias", CheckStage.Kind.visionEncoderInput, "pre_layrnorm"),
    ("vision_tower.vision_model.encoder.layers.1.mlp.fc2.bias", .visionEncoderOutput, "vision_feature_layer"),
    ("multi_modal_projector.linear_2.bias", .features, "projector"),
  ])
  func `distinguishes the vision encoder from the projector`(tensor: String, kind: CheckStage.Kind, cause: String)
    throws
  {
    let changed = try changed()
    try changed.add(0.02, to: tensor)
    try expectDeparture(changed.report(on: Self.case15), kind, cause)
  }

  @Test func `detects a changed ranking by its scoring layer`() throws {
    let changed = try changed(runs: ["pdrop_default"])
    try changed.add(0.05, to: "language_model.model.layers.8.self_attn.k_proj.weight")
    let report = try changed.report(on: Self.case15)
    try expectDeparture(report, .scores, "ranking")
    #expect(report.departure?.stage.layer == 8 && report.departure?.stage.run == "pdrop_default")
  }

  @Test func `detects different kept tokens with the same scores`() throws {
    let changed = try changed(runs: ["fastv_k2_r50"])
    let file = "reference/cases/tiny-llava-1.5/\(Self.case15).safetensors"
    let kept = try GoldenTensors(URL(filePath: changed.reference + "/cases/tiny-llava-1.5/\(Self.case15).safetensors"))
      .integers("fastv_k2_r50/stage0/image0/kept")
    try changed.setByte(0, of: "fastv_k2_r50/stage0/image0/kept", to: kept[0] == 0 ? 1 : 0, in: file)
    let report = try changed.report(on: Self.case15)
    try expectDeparture(report, .kept, at: "place 0", "rounded")
    #expect(report.stages.count { !$0.agrees } == 1)
  }

  // MARK: - Cases with several views

  private func changedNext() throws -> ChangedModel {
    try ChangedModel("tiny-llava-next-vicuna", case: "tiny_20x30", runs: ["vanilla"])
  }

  @Test func `detects different views`() throws {
    let changed = try changedNext()
    for file in ["config.json", "preprocessor_config.json"] {
      try changed.changeJSON("tiny-llava-next-vicuna/\(file)") { $0["image_grid_pinpoints"] = [[1008, 336]] }
    }
    let report = try changed.report(on: "tiny_20x30")
    try expectDeparture(report, .pixels, "image_grid_pinpoints")
    #expect(report.departure?.place?.expected == "3 views" && report.departure?.place?.found == "4 views")
  }

  @Test func `distinguishes the packing of views from the projector`() throws {
    let changed = try changedNext()
    try changed.setByte(
      1, of: "image_newline", to: 0x40, in: "tiny-llava-next-vicuna/model.safetensors")
    let report = try changed.report(on: "tiny_20x30")
    try expectDeparture(report, .features, "image_newline")
    // The first newline token comes after the 576 tokens of the base view and a row of the tiles.
    #expect(report.departure?.place?.coordinates.first.map { $0.index > 576 } == true)
  }

  /// The goldens store the vision encoder's hidden states for few images only.
  @Test func `names the packing of views without stored hidden states of the vision encoder`() throws {
    let changed = try ChangedModel("tiny-llava-next-vicuna", case: "wide_1000x200", runs: ["vanilla"])
    try changed.setByte(
      1, of: "image_newline", to: 0x40, in: "tiny-llava-next-vicuna/model.safetensors")
    try expectDeparture(changed.report(on: "wide_1000x200"), .features, "image_newline")
  }
}
