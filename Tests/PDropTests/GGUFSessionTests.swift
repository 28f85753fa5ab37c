import Foundation
import ModelTestSupport
import PDrop
import TestSupport
import Testing
import Verification

/// Pairs of GGUF files, computed in f32, against the reference on their dequantized weights.
@Suite struct GGUFSessionTests {
  @Test func `there are cases of every kind`() {
    let cases = GGUFGoldenCase.all
    #expect(Set(cases.map(\.folder)).isSuperset(of: ["vicuna-64", "mistral-256", "next-mistral-64"]))
    #expect(Set(cases.map(\.golden.images.count)) == (isOptimized ? [0, 1, 2] : [0, 1]))
    #expect(GGUFGoldens.features.count >= 6)
  }

  @Test(arguments: GGUFGoldenCase.all)
  func `agrees with the reference at every stage`(test: GGUFGoldenCase) throws {
    let model = try test.load(.f32)
    #expect(model.unusedTensors.isEmpty && model.precision.name == "f32")
    let folder = try ReferenceFolder(GGUFGoldens.path(""), model: model.name, ggufFiles: model.ggufFiles)
    #expect(folder.model == test.folder)
    let report = try ModelCheck(model, folder, threads: 2).report(on: test.name)
    for result in report.stages { #expect(result.agrees, "\(test.testDescription): \(result)") }
    #expect(report.agrees && report.end == nil)
    let stages = report.stages.map { [$0.stage.run, $0.stage.kind.rawValue].compactMap(\.self).joined(separator: " ") }
    #expect(stages == Self.stages(of: test.golden), "\(test.testDescription)")
  }

  /// The labels of all stages that a case stores, in order.
  private static func stages(of golden: GoldenCase) -> [String] {
    var labels = ["prompt_ids", "image_spans", "sequence_length"]
    for run in golden.runs {
      var stages = ["embedding"]
      for _ in run.stages {
        stages += ["hidden_last", "stages"] + golden.images.flatMap { _ in ["scores", "kept"] }
      }
      stages += ["hidden_last", "kv_len_prefill", "last_logits", "tokens", "final_logits", "text", "kv_len_end"]
      labels += stages.map { "\(run.name) \($0)" }
    }
    return labels
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"), arguments: GGUFGoldens.features)
  func `image features agree with the reference`(stored: GGUFGoldens.Features) throws {
    let model = try VisionLanguageModel(
      gguf: GGUFGoldens.path(stored.model), mmproj: GGUFGoldens.path(stored.mmproj), .f32)
    var request = Request(prompt: .rendered("<image>"), images: [.file(GGUFGoldens.path(stored.image))])
    request.options.maxTokens = 1
    request.recordsTensors = true
    let trace = try Trace(of: request, model)
    #expect(try trace.tensors.shape("features") == stored.shape)
    let (features, columns) = (try trace.tensors.floats("features"), stored.shape[1])
    let expected = try GoldenTensors(GGUFGoldens.folder.appending(path: stored.tensors))
    let rows = try expected.integers("rows")
    #expect(rows.count == 64)
    let found = rows.flatMap { features[$0 * columns..<($0 + 1) * columns] }
    try expectClose(found, expected.floats("features"), 2e-4 * max(1, stored.rms), stored.tensors)
  }
}
