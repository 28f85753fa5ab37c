import Foundation
import ModelTestSupport
import PDrop
import TestSupport
import Testing
import Verification

/// Whole runs against the reference, from image files and a prompt to tensors, tokens and text.
@Suite struct GoldenSessionTests {
  @Test(arguments: GoldenCase.all)
  func `agrees with the reference at every stage`(model: String, name: String) throws {
    let loaded = try VisionLanguageModel(directory: Goldens.path("models/\(model)"))
    #expect(loaded.unusedTensors.isEmpty)
    let folder = try ReferenceFolder(Goldens.path(""), model: model)
    let report = try ModelCheck(loaded, folder, threads: 2).report(on: name)
    for result in report.stages {
      let label: Comment = "\(model)/\(name): \(result)"
      #expect(result.agrees, label)
      #expect(result.tolerance == Self.tolerance(result.stage), label)
      if result.stage.kind == .pixels { #expect(result.place == nil, label) }
    }
    #expect(report.agrees && report.end == nil && report.likelyCause == nil)
    #expect(try report.stages.map { Self.label($0.stage) } == Self.stages(of: model, name), "\(model)/\(name)")
  }

  /// The tolerances in the README of the goldens.
  private static func tolerance(_ stage: CheckStage) -> Tolerance {
    switch stage.kind {
    case .pixels: stage.image?.hasSuffix(".jpg") == true ? .mean(1) : .absolute(1)
    case .pixelValues: .absolute(1e-6)
    case .visionEncoderInput, .visionEncoderOutput, .features: .absolute(2e-4)
    case .scores: .relative(2e-3)
    case .embedding, .layers, .lastLogits, .finalLogits: .absolute(3e-3)
    default: .none
    }
  }

  /// The labels of all stages that a case stores, in order, computed without the code under test.
  private static func stages(of model: String, _ name: String) throws -> [String] {
    let (golden, _) = try GoldenCase.load(model, name)
    var labels = ["prompt_ids"]
    for image in golden.images.map({ URL(filePath: $0).lastPathComponent }) {
      let isOneVision = model.contains("onevision")
      let kind =
        model.contains("smolvlm")
        ? (model.hasSuffix("whole") ? "smolvlm_whole" : "smolvlm")
        : isOneVision ? "llava_onevision" : model.contains("next") ? "llava_next" : "llava15"
      let mark = isOneVision && golden.images.count > 1 ? ".several" : ""
      let stored = try ["preprocess/\(kind)", "features/\(model)"].map { "\($0)/\(image)\(mark).safetensors" }
        .filter { FileManager.default.fileExists(atPath: Goldens.path($0)) }.flatMap { try Goldens.tensors($0).names }
      let order = ["pixels_u8", "pixel_values", "vision_hidden_0", "vision_hidden_select", "features"]
      labels += order.filter(stored.contains).map { "\($0) \(image)" }
    }
    labels += ["image_spans", "sequence_length"]
    for run in golden.runs {
      var next = 0
      labels.append("\(run.name) embedding")
      for stage in run.stages {
        labels.append("\(run.name) hidden_last \(next)-\(stage.layer - 1)")
        labels.append("\(run.name) stages before \(stage.layer)")
        for image in golden.images.map({ URL(filePath: $0).lastPathComponent }) {
          labels += ["scores", "kept"].map { "\(run.name) \($0) \(image) before \(stage.layer)" }
        }
        next = stage.layer
      }
      labels.append("\(run.name) hidden_last \(next)-\(run.kvLenPrefill.count - 1)")
      labels += ["kv_len_prefill", "last_logits", "tokens", "final_logits", "text", "kv_len_end"]
        .map { "\(run.name) \($0)" }
    }
    return labels
  }

  private static func label(_ stage: CheckStage) -> String {
    let parts = [
      stage.run, stage.kind.rawValue, stage.image, stage.layers.map { "\($0.lowerBound)-\($0.upperBound)" },
      stage.layer.map { "before \($0)" },
    ]
    return parts.compactMap { $0 }.joined(separator: " ")
  }

  @Test(arguments: ["multi_turn", "two_images", "text_only"])
  func `a trace equals the reference, under the reference's tensor names`(name: String) throws {
    let (golden, tensors) = try GoldenCase.load("tiny-llava-1.5", name)
    let loaded = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    for run in golden.runs {
      try check(Trace(of: golden, run, loaded), golden, run, tensors, "\(name)/\(run.name)")
    }
  }

  private func check(
    _ trace: Trace, _ golden: GoldenCase, _ run: GoldenCase.Run, _ expected: GoldenTensors, _ label: String
  ) throws {
    let report = trace.report
    #expect(report.promptTokens == golden.promptIDs, "\(label)")
    #expect(report.imageSpans == golden.imageSpans, "\(label)")
    #expect(report.sequenceLength == golden.sequenceLength, "\(label)")
    #expect(report.cacheLengthsAfterPrompt == run.kvLenPrefill, "\(label)")
    #expect(report.cacheLengthsAtEnd == run.kvLenEnd, "\(label)")
    #expect(report.tokens == run.tokens, "\(label)")
    #expect(report.text == run.text, "\(label)")
    #expect(report.policy.method == run.policy.method, "\(label)")
    for tensor in ["last_logits", "final_logits", "hidden_last"] {
      try expectClose(
        trace.tensors.floats(tensor), expected.floats("\(run.name)/\(tensor)"), 3e-3, "\(label) \(tensor)")
    }
    if !golden.images.isEmpty {
      let features = try golden.images.flatMap { image in
        try Goldens.tensors("features/tiny-llava-1.5/\(URL(filePath: image).lastPathComponent).safetensors")
          .floats("features")
      }
      try expectClose(trace.tensors.floats("features"), features, 2e-4, "\(label) features")
      #expect(report.stages.map(\.layer) == run.stages.map(\.layer), "\(label)")
      #expect(report.stages.map(\.tokensAfter) == run.stages.map(\.tokensAfter), "\(label)")
    }
    for name in expected.names where name.hasPrefix("\(run.name)/stage") {
      let short = String(name.dropFirst(run.name.count + 1))
      if name.hasSuffix("/kept") {
        #expect(try trace.tensors.integers(short) == expected.integers(name), "\(label) \(short)")
      } else {
        let difference = try Difference.relative(trace.tensors.floats(short), expected.floats(name))
        #expect(difference.largest <= 2e-3, "\(label) \(short): \(difference)")
      }
    }
  }

  @Test func `pixels equal the reference's`() throws {
    let (golden, _) = try GoldenCase.load("tiny-llava-1.5", "shapes_640x480")
    let loaded = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    let trace = try Trace(of: golden, golden.runs[0], loaded)
    let expected = try Goldens.tensors("preprocess/llava15/shapes_640x480.png.safetensors")
    #expect(try trace.tensors.shape("pixels_u8") == [1, 3, 336, 336])
    #expect(try trace.tensors.bytes("pixels_u8") == expected.bytes("pixels_u8"))
    try expectClose(trace.tensors.floats("pixel_values"), expected.floats("pixel_values"), 1e-6, "pixel_values")
  }
}
