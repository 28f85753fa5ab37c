import Foundation
import PDrop
import Storage
import TestSupport
import Testing
import Tokenizers

/// Answers within a constraint, by models with random weights, for which every token is as likely as any other.
@Suite struct ConstrainedSamplingTests {
  private let model: VisionLanguageModel

  init() throws { model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5")) }

  private func answer(
    _ constraint: OutputConstraint, maxTokens: Int = 64, seed: UInt64 = 0, temperature: Double = 1,
    _ speculation: Speculation = .off, change: (inout GenerationOptions) -> Void = { _ in }
  ) throws -> RunReport {
    var request = Request(prompt: .tokens([1, 5, 9, 17, 4]))
    (request.options.constraint, request.options.maxTokens) = (constraint, maxTokens)
    (request.options.seed, request.options.temperature, request.options.topK) = (seed, temperature, 0)
    change(&request.options)
    var session = try Session(model, request, threads: 2, speculation: speculation)
    while try session.next() != nil {}
    return session.report
  }

  private static let schema = OutputConstraint.jsonSchema(
    #"""
    {"type": "object", "required": ["id", "tags"], "additionalProperties": false, "properties": {
      "id": {"type": "integer", "minimum": 10, "maximum": 99}, "note": {"type": "string", "minLength": 2},
      "tags": {"type": "array", "items": {"enum": ["red", "blue"]}, "minItems": 2}}}
    """#)

  /// The shortest answer, `{"id":10,"tags":["red","red"]}`, has 26 tokens in this vocabulary.
  @Test(arguments: isOptimized ? [26, 32, 64, 200] : [26, 40], [0, 1] as [Double])
  func `JSON is valid, however few tokens are left`(maxTokens: Int, temperature: Double) throws {
    for seed in 0..<(isOptimized ? 20 : 1) as Range<UInt64> {
      let report = try answer(Self.schema, maxTokens: maxTokens, seed: seed, temperature: temperature)
      let value = try JSONParser.parse(Array(report.text.utf8))
      let id = try #require(value["id"].integer)
      let tags = try #require(value["tags"].array).map(\.string)
      #expect((10...99).contains(id) && tags.count >= 2 && tags.allSatisfy { ["red", "blue"].contains($0) })
      #expect(value["note"].isNull || (value["note"].string?.unicodeScalars.count ?? 0) >= 2)
      #expect(report.tokens.count <= maxTokens)
    }
  }

  @Test func `an answer that had to be completed has the reason length`() throws {
    let long = OutputConstraint.regex("[a-z]{30,}!")
    #expect(try answer(long, maxTokens: 34).finishReason == .length)
    #expect(try answer(.regex("[a-z]{3}"), maxTokens: 34).finishReason == .stop)
  }

  @Test func `choices and expressions are matched as a whole`() throws {
    let choices = ["red", "reddish", "blue sky"]
    for seed in 0..<6 as Range<UInt64> {
      #expect(choices.contains(try answer(.choices(choices), seed: seed).text))
      let text = try answer(.regex(#"\d{3}-(ab|c)+"#), maxTokens: 12, seed: seed).text
      #expect(text.wholeMatch(of: /[0-9]{3}-(ab|c)+/) != nil, "\(text)")
    }
  }

  @Test func `drafts change nothing, and bias still counts`() throws {
    for seed in 0..<3 as Range<UInt64> {
      let expected = try answer(Self.schema, seed: seed)
      let found = try answer(Self.schema, seed: seed, .fixed(8))
      #expect(found.text == expected.text && found.tokens == expected.tokens)
    }
    let blue = try #require(model.tokenizer.encode("blue").first)
    let biased = try answer(.choices(["red", "blue"])) { $0.logitBias[Int(blue)] = 100 }
    #expect(biased.text == "blue")
  }

  @Test func `logits without a number are an error, also where the answer is being completed`() throws {
    var request = Request(prompt: .tokens([1]))
    (request.options.constraint, request.options.maxTokens) = (.regex("[a-z]{9}"), 9)
    let prepared = try PreparedRequest(request, for: model, threads: 1, images: model)
    var generator = Generator(model, threads: 1)
    var state = generator.prefill(try generator.embed(prepared), reservedRows: 0).generation
    let none = [Float](repeating: .nan, count: 512)
    #expect(throws: GenerationError.notANumber(tokenCount: 0)) { try state.accept(none) }
    // No allowed token is possible, so the shortest completion begins.
    _ = try state.accept([Float](repeating: -.infinity, count: 512))
    #expect(throws: GenerationError.notANumber(tokenCount: 1)) { try state.accept(none) }
  }

  @Test func `constraints that cannot be followed are refused`() throws {
    func error(_ constraint: OutputConstraint, maxTokens: Int = 64, stop: [String] = []) -> ConstraintError? {
      do {
        _ = try answer(constraint, maxTokens: maxTokens) { $0.stop = stop }
        return nil
      } catch RequestError.constraint(let error) { return error } catch { return nil }
    }
    #expect(error(.regex("a"), stop: ["b"]) == .stopStrings)
    #expect(error(.regex("[a-z]{40}!{20}"), maxTokens: 3).map(\.problem)?.contains("at most 3") ?? false)
    #expect(error(.jsonSchema("{")).map(\.problem)?.contains("not JSON") ?? false)
    #expect(error(.jsonSchema(#"{"type": "object", "not": {}}"#)).map(\.problem)?.contains("not") ?? false)
    #expect(error(.choices([])) != nil && error(.regex("(")) != nil)
  }
}
