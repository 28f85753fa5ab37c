import BatchInference
import Foundation
import ModelTestSupport
import PDrop
import TestSupport
import Testing
import TokenDropping

/// Continuous batching against one session per record.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct BatchEngineTests {
  let fixture: BatchFixture

  init() throws { fixture = try BatchFixture() }

  private static func load(_ precision: Precision, _ path: String = "models/tiny-llava-1.5") throws
    -> VisionLanguageModel
  {
    var options = VisionLanguageModel.Options()
    options.precision = precision
    return try VisionLanguageModel(directory: Goldens.path(path), options: options)
  }

  /// Models in block-quantized types, computed in these.
  private static let blockModels = [
    "gguf/models/mistral-256/ggml-model-q4_k_m.gguf", "gguf/models/next-mistral-64/ggml-model-q8_0.gguf",
  ]

  /// An engine with a session for each record.
  private static func sessions(_ model: VisionLanguageModel) -> Batch.Engine {
    { job in
      while case .ready(let question) = try job.take() {
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
    return model.batchEngine(options)
  }

  /// Questions that end at different steps, two to three about the same image, and some that fail.
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

  @Test(
    arguments: [Precision.f32, .bf16, .int8, .int4].map { ($0, "models/tiny-llava-1.5") }
      + blockModels.map { (.int4, $0) })
  func `answers and costs are batch-invariant`(precision: Precision, path: String) throws {
    let model = try Self.load(precision, path)
    var generator = SeededGenerator(3)
    let orders = [Self.lines, Self.lines.shuffled(using: &generator)]
    for lines in orders {
      let report = try fixture.run(lines, existingOutput: .overwrite, engine: Self.sessions(model))
      #expect(report.answered == 11 && report.records == 14)
      let expected = try fixture.lines()
      for (batch, threads) in [(1, 1), (4, 2), (16, 3)] {
        try fixture.run(lines, existingOutput: .overwrite, engine: Self.engine(model, batch: batch, threads: threads))
        #expect(try fixture.lines() == expected, "batch size \(batch), \(threads) threads")
      }
    }
  }

  @Test(arguments: [Precision.f32, .int8])
  func `drafts and several answers to a record change no bytes`(precision: Precision) throws {
    let model = try Self.load(precision, "models/tiny-llava-1.5")
    let lines = (0..<(isOptimized ? 10 : 5)).map { i in
      #"{"custom_id": "q\#(i)", "body": {"messages": [{"role": "user", "content": "one two one two \#(i % 3)"}], "#
        + #""max_tokens": \#(20 + i), "temperature": \#(i % 2), "seed": \#(i), "n": \#(1 + i % 4), "#
        + #""top_k": 2, "ignore_eos": true}}"#
    }
    func answers(_ change: (inout EngineOptions) -> Void) throws -> [String] {
      var options = EngineOptions(threads: 2)
      change(&options)
      try fixture.run(lines, existingOutput: .overwrite, engine: model.batchEngine(options))
      return try fixture.lines()
    }
    let expected = try answers { $0.batchSize = 1 }
    let options: [(Int, Speculation)] = [
      (1, .auto), (1, .fixed(15)), (3, .off), (3, .fixed(2)), (16, .auto), (16, .fixed(15)),
    ]
    for (batchSize, speculation) in isOptimized ? options : Array(options.suffix(3)) {
      let found = try answers { ($0.batchSize, $0.speculation) = (batchSize, speculation) }
      #expect(found == expected, "batch size \(batchSize), \(speculation)")
    }
    // The first of several answers is that of a record for one.
    struct Line: Decodable {
      struct Response: Decodable { var body: Body }
      struct Body: Decodable { var choices: [Choice] }
      struct Choice: Decodable {
        struct Message: Decodable { var content: String }
        var index: Int
        var message: Message
      }
      var response: Response
    }
    for (i, line) in expected.enumerated() {
      let choices = try JSONDecoder().decode(Line.self, from: Data(line.utf8)).response.body.choices
      #expect(choices.map(\.index) == Array(0...i % 4))
      if i % 2 == 0 { #expect(Set(choices.map(\.message.content)).count == 1) }
    }
  }

  @Test func `a form that cannot be followed is an error of its record`() throws {
    let model = try Self.load(.f32, "models/tiny-llava-1.5")
    let fields = [
      #""guided_json": "{""#, #""guided_json": {"type": "object", "minProperties": 1}"#, #""guided_regex": "(?=a)""#,
      #""guided_regex": "a", "stop": "b""#, #""guided_regex": "a{90}", "max_tokens": 1"#, #""guided_regex": "ab?""#,
    ]
    let lines = fields.map {
      #"{"custom_id": "a", "body": {"messages": [{"role": "user", "content": "b"}], \#($0)}}"#
    }
    let report = try fixture.run(lines, existingOutput: .overwrite, engine: Self.engine(model, batch: 4))
    #expect(report.answered == 1 && report.failed == ["bad_record": 5])
  }

  /// Questions about one image after another, with a shared prompt prefix.
  private static func questions(_ count: Int, perImage: Int) -> [String] {
    let images = ["shapes_640x480", "rgba_360x360", "palette_512x256"].map { Goldens.path("images/\($0).png") }
    return (0..<count).map { i in
      #"{"question_id": \#(i), "image": "\#(images[i / perImage % 3])", "text": "What is it, \#(i)?"}"#
    }
  }

  @Test(
    arguments: [Precision.f32, .bf16, .int8].flatMap { precision in
      ["tiny-llava-1.5", "tiny-llava-next-vicuna", "tiny-llava-onevision", "tiny-smolvlm"].map {
        (precision, "models/\($0)")
      }
    } + blockModels.map { (.int4, $0) })
  func `questions about one image share its features and prefix without a change of answers and costs`(
    precision: Precision, path: String
  ) throws {
    let model = try Self.load(precision, path)
    var base = Request(prompt: .messages([]))
    base.options.maxTokens = 3
    let policies: [any TokenDroppingPolicy] = [
      PyramidDrop(), NoDropping(), PyramidDrop(ranking: .valueWeighted, dropsPaddingFirst: true),
      FastV(ranking: .attentionWithoutRotation), TargetedDrop(PyramidDrop(), .flops(ratio: 0.5)),
    ]
    for policy in policies {
      base.policy = policy
      let questions = Self.questions(9, perImage: 3)
      try fixture.run(questions, like: base, existingOutput: .overwrite, engine: Self.sessions(model))
      let expected = try fixture.lines()
      let report = try fixture.run(
        questions, like: base, existingOutput: .overwrite, engine: Self.engine(model, batch: 4))
      #expect(try fixture.lines() == expected)
      #expect(report.images.requested == 9 && report.images.encoded == 3)
      if model.precision.name == "f32" {
        #expect(report.prefixCacheHits == 0)
      } else {
        // Fewer if the next question is not prepared in time; none in bf16 if the library's rows depend on their
        // number.
        #expect(report.prefixCacheHits <= 6)
        #expect(report.prefixCacheHits > 0 || model.precision.name == "bf16")
      }
      #expect(report.flopsShared > 0)
    }
  }

  @Test func `a record that never fits gets an error with remedies`() throws {
    let model = try Self.load(.f32)
    var base = Request(prompt: .messages([]), policy: NoDropping())
    let text = #"{"question_id": "text", "text": "What is it?"}"#
    let lines = [text] + Self.questions(2, perImage: 1) + [text]
    func run(_ limit: Int) throws -> BatchReport {
      var options = EngineOptions(threads: 1)
      options.memoryLimit = limit
      return try fixture.run(lines, like: base, existingOutput: .overwrite, engine: model.batchEngine(options))
    }
    let whole = try run(1 << 40)
    #expect(whole.answered == 4)
    let expected = try fixture.lines()

    // The limit is lowered in steps until records with images no longer fit; those without images still do.
    var limit = 170 << 20
    var report = whole
    while report.answered == 4, limit > 0 {
      #expect(try fixture.lines() == expected)
      limit -= 2 << 20
      report = try run(limit)
    }
    #expect(report.failed == ["out_of_memory": 2], "\(limit)")
    let error = try fixture.lines()[1]
    for remedy in ["needed", "allow ", "generate at most", "KV cache in bf16", "use PyramidDrop"] {
      #expect(error.contains(remedy), "\(error)")
    }
    #expect(try fixture.lines()[0] == expected[0])
    // The last remedy works.
    base.policy = PyramidDrop()
    #expect(try run(limit).answered == 4)
  }

  /// A progressive JPEG whose header has 8192 x 8192 pixels takes 386 MiB; its data end early.
  @Test func `decodes a large image when its memory is free, and refuses one that never fits`() throws {
    let model = try Self.load(.f32)
    var bytes = [UInt8](try Data(contentsOf: Fixtures.url("images/progressive.jpg")))
    let frame = try #require(bytes.indices.first { bytes[$0] == 0xFF && bytes[$0 + 1] == 0xC2 })
    bytes.replaceSubrange(frame + 5..<frame + 9, with: [0x20, 0, 0x20, 0])
    bytes.removeLast(100)
    let path = fixture.folder.path("large.jpg")
    try Data(bytes).write(to: URL(filePath: path))
    let large = #"{"question_id": "large", "image": "\#(path)", "text": "What is it?"}"#
    let small = Self.questions(2, perImage: 1)
    func run(_ limit: Int) throws -> BatchReport {
      var options = EngineOptions(threads: 1)
      options.memoryLimit = limit
      return try fixture.run(
        [large] + small + [large], existingOutput: .overwrite, engine: model.batchEngine(options))
    }
    #expect(try run(1 << 40).failed == ["image_damaged": 2])
    let report = try run(300 << 20)
    #expect(report.answered == 2 && report.failed == ["out_of_memory": 2])
    let error = try fixture.lines()[0]
    #expect(error.contains("8192 x 8192 pixels take 386 MiB to decode"), "\(error)")
    // The remedy works.
    let gibibytes = try #require(error.firstMatch(of: /allow ([0-9.]+) GiB/).flatMap { Double($0.1) })
    #expect(try run(Int(gibibytes * Double(1 << 30))).failed == ["image_damaged": 2])
  }
}
