import Foundation
import Kernels
import PDrop
import TestSupport
import Testing
import TokenDropping

/// Whole runs against the reference's, through the trace: picture files and a prompt in, everything else out.
@Suite struct GoldenSessionTests {
  @Test(arguments: GoldenCase.all)
  func `traces what the reference did`(model: String, name: String) throws {
    let (golden, tensors) = try GoldenCase.load(model, name)
    let directory = Goldens.path("models/\(model)")
    let loaded = try VisionLanguageModel(directory: directory)
    #expect(loaded.unusedTensors.isEmpty)
    for run in golden.runs {
      let trace = try Trace(of: golden, run, loaded)
      try check(trace, golden, run, tensors, features: model, "\(model)/\(name)/\(run.name)")
    }
  }

  private func check(
    _ trace: Trace, _ golden: GoldenCase, _ run: GoldenCase.Run, _ expected: GoldenTensors, features model: String,
    _ label: String
  ) throws {
    let report = trace.report
    #expect(report.promptTokens == golden.prompt_ids, "\(label)")
    #expect(report.imageSpans == golden.image_spans, "\(label)")
    #expect(report.sequenceLength == golden.sequence_length, "\(label)")
    #expect(report.cacheLengthsAfterPrompt == run.kv_len_prefill, "\(label)")
    #expect(report.cacheLengthsAtEnd == run.kv_len_end, "\(label)")
    #expect(report.tokens == run.tokens, "\(label)")
    #expect(report.text == run.text, "\(label)")
    #expect(report.policy.method == run.policy.method, "\(label)")
    for tensor in ["last_logits", "final_logits", "hidden_last"] {
      try expectClose(
        trace.tensors.floats(tensor), expected.floats("\(run.name)/\(tensor)"), 3e-3, "\(label) \(tensor)")
    }
    if !golden.images.isEmpty {
      let features = try golden.images.flatMap { image in
        try Goldens.tensors("features/\(model)/\(URL(filePath: image).lastPathComponent).safetensors").floats(
          "features")
      }
      try expectClose(trace.tensors.floats("features"), features, 2e-4, "\(label) features")
      let stages = run.stages
      #expect(report.stages.map(\.layer) == stages.map(\.layer), "\(label)")
      #expect(report.stages.map(\.tokensAfter) == stages.map(\.tokens_after), "\(label)")
    }
    for name in expected.names where name.hasPrefix("\(run.name)/stage") && name.hasSuffix("/kept") {
      let short = String(name.dropFirst(run.name.count + 1))
      #expect(try trace.tensors.integers(short) == expected.integers(name), "\(label) \(short)")
    }
  }

  @Test func `pixels are the reference's`() throws {
    let (golden, _) = try GoldenCase.load("tiny-llava-1.5", "shapes_640x480")
    let loaded = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    let trace = try Trace(of: golden, golden.runs[0], loaded)
    let expected = try Goldens.tensors("preprocess/llava15/shapes_640x480.png.safetensors")
    #expect(try trace.tensors.shape("pixels_u8") == [1, 3, 336, 336])
    #expect(try trace.tensors.bytes("pixels_u8") == expected.bytes("pixels_u8"))
    try expectClose(trace.tensors.floats("pixel_values"), expected.floats("pixel_values"), 1e-6, "pixel_values")
  }
}
