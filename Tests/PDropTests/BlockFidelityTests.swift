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

  /// The decoder's weights are those of the file in both. The rounding of activations makes the difference, and the
  /// vision encoder in bf16.
  static let bounds: [Bounds] = [
    // Measured: logits 0.0148; scores 0.0097, 0.0351; moved 2, 6.
    Bounds(
      folder: "vicuna-64", name: "q4_0_2023", logits: 0.03,
      drops: ["fastv_k2_r50": (0.019, 8), "pdrop_4stages": (0.07, 12)]),
    // Measured: logits 0.0135; scores 0.0533, 0.0361; moved 2, 4.
    Bounds(
      folder: "vicuna-64", name: "q8_0", logits: 0.027,
      drops: ["fastv_k2_r50": (0.11, 8), "pdrop_4stages": (0.072, 8)]),
    // Measured: logits 0.0149; scores 0.0567, 0.0565; moved 6, 6.
    Bounds(
      folder: "mistral-256", name: "q4_k_m", logits: 0.03,
      drops: ["fastv_k2_r50": (0.11, 12), "pdrop_4stages": (0.11, 12)]),
    // Measured: logits 0.0167; scores 0.0564, 0.0553; moved 4, 4.
    Bounds(
      folder: "mistral-256", name: "q2_k", logits: 0.033,
      drops: ["fastv_k2_r50": (0.11, 8), "pdrop_4stages": (0.11, 8)]),
    // Measured: logits 0.0219; scores 0.0482, 0.1054; moved 8, 14.
    Bounds(
      folder: "next-mistral-64", name: "q8_0_wide", logits: 0.044,
      drops: ["fastv_k2_r50": (0.096, 16), "pdrop_4stages": (0.21, 28)]),
    // Measured: logits 0.0142; scores 0.0212, 0.0433; moved 0, 4.
    Bounds(
      folder: "qwen2-64", name: "q4_k_m", logits: 0.028,
      drops: ["fastv_k2_r50": (0.042, 8), "pdrop_4stages": (0.087, 8)]),
  ]

  @Test(arguments: bounds)
  func `logits and the first kept set of stored blocks stay near those of f32`(bounds: Bounds) throws {
    let test = try GGUFGoldenCase(bounds.folder, bounds.name)
    var options = VisionLanguageModel.Options()
    (options.mmproj, options.precision) = (test.mmproj, .int4)
    (options.visionPrecision, options.cachePrecision) = (.bf16, .bf16)
    let (exactModel, roundedModel) = try (
      test.load(.f32), VisionLanguageModel(directory: test.model, options: options)
    )
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

  /// Measured: logits 0.0366 without dropping, 0.0337 with; scores 0.378, as weak scores differ most; moved 28.
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
      try Self.expectClose(traces[1], traces[0], 0.073, "\(policy.name)")
      if policy is PyramidDrop {
        try PrecisionFidelityTests.expectSameChoice(traces[0], traces[1], 0.75, moved: 56, "\(policy.name)")
      }
    }
  }
}
