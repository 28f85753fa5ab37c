import Foundation
import PDrop
import TestSupport
import Testing

/// Many records at a time against one at a time, each by a session of its own.
@Suite struct BatchEngineTests {
  let fixture: BatchFixture

  init() throws { fixture = try BatchFixture() }

  private static func load(_ precision: Precision, _ name: String = "tiny-llava-1.5") throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    options.precision = precision
    return try VisionLanguageModel(directory: Goldens.path("models/\(name)"), options: options)
  }

  /// What each record is answered alone.
  private static func sessions(_ model: VisionLanguageModel) -> Batch.Engine {
    { job in
      while case .value(let question) = try job.take() {
        let outcome = Result {
          var session = try Session(model, question.request, threads: 1)
          while try session.next() != nil {}
          return session.report
        }
        try job.finish([(question, outcome.mapError(RecordFailure.init))])
      }
    }
  }

  private static func engine(_ model: VisionLanguageModel, batch: Int, threads: Int = 1) -> Batch.Engine {
    var options = EngineOptions(threads: threads)
    options.batchSize = batch
    return model.answeringTogether(options)
  }

  /// Questions that end at different times, two to three of them about the same picture, and some that fail.
  private static let lines: [String] = (0..<14).map { i in
    let image = Goldens.path("images/\(i / 3 % 2 == 0 ? "shapes_640x480" : "rgba_360x360").png")
    switch i {
    case 4: return #"{"custom_id": "broken", "body": "#
    case 6: return #"{"question_id": "none", "image": "none.png", "text": "What is it?"}"#
    case 9: return #"{"question_id": "two", "image": "\#(image)", "text": "<image> <image>"}"#
    case 11: return #"{"question_id": "words", "text": "What is it?"}"#
    default:
      let content =
        #"[{"type": "image_url", "image_url": {"url": "\#(image)"}}, {"type": "text", "text": "What \#(i)?"}]"#
      return #"{"custom_id": "q\#(i)", "body": {"messages": [{"role": "user", "content": \#(content)}], "#
        + #""max_tokens": \#(i * 5 % 9), "temperature": \#(i % 2), "seed": \#(i), "ignore_eos": true}}"#
    }
  }

  @Test(arguments: [Precision.f32, .bf16, .int8])
  func `answers and costs are the same in any company`(precision: Precision) throws {
    let model = try Self.load(precision)
    var generator = SeededGenerator(3)
    let orders = [Self.lines, Self.lines.shuffled(using: &generator)]
    for lines in orders {
      let report = try fixture.run(lines, earlier: .overwrite, engine: Self.sessions(model))
      #expect(report.answered == 11 && report.records == 14)
      let expected = try fixture.lines()
      for (batch, threads) in [(1, 1), (4, 2), (16, 3)] {
        try fixture.run(lines, earlier: .overwrite, engine: Self.engine(model, batch: batch, threads: threads))
        #expect(try fixture.lines() == expected, "\(batch) at a time, \(threads) threads")
      }
    }
  }
}
