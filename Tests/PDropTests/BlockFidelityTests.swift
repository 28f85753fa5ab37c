import Foundation
import Kernels
import LLaVA
import ModelTestSupport
import PDrop
import TestSupport
import Testing
import TokenDropping

/// Errors of block-quantized weights against the same weights in f32, and of quantizing a model to int4.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct BlockFidelityTests {
  /// Bounds of the difference from f32, as in `PrecisionFidelityTests`: about twice what was measured.
  struct Bounds: Sendable, CustomTestStringConvertible {
    var folder: String
    var name: String
    /// The relative error of the logits after the prompt, without dropping.
    var logits: Double
    /// By run, at the first drop: the relative error of the scores, and how many tokens are in only one kept set.
    var drops: [String: (scores: Double, moved: Int)]
    var testDescription: String { "\(folder)/\(name)" }
  }

  /// In both, weights are those of the file, so that only the rounding of activations differs; matmuls of many rows
  /// also round the weights to 8 bits.
  static let bounds: [Bounds] = [
    Bounds(
      folder: "vicuna-64", name: "q4_0_2023", logits: 0.0, drops: ["fastv_k2_r50": (0, 0), "pdrop_4stages": (0, 0)]),
    Bounds(
      folder: "vicuna-64", name: "q8_0", logits: 0.0, drops: ["fastv_k2_r50": (0, 0), "pdrop_4stages": (0, 0)]),
    Bounds(
      folder: "mistral-256", name: "q4_k_m", logits: 0.0, drops: ["fastv_k2_r50": (0, 0), "pdrop_4stages": (0, 0)]),
    Bounds(
      folder: "mistral-256", name: "q2_k", logits: 0.0, drops: ["fastv_k2_r50": (0, 0), "pdrop_4stages": (0, 0)]),
    Bounds(
      folder: "next-mistral-64", name: "q8_0_wide", logits: 0.0,
      drops: ["fastv_k2_r50": (0, 0), "pdrop_4stages": (0, 0)]),
    Bounds(
      folder: "qwen2-64", name: "q4_k_m", logits: 0.0, drops: ["fastv_k2_r50": (0, 0), "pdrop_4stages": (0, 0)]),
  ]

  @Test(arguments: bounds)
  func `logits and the first kept set of stored blocks stay near those of f32`(bounds: Bounds) throws {
    let test = try GGUFGoldenCase(bounds.folder, bounds.name)
    let (exactModel, roundedModel) = try (test.load(.f32), test.load(.auto))
    #expect(roundedModel.precision.computeType.decoder == .blocks)
    for run in test.golden.runs {
      let exact = try Trace(of: test.golden, run, exactModel, folder: GGUFGoldens.folder)
      let rounded = try Trace(of: test.golden, run, roundedModel, folder: GGUFGoldens.folder)
      let label: Comment = "\(bounds.testDescription) \(run.name)"
      if let drop = bounds.drops[run.name] {
        try PrecisionFidelityTests.expectSameChoice(exact, rounded, drop.scores, moved: drop.moved, label)
      } else {
        #expect(run.name == "vanilla")
        try Self.expectClose(rounded, exact, bounds.logits, label)
      }
    }
    #expect(test.golden.runs.count == bounds.drops.count + 1)
  }

  private static func expectClose(_ rounded: Trace, _ exact: Trace, _ bound: Double, _ label: Comment) throws {
    let error = PrecisionFidelityTests.relativeError(
      try rounded.tensors.floats("last_logits"), try exact.tensors.floats("last_logits"))
    #expect(error > 0, "computed in f32 after all")
    #expect(error <= bound, "\(label) \(error)")
  }

  @Test func `the trained model in int4 stays near f32`() throws {
    let models = try [PDrop.Precision.f32, .int4].map { precision in
      var options = VisionLanguageModel.Options()
      options.precision = precision
      return try VisionLanguageModel(directory: Goldens.path("../../Models/tiny-textvqa"), options: options)
    }
    #expect(models[1].precision.name == "int4")
    for policy in [NoDropping(), PyramidDrop()] as [any TokenDroppingPolicy] {
      var request = Request(
        question: "Which word is at the center?", images: [.file(Goldens.path("../../Models/samples/river.png"))],
        policy: policy)
      request.options.maxTokens = 12
      request.recordsTensors = true
      let traces = try models.map { try Trace(of: request, $0) }
      #expect(traces[1].report.text == traces[0].report.text)
      try Self.expectClose(traces[1], traces[0], 0.0, "\(policy.name)")
      if policy is PyramidDrop {
        try PrecisionFidelityTests.expectSameChoice(traces[0], traces[1], 0, moved: 0, "\(policy.name)")
      }
    }
  }
}
