import Foundation
import Kernels
import LLaVA
import PDrop
import TestSupport
import Testing
import TokenDropping

/// Drafts by n-grams.
@Suite struct NGramIndexTests {
  private func index(_ tokens: [Int]) -> NGramIndex {
    var index = NGramIndex()
    for token in tokens { index.append(token) }
    return index
  }

  private func continuation(_ index: NGramIndex, _ text: [Int], limit: Int = 3) -> [Int]? {
    index.continuation(of: text[...], limit: limit).map { Array($0.tokens) }
  }

  @Test func `continues the last occurrence of the longest n-gram`() {
    let tokens = [1, 2, 3, 4, 9, 2, 3, 4, 8, 7, 1, 2, 3, 4]
    // Before its end, 1 2 3 4 occurred at the beginning; 2 3 4 occurred later.
    #expect(continuation(index(tokens), tokens) == [9, 2, 3])
    #expect(continuation(index(tokens), [2, 3, 4]) == [8, 7, 1])
    #expect(continuation(index(tokens), [5, 3, 4], limit: 1) == [8])
  }

  @Test func `the end of a text has no continuation of its own`() {
    #expect(continuation(index([1, 2, 3]), [2, 3]) == nil)
    #expect(continuation(index([1]), [1]) == nil)
    #expect(continuation(NGramIndex(), [1, 2]) == nil)
    #expect(continuation(index([1, 2, 3]), [2, 1]) == nil)
  }

  @Test func `sequences do not run into each other`() {
    var index = NGramIndex()
    index.add([1, 2, 3])
    index.add([4, 5, 6])
    #expect(continuation(index, [1, 2]) == [3])
    #expect(continuation(index, [2, 3]) == nil)
    #expect(continuation(index, [3, 4]) == nil)
  }

  @Test func `a repeated text is drafted as often as it fits`() {
    let tokens = [7, 8, 7, 8, 7, 8]
    #expect(continuation(index(tokens), tokens, limit: 8) == [7, 8])
  }
}

/// Speculative decoding against decoding one token at a time.
@Suite struct SpeculationTests {
  private static func model(_ precision: Precision = .f32) throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    options.precision = precision
    return try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"), options: options)
  }

  @Test(arguments: [Precision.f32, .bf16, .int8])
  func `rows of one cache have the bits of decoding them one by one`(_ precision: Precision) throws {
    let model = try Self.model(precision)
    let request = Request(prompt: .tokens([1, 5, 9, 17, 4]))
    let prepared = try PreparedRequest(request, for: model, threads: 2, images: model)
    var generator = Generator(model, threads: 2)
    let first = generator.prefill(try generator.embed(prepared), reservedRows: 16).generation.cache
    let (second, third) = (first.copy(rows: 32), first.copy(rows: 32))
    let tokens = [3, 8, 11, 8, 30, 2, 14]
    let together = generator.decode(tokens + [21], tokens.map { _ in first } + [third])
    for (row, token) in tokens.enumerated() {
      let alone = generator.decode([token], [second])
      #expect(alone.rowValues(0).map(\.bitPattern) == together.rowValues(row).map(\.bitPattern), "row \(row)")
    }
    #expect(first.lengths == second.lengths)
    // After rows are removed, others take their place.
    first.removeLast(3)
    let alone = second.copy(rows: 32)
    alone.removeLast(3)
    let replaced = generator.decode([6], [first]).rowValues(0).map(\.bitPattern)
    #expect(replaced == generator.decode([6], [alone]).rowValues(0).map(\.bitPattern))
  }

  private struct Run: Equatable {
    var (tokens, text, cache): ([Int], String, [Int])
    var finish: RunReport.FinishReason?

    init(_ model: VisionLanguageModel, _ request: Request, _ speculation: Speculation) throws {
      var session = try Session(model, request, threads: 2, speculation: speculation)
      var text = ""
      while let part = try session.next() { text += part }
      (tokens, self.text, cache) = (session.report.tokens, text, session.report.cacheLengthsAtEnd)
      finish = session.report.finishReason
    }
  }

  /// Two tokens are so likely that drafts are accepted, and with sampling also rejected.
  @Test(arguments: isOptimized ? [Speculation.auto, .fixed(1), .fixed(4), .fixed(15)] : [.fixed(4)], [0, 0.8])
  func `answers do not depend on it`(speculation: Speculation, temperature: Double) throws {
    let model = try Self.model()
    var accepted = 0
    for policy in [PyramidDrop(), NoDropping()] as [any TokenDroppingPolicy] {
      for seed in 0..<(isOptimized ? 3 : 1) as Range<UInt64> {
        var request = Request(
          question: "one two one two one two \(seed)", images: [.file(Goldens.path("images/shapes_640x480.png"))],
          policy: policy)
        (request.options.temperature, request.options.seed) = (temperature, seed)
        request.options.maxTokens = isOptimized ? 48 : 20
        request.options.ignoresEOS = true
        request.options.topK = 3
        request.options.logitBias = [40: 100, 41: 100]
        request.options.stop = ["zzzz"]
        #expect(try Run(model, request, speculation) == Run(model, request, .off))
        var session = try Session(model, request, threads: 2, speculation: speculation)
        while try session.next() != nil {}
        accepted += session.speculation.accepted
      }
    }
    #expect(accepted > 0 || speculation == .auto)
  }

  @Test func `further answers to a prompt equal those of sessions with their seeds`() throws {
    let model = try Self.model()
    var request = Request(prompt: .tokens([1, 5, 9, 17, 4]))
    (request.options.maxTokens, request.options.temperature, request.options.seed) = (12, 1, 7)
    request.options.ignoresEOS = true
    let alone = try ([7, 8, 9] as [UInt64]).map { seed in
      var request = request
      request.options.seed = seed
      return try Run(model, request, .off).tokens
    }
    request.options.answerCount = 3
    for speculation in [Speculation.off, .fixed(3)] {
      var session = try Session(model, request, threads: 2, speculation: speculation)
      var answers: [[Int]] = []
      repeat {
        while try session.next() != nil {}
        answers.append(session.report.tokens)
      } while session.startNextAnswer()
      #expect(answers == alone)
    }
  }
}
