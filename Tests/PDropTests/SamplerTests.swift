import Foundation
import Kernels
import PDrop
import TestSupport
import Testing

/// The choice of the next token from six logits, through `GenerationState.accept`.
@Suite struct SamplerTests {
  /// Probabilities at temperature 1; the order of the tokens is not that of their probabilities.
  private static let probabilities = [0.1, 0.4, 0.01, 0.3, 0.04, 0.15]
  /// Their logarithms, `[N]`, plus a constant that must not matter.
  private static let logits = probabilities.map { Float(log($0) + 3) }
  /// Equal logits: after each token the cumulative probability is a multiple of 1/6, without rounding.
  private static let equal = [Float](repeating: 2, count: 6)

  /// Sampling options and the tokens that they leave, worked out by hand.
  struct Case: CustomTestStringConvertible, Sendable {
    var name: String
    var logits = SamplerTests.logits
    var temperature = 1.0
    var topK = 0
    var topP = 1.0
    var kept: Set<Int>
    var testDescription: String { name }

    /// Softmax of the kept logits divided by the temperature.
    var expected: [Int: Double] {
      let weights = kept.map { ($0, exp(Double(logits[$0]) / temperature)) }
      let sum = weights.reduce(0) { $0 + $1.1 }
      return Dictionary(uniqueKeysWithValues: weights.map { ($0, $1 / sum) })
    }
  }

  static let cases: [Case] = [
    Case(name: "all tokens", kept: [0, 1, 2, 3, 4, 5]),
    Case(name: "temperature 0.5", temperature: 0.5, kept: [0, 1, 2, 3, 4, 5]),
    Case(name: "temperature 2", temperature: 2, kept: [0, 1, 2, 3, 4, 5]),

    Case(name: "top-k 1", topK: 1, kept: [1]),
    Case(name: "top-k 3", topK: 3, kept: [1, 3, 5]),
    Case(name: "top-k 6", topK: 6, kept: [0, 1, 2, 3, 4, 5]),
    Case(name: "top-k 7, more than there are", topK: 7, kept: [0, 1, 2, 3, 4, 5]),

    // The cumulative probabilities are 0.4, 0.7, 0.85, 0.95, 0.99 and 1.
    Case(name: "top-p 0, which keeps one token", topP: 0, kept: [1]),
    Case(name: "top-p 0.39", topP: 0.39, kept: [1]),
    Case(name: "top-p 0.41", topP: 0.41, kept: [1, 3]),
    Case(name: "top-p 0.69", topP: 0.69, kept: [1, 3]),
    Case(name: "top-p 0.71", topP: 0.71, kept: [1, 3, 5]),
    Case(name: "top-p 0.94", topP: 0.94, kept: [0, 1, 3, 5]),
    Case(name: "top-p 0.96", topP: 0.96, kept: [0, 1, 3, 4, 5]),
    Case(name: "top-p 0.995", topP: 0.995, kept: [0, 1, 2, 3, 4, 5]),

    Case(name: "top-p 0.5 of equal tokens, reached by the third", logits: equal, topP: 0.5, kept: [0, 1, 2]),
    Case(name: "top-p just below 0.5 of equal tokens", logits: equal, topP: 0.5.nextDown, kept: [0, 1, 2]),
    Case(name: "top-p just above 0.5 of equal tokens", logits: equal, topP: 0.5.nextUp, kept: [0, 1, 2, 3]),
    Case(name: "top-k 4 of equal tokens", logits: equal, topK: 4, kept: [0, 1, 2, 3]),
    Case(name: "a tie at the end of top-k 3", logits: [0, 1, 2, 1, 2, 1], topK: 3, kept: [1, 2, 4]),
    // The weights are 1, 1 and three times 1/e.
    Case(name: "a tie at the end of top-p 0.75", logits: [-9, 1, 2, 1, 2, 1], topP: 0.75, kept: [1, 2, 4]),

    // At temperature 2 the cumulative probabilities are 0.29, 0.54 and 0.72; at temperature 1 the second reaches 0.6.
    Case(name: "temperature before top-p", temperature: 2, topP: 0.6, kept: [1, 3, 5]),
    // Of the first three tokens, 0.85 together, the first two have 0.82; of all six they have 0.7.
    Case(name: "top-k before top-p", topK: 3, topP: 0.75, kept: [1, 3]),
    // The first two tokens have 0.75 of the first three at temperature 2, and 0.82 at temperature 1.
    Case(name: "temperature, top-k, top-p", temperature: 2, topK: 3, topP: 0.8, kept: [1, 3, 5]),

    Case(name: "a logit that is not a number", logits: [0, .nan, 1, 1, .nan, 0], kept: [0, 2, 3, 5]),
    Case(
      name: "top-k 2 with a logit that is not a number", logits: [0, .nan, 1, 1, .nan, 0], topK: 2, kept: [2, 3]),
    Case(name: "a logit of minus infinity", logits: [0, -.infinity, 1, 1, -.infinity, 0], kept: [0, 2, 3, 5]),
  ]

  /// 20,000 samples; four standard errors of a frequency are at most 0.014.
  @Test(arguments: cases)
  func `samples the kept tokens with their exact probabilities`(_ row: Case) throws {
    let (seeds, count) = (1...4, 5000)
    var frequencies: [Int: Double] = [:]
    for seed in seeds {
      let tokens = try sample(row.logits, count: count) {
        ($0.temperature, $0.topK, $0.topP, $0.seed) = (row.temperature, row.topK, row.topP, UInt64(seed))
      }
      for token in tokens { frequencies[token, default: 0] += 1 / Double(seeds.count * count) }
    }
    #expect(Set(frequencies.keys) == row.kept)
    for (token, probability) in row.expected {
      let standardError = (probability * (1 - probability) / Double(seeds.count * count)).squareRoot()
      let difference = abs(frequencies[token, default: 0] - probability)
      #expect(difference <= 4 * standardError + 1e-9, "token \(token): \(difference) off \(probability)")
    }
  }

  static let maxima: [(logits: [Float], first: Int)] = [
    (logits, 1), (equal, 0), ([0, 3, 1, 3, 3, 2], 1), ([.nan, 0, 1, .nan, 1, 0], 2), ([-5, -2, -3, -2, -4, -6], 1),
    ([0, .infinity, 1, .infinity, 2, -.infinity], 1), ([-.infinity, -.infinity, -1, -.infinity, -1, -2], 2),
  ]

  @Test(arguments: maxima)
  func `temperature 0 takes the first of the largest logits`(logits: [Float], expected: Int) throws {
    let tokens = try sample(logits, count: 3) { ($0.temperature, $0.topK, $0.topP, $0.seed) = (0, 3, 0.5, 7) }
    #expect(tokens == [expected, expected, expected])
  }

  /// Weights relative to infinity are not numbers, so the choice is greedy.
  @Test func `a logit of infinity is taken at any temperature`() throws {
    #expect(
      try sample([0, .infinity, 1, .infinity, 2, 3], count: 20) { $0.temperature = 5 } == Array(repeating: 1, count: 20)
    )
  }

  @Test(arguments: [0, 1.0])
  func `logits without a number are an error`(temperature: Double) throws {
    var state = try generation { $0.temperature = temperature }
    let none = [Float](repeating: .nan, count: 6)
    #expect(throws: GenerationError.notANumber(tokenCount: 0)) { try state.accept(none) }
    for _ in 0..<3 { _ = try state.accept(Self.logits) }
    #expect(throws: GenerationError.notANumber(tokenCount: 3)) { try state.accept(none) }
    #expect(state.report.tokens.count == 3)
  }

  @Test func `a seed reproduces its samples, and another gives others`() throws {
    func samples(_ seed: UInt64) throws -> [Int] {
      try sample(Self.logits, count: 200) { ($0.temperature, $0.topK, $0.seed) = (1, 0, seed) }
    }
    for seed in [0, 1, .max] as [UInt64] { #expect(try samples(seed) == samples(seed)) }
    #expect(try Set([0, 1, 2, 3, .max].map(samples)).count == 5)
  }

  // MARK: - Runs

  private let model: VisionLanguageModel

  init() throws { model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5")) }

  /// Tokens chosen one after the other from the same logits, `[N]`.
  private func sample(
    _ logits: [Float], count: Int, _ change: (inout GenerationOptions) -> Void
  ) throws -> [Int] {
    var state = try generation(change)
    for _ in 0..<count { _ = try state.accept(logits) }
    return state.report.tokens
  }

  /// The generation state after a prompt of one token, whose own logits are not used.
  private func generation(_ change: (inout GenerationOptions) -> Void) throws -> GenerationState {
    var request = Request(prompt: .tokens([1]))
    (request.options.maxTokens, request.options.contextLength) = (1 << 20, 1 << 21)
    request.options.ignoresEOS = true
    change(&request.options)
    let prepared = try PreparedRequest(request, for: model, threads: 1, images: model)
    var generator = Generator(model, threads: 1)
    return generator.prefill(try generator.embed(prepared), reservedRows: 0).generation
  }
}
