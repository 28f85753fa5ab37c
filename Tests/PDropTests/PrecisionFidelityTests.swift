import Foundation
import ModelTestSupport
import PDrop
import TestSupport
import Testing
import TokenDropping

/// How far bf16 and int8 may lead away from f32, by what rounding its factors does to a product.
///
/// A bf16 number is off by up to 2^-9 of itself, evenly spread: 2^-9 / √3 in the root mean square. An int8 number is off by up
/// to half a step, which is 1/127 of the largest of its row, some three times the row's root mean square: 3 / 127 / √12.
/// Both factors of a product are rounded, so that its error is √2 times that, relative to its own root mean square. Such errors
/// are independent of each other: after P products on the way they have grown by √P. What later layers make of an earlier
/// error is not known; it is allowed three times its size.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct PrecisionFidelityTests {
  /// Relative error of a product whose factors are rounded.
  private static func productError(_ precision: Precision) -> Double {
    precision == .int8 ? 2.0.squareRoot() * 3 / 127 / 12.0.squareRoot() : 2.0.squareRoot() * 0x1p-9 / 3.0.squareRoot()
  }

  /// Relative error of the logits of a model with `layers` decoder layers, over a vision encoder of 3.
  ///
  /// In the vision encoder a layer's way leads through values, output and two products of the MLP, in the decoder through values,
  /// output, gate or up, their product and down; the patches, the projector and the head are 4 more. Vision encoder and head are bf16.
  private static func bound(_ precision: Precision, layers: Int) -> Double {
    let (decoder, rest) = (productError(precision), productError(.bf16))
    return 3 * (Double(5 * layers) * decoder * decoder + Double(4 * 3 + 4) * rest * rest).squareRoot()
  }

  private static func load(_ path: String, _ precision: Precision) throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    options.precision = precision
    return try VisionLanguageModel(directory: path, options: options)
  }

  private static func relativeError(_ found: [Float], _ exact: [Float]) -> Double {
    let (error, norm) = zip(found, exact).reduce((0.0, 0.0)) { sums, pair in
      let (a, b) = (Double(pair.0), Double(pair.1))
      return (sums.0 + (a - b) * (a - b), sums.1 + b * b)
    }
    return (error / norm).squareRoot()
  }

  @Test(
    arguments: [
      ("tiny-llava-1.5", "shapes_640x480"), ("tiny-llava-1.5-bf16", "palette_512x256"),
      ("tiny-llava-next-vicuna", "big_1600x1200"), ("tiny-llava-next-mistral", "shapes_640x480"),
    ], [Precision.bf16, .int8])
  func `logits and the first kept set stay near those of f32`(
    golden: (model: String, name: String), precision: Precision
  ) throws {
    let path = Goldens.path("models/\(golden.model)")
    let (exactModel, roundedModel) = try (Self.load(path, .f32), Self.load(path, precision))
    let (theCase, _) = try GoldenCase.load(golden.model, golden.name)
    for run in theCase.runs where ["vanilla", "fastv_k2_r50", "pdrop_default"].contains(run.name) {
      let exact = try Trace(of: theCase, run, exactModel)
      let rounded = try Trace(of: theCase, run, roundedModel)
      if run.stages.isEmpty {
        let error = Self.relativeError(
          try rounded.tensors.floats("last_logits"), try exact.tensors.floats("last_logits"))
        #expect(error > 0, "computed in f32 after all")
        #expect(error <= Self.bound(precision, layers: exactModel.layerCount), "\(golden) \(precision): \(error)")
      } else {
        try Self.expectSameChoice(exact, rounded, "\(golden) \(run.name) \(precision)")
      }
    }
  }

  /// The kept sets of the first drop differ only where the scores do: a token on the other side of the cut is no further
  /// from it than the scores of the two runs are from each other.
  private static func expectSameChoice(_ exact: Trace, _ rounded: Trace, _ label: Comment) throws {
    let images = zip(exact.report.stages[0].images, rounded.report.stages[0].images)
    for (index, (expected, found)) in images.enumerated() {
      let scores = try exact.tensors.floats("stage0/image\(index)/scores")
      let others = try rounded.tensors.floats("stage0/image\(index)/scores")
      let distance = zip(scores, others).map { abs($0 - $1) }.max() ?? 0
      let cut = expected.kept.map { scores[$0] }.min() ?? 0
      let moved = Set(expected.kept).symmetricDifference(found.kept)
      #expect(expected.kept.count == found.kept.count, label)
      for token in moved { #expect(abs(scores[token] - cut) <= 2 * distance, label) }
      #expect(4 * moved.count <= expected.kept.count, label)
    }
  }

  /// With a question that f32 decides clearly under every policy: a near tie may fall either way after rounding.
  @Test(arguments: [Precision.bf16, .int8], [NoDropping(), PyramidDrop(), FastV()] as [any TokenDroppingPolicy])
  func `the trained model answers as in f32`(precision: Precision, policy: any TokenDroppingPolicy) throws {
    let answers = try [Precision.f32, precision].map { precision in
      let model = try Self.load(Goldens.path("../../Models/tiny-textvqa"), precision)
      var options = GenerationOptions()
      options.maxTokens = 12
      let request = Request(
        prompt: .messages([ChatMessage(question: "Which word is at the center?", imageCount: 1)]),
        images: [.file(Goldens.path("../../Models/samples/river.png"))],
        policy: policy, options: options)
      var session = try Session(model, request, threads: 2)
      while try session.next() != nil {}
      return session.report.text
    }
    #expect(answers[1] == answers[0])
  }
}
