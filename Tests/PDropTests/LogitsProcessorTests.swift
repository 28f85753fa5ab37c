import Foundation
import Kernels
import PDrop
import TestSupport
import Testing

/// Bias, penalties and the choice of candidates.
@Suite struct LogitsProcessorTests {
  private struct Case: Decodable {
    var logits: [Float]
    /// The tokens so far.
    var tokens: [Int]
    var temperature: Double
    var topK: Int
    var topP: Double
    var minP: Double
    var repetitionPenalty: Double
    var kept: [Int]
    var probabilities: [Double]
  }

  /// Fixtures by transformers; probabilities differ by the rounding of f32 logits divided by the temperature.
  @Test func `leaves the tokens of transformers with their probabilities`() throws {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let cases = try decoder.decode(
      [Case].self, from: Data(contentsOf: Fixtures.url("sampling/logits_processors.json")))
    try #require(cases.count == 120)
    for (index, row) in cases.enumerated() {
      var options = GenerationOptions()
      options.temperature = row.temperature
      (options.topK, options.topP, options.minP) = (row.topK, row.topP, row.minP)
      (options.repeatPenalty, options.repeatLastN) = (row.repetitionPenalty, -1)
      var logits = row.logits
      LogitsProcessor(options, prompt: row.tokens)(&logits)
      let best = try #require(indexOfMaximum(logits))
      let candidates = Sampler(options).candidates(logits, best: best).sorted { $0.token < $1.token }
      let sum = candidates.reduce(0) { $0 + $1.weight }
      #expect(candidates.map(\.token) == row.kept, "case \(index)")
      for (candidate, expected) in zip(candidates, row.probabilities) {
        #expect(abs(candidate.weight / sum - expected) < 2e-5, "case \(index), token \(candidate.token)")
      }
    }
  }

  private func processed(
    _ logits: [Float], prompt: [Int] = [], answer: [Int] = [], _ change: (inout GenerationOptions) -> Void
  ) -> [Float] {
    var options = GenerationOptions()
    change(&options)
    var processor = LogitsProcessor(options, prompt: prompt)
    for token in answer { processor.append(token) }
    var logits = logits
    processor(&logits)
    return logits
  }

  @Test func `presence and frequency penalties count the answer alone`() {
    let logits = processed([1, 2, 3, 4], prompt: [3, 3], answer: [1, 0, 1]) {
      ($0.presencePenalty, $0.frequencyPenalty) = (0.5, 0.25)
    }
    #expect(logits == [0.25, 1, 3, 4])
  }

  @Test func `the repetition penalty applies once to each of the last tokens`() {
    // The window of three has the tokens 2, 1 and 1.
    let logits = processed([4, 4, -4, 4], prompt: [0, 2], answer: [1, 1]) {
      ($0.repeatPenalty, $0.repeatLastN) = (2, 3)
    }
    #expect(logits == [4, 2, -8, 4])
    #expect(processed([4, 4], prompt: [0]) { ($0.repeatPenalty, $0.repeatLastN) = (2, 0) } == [4, 4])
    #expect(processed([4, 4], prompt: [0, 1, 1, 1]) { ($0.repeatPenalty, $0.repeatLastN) = (2, -1) } == [2, 2])
  }

  @Test func `a bias is added, also to a token that is penalized, and ids outside the vocabulary have none`() {
    let logits = processed([1, 2], answer: [1]) {
      $0.logitBias = [1: 4, 0: -.infinity, 2: 1]
      $0.repeatPenalty = 2
    }
    #expect(logits == [-.infinity, 3])
  }
}

/// Strings that end an answer.
@Suite struct StopStringTests {
  /// The texts that are released after each part and at the end.
  private func released(_ parts: [String], stop: [String]) -> (parts: [String], end: String, isFound: Bool) {
    var search = StopStrings(stop)
    let texts = parts.map { search.push($0) }
    return (texts, search.finish(), search.isFound)
  }

  @Test func `holds text back only while it could begin a stop string`() {
    let result = released(["a", "b", "c", "abd"], stop: ["abd"])
    #expect(result.parts == ["", "", "abc", ""])
    #expect(result.end.isEmpty && result.isFound)
  }

  @Test func `releases what was held back at the end`() {
    let result = released(["one\n", "tw"], stop: ["\n\n", "two"])
    #expect(result.parts == ["one", "\n"] && result.end == "tw" && !result.isFound)
  }

  @Test func `the first stop string counts, and nothing follows it`() {
    let result = released(["x END y STOP", "z"], stop: ["STOP", "END"])
    #expect(result.parts == ["x ", ""] && result.end.isEmpty && result.isFound)
  }

  @Test func `overlapping beginnings are found`() {
    let result = released(["a", "a", "a", "b"], stop: ["aab"])
    #expect(result.parts.joined() == "a" && result.isFound)
  }

  @Test func `texts are compared by bytes`() {
    #expect(!released(["e\u{301}"], stop: ["\u{E9}"]).isFound)
    #expect(released(["caf\u{E9}!"], stop: ["\u{E9}"]).parts == ["caf"])
  }

  /// Parts at every place give the same text.
  @Test(arguments: ["aabab#ab##b", "###", "ab", "x\u{1F600}#\u{1F600}##y"])
  func `does not depend on the parts`(text: String) {
    let stop = ["##", "#b"]
    let expected = text.prefix(
      upTo: stop.compactMap { text.range(of: $0)?.lowerBound }.min() ?? text.endIndex)
    var generator = SeededGenerator(1)
    for _ in 0..<50 {
      var (parts, part): ([String], String) = ([], "")
      for character in text {
        part.append(character)
        if Bool.random(using: &generator) { (parts, part) = (parts + [part], "") }
      }
      let result = released(parts + [part], stop: stop)
      #expect(result.parts.joined() + result.end == expected)
    }
  }
}

/// Log-probabilities of OpenAI's form.
@Suite struct TokenLogprobTests {
  @Test func `are those of the model's own logits`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    var request = Request(prompt: .tokens([1]))
    request.options.logprobs = 2
    request.options.logitBias = [0: 100]
    request.options.repeatPenalty = 1.5
    let prepared = try PreparedRequest(request, for: model, threads: 1, images: model)
    var generator = Generator(model, threads: 1)
    var state = generator.prefill(try generator.embed(prepared), reservedRows: 0).generation
    let probabilities = [0.1, 0.4, 0, 0.3, 0.05, 0.15]
    _ = try state.accept(probabilities.map { Float(log($0) - 7) })
    let logprobs = try #require(state.report.logprobs)
    try #require(logprobs.count == 1)
    #expect(logprobs[0].id == 0 && abs(logprobs[0].logprob - log(0.1)) < 1e-6)
    #expect(logprobs[0].topLogprobs.map(\.id) == [1, 3])
    #expect(abs(logprobs[0].topLogprobs[0].logprob - log(0.4)) < 1e-6)
  }

  @Test func `an impossible token has the lowest log-probability, and JSON has a number`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    var request = Request(prompt: .tokens([1]))
    request.options.logprobs = 3
    let prepared = try PreparedRequest(request, for: model, threads: 1, images: model)
    var generator = Generator(model, threads: 1)
    var state = generator.prefill(try generator.embed(prepared), reservedRows: 0).generation
    _ = try state.accept([-.infinity, 3, -.infinity, .nan])
    let logprob = try #require(state.report.logprobs?.first)
    #expect(logprob.topLogprobs.map(\.logprob) == [0, TokenLogprob.minimum, TokenLogprob.minimum])
    _ = try JSONEncoder().encode(logprob)
  }
}
