import Foundation
import ImageProcessing
import LLaVA
import ModelFormats
import ModelTestSupport
@testable import PDrop
import TestSupport
import Testing
import TokenDropping

/// Selections before the decoder in sessions.
@Suite struct PreselectionTests {
  private static let methods = Preselection.Method.all
  private static let image = Goldens.path("images/shapes_640x480.png")

  private func load(_ name: String = "tiny-llava-1.5", _ change: (inout VisionLanguageModel.Options) -> Void = { _ in })
    throws -> VisionLanguageModel
  {
    var options = VisionLanguageModel.Options()
    change(&options)
    return try VisionLanguageModel(directory: Goldens.path("models/\(name)"), options: options)
  }

  private func request(_ policy: any TokenDroppingPolicy, question: String = "What is in the image?") -> Request {
    var request = Request(question: question, images: [.file(Self.image)], policy: policy)
    request.options.maxTokens = 4
    return request
  }

  private func report(_ model: VisionLanguageModel, _ request: Request, threads: Int = 2) throws -> RunReport {
    var session = try Session(model, request, threads: threads)
    while try session.next() != nil {}
    return session.report
  }

  @Test(
    .enabled(if: isOptimized, "slow without optimisation"), arguments: methods,
    ["tiny-llava-1.5", "tiny-llava-next-vicuna"])
  func `a selection of all tokens is none, bit for bit`(method: Preselection.Method, name: String) throws {
    let model = try load(name)
    func logits(_ policy: any TokenDroppingPolicy) throws -> [Float] {
      try Session(model, request(policy), threads: 2).logits
    }
    for policy in [NoDropping(), PyramidDrop()] as [any TokenDroppingPolicy] {
      let all = Preselected(Preselection(method, .share(1)), then: policy)
      #expect(try logits(all) == logits(policy))
    }
  }

  @Test(
    .enabled(if: isOptimized, "slow without optimisation"), arguments: methods,
    ["tiny-llava-1.5", "tiny-llava-next-vicuna"])
  func `the planned number of tokens enters the decoder, whatever the threads`(
    method: Preselection.Method, name: String
  ) throws {
    let model = try load(name)
    let share = Preselection(method, .share(1e-6))
    #expect(share.tokenCount(of: 576) == 1 && share.tokenCount(of: 0) == 0)
    for (tokens, budget) in [(96, Preselection.Budget.view), (77, .view), (50, .image), (1, .view), (0, .view)] {
      let selection = Preselection(method, .tokens(tokens), budget: budget)
      let asked = request(Preselected(selection, then: PyramidDrop()))
      let report = try report(model, asked)
      let image = try #require(report.selection?.images.first)
      let count = selection.tokenCount(of: image.count)
      #expect(image.kept.count == count && image.kept == Array(Set(image.kept)).sorted())
      #expect(report.visualTokensPerStage == [count, count / 2, count / 4, count / 8])
      #expect(report.stages.allSatisfy { Set($0.images[0].kept).isSubset(of: image.kept) })
      #expect(report.selection?.method == method.name && report.policy.preselect?.hasPrefix(method.name) == true)
      let one = try self.report(model, asked, threads: 1)
      #expect(one.selection == report.selection && one.tokens == report.tokens && one.flops == report.flops)
    }
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"))
  func `each row of tiles keeps its newline with its first token`() throws {
    let model = try load("tiny-llava-next-vicuna")
    for tokens in [3, 60, 400, 1500] {
      let selection = Preselection(.scope(), .tokens(tokens))
      var asked = request(Preselected(selection, then: NoDropping()))
      asked.recordsTensors = true
      let session = try Session(model, asked, threads: 2)
      let map = try #require(session.keptMaps.first)
      let stage = try #require(map.stages.first)
      #expect(stage.layer == 0 && stage.keptCount == tokens)
      var rows: Set<Int> = []
      var newlineRows: Set<Int> = []
      for case (let place?, let token) in zip(map.places, stage.tokens) where token.isKept && place.region == 1 {
        if place.column == map.regions[1].columns { newlineRows.insert(place.row) } else { rows.insert(place.row) }
      }
      #expect(rows == newlineRows)
    }
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"), arguments: methods, [Preselection.Budget.view, .image])
  func `counted operations equal the closed formula`(
    method: Preselection.Method, budget: Preselection.Budget
  ) throws {
    let model = try load("tiny-llava-next-vicuna")
    let selection = Preselection(method, .tokens(40), budget: budget)
    let prepared = try PreparedRequest(
      request(Preselected(selection, then: NoDropping())), for: model, threads: 2, images: model)
    let expected =
      2
      * model.llava.configuration.selectionMultiplyAdds(
        selection, prepared.images.map(\.layout), question: prepared.question)
    let report = try report(model, prepared.request)
    #expect(report.flops.rank == expected)
    #expect(report.baselineFlops > 10 * report.flops.prefill)
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"))
  func `methods that use the question select by it, others once for an image`() throws {
    let model = try load()
    for method in Self.methods {
      let policy = Preselected(Preselection(method, .tokens(24)), then: NoDropping())
      let kept = try ["a red circle", "the last of many words"].map {
        try report(model, request(policy, question: $0)).selection?.images[0].kept
      }
      #expect((kept[0] != kept[1]) == method.usesQuestion, "\(method.name)")
    }
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation")) func `a target determines the number of tokens`() throws
  {
    let model = try load()
    for (method, policy) in [
      (Preselection.Method.scope(), NoDropping()), (.mmTok, PyramidDrop()), (.localGlobal, NoDropping()),
    ] as [(Preselection.Method, any TokenDroppingPolicy)] {
      let targeted = TargetedPreselection(method, then: policy, .flops(ratio: 0.25))
      let report = try report(model, request(targeted))
      let share = Double(report.flops.prefill + report.flops.rank) / Double(report.baselineFlops)
      #expect(share <= 0.25 && share > 0.22, "\(method.name) \(share)")
      #expect(report.policy.target == "flops 0.25" && report.policy.preselect?.hasPrefix("\(method.name) ") == true)
    }
    let impossible = request(TargetedPreselection(.divPrune, then: NoDropping(), .flops(ratio: 0.001)))
    let error = #expect(throws: RequestError.self) { _ = try Session(model, impossible, threads: 1) }
    #expect(error.map { "\($0)".contains("divprune without any token") } == true)
  }

  @Test(
    .enabled(if: isOptimized, "slow without optimisation"), arguments: ["tiny-llava-1.5", "tiny-llava-next-vicuna"])
  func `feature cache and prompt cache give the same answers`(name: String) throws {
    let folder = try TemporaryFolder()
    let plain = try load(name) { $0.precision = .int8 }
    let cached = try load(name) {
      $0.precision = .int8
      $0.featureCache = FeatureCacheOptions(directory: folder.path("features"))
      $0.promptCache = PromptCacheOptions(directory: folder.path("prompts"))
    }
    // Features without what a selection needs are in the cache first.
    _ = try report(cached, request(PyramidDrop()))
    for method in Self.methods {
      let policy = Preselected(Preselection(method, .tokens(32)), then: PyramidDrop())
      for question in ["What is it?", "What is it?", "What else?"] {
        let asked = request(policy, question: question)
        let (expected, found) = (try report(plain, asked), try report(cached, asked))
        #expect(found.tokens == expected.tokens && found.selection == expected.selection, "\(method.name)")
        #expect(found.stages == expected.stages && found.flops == expected.flops, "\(method.name)")
      }
    }
    let features = try #require(cached.featureCacheStatistics)
    #expect(features.written == 2 && features.damaged == 0)
    let prompts = try #require(cached.promptCacheStatistics)
    // The second of three is the same prompt, the third has the same prefix where the question is not used.
    #expect(prompts.hits == Self.methods.count && prompts.damaged == 0)
    #expect(prompts.prefixHits == Self.methods.count { !$0.usesQuestion } || prompts.prefixHits == 0)
  }

  @Test func `an image that was encoded for selections serves all policies`() throws {
    let model = try load()
    let policy = Preselected(Preselection(.scope(), .tokens(20)), then: NoDropping())
    let direct = try report(model, request(policy))
    var asked = request(policy)
    asked.images = [.features(try model.encode(.file(Self.image), forSelection: true, threads: 2))]
    let reused = try report(model, asked)
    #expect(reused.tokens == direct.tokens && reused.selection == direct.selection)
    asked.images = [.features(try model.encode(.file(Self.image), threads: 2))]
    #expect(throws: RequestError.generation(.notEncodedForSelection)) { _ = try Session(model, asked, threads: 1) }
  }

  @Test func `a question without an image is answered, also from the prompt cache`() throws {
    let folder = try TemporaryFolder()
    let model = try load { $0.promptCache = PromptCacheOptions(directory: folder.path("prompts")) }
    let policies: [any TokenDroppingPolicy] = [
      Preselected(Preselection(.scope(), .tokens(8)), then: PyramidDrop()),
      TargetedPreselection(.mmTok, then: NoDropping(), .flops(ratio: 0.25)),
    ]
    for policy in policies {
      var asked = Request(question: "What is it?", policy: policy)
      asked.options.maxTokens = 3
      let first = try report(model, asked)
      #expect(try report(model, asked).tokens == first.tokens && first.selection == nil)
    }
    #expect(model.promptCacheStatistics?.damaged == 0 && (model.promptCacheStatistics?.hits ?? 0) >= 2)
  }

  @Test func `sizes out of range are refused`() throws {
    let model = try load()
    for size in [Preselection.Size.tokens(-1), .share(1.5), .share(.nan)] {
      let asked = request(Preselected(Preselection(.scope(), size), then: NoDropping()))
      #expect(throws: RequestError.self) { _ = try Session(model, asked, threads: 1) }
    }
  }

  @Test func `the question of MMTok is its keywords`() {
    #expect(MMTokKeywords("What is the colour of the bus?").words == ["colour", "of", "bus"])
    #expect(
      MMTokKeywords("What is it? Answer the question using a single word or phrase.").words == ["What", "is", "it?"])
    #expect(MMTokKeywords("").words == [])
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"), arguments: Recipe.all.map(\.name))
  func `every recipe answers`(name: String) throws {
    let recipe = try #require(Recipe.all.first { $0.name == name })
    let report = try report(load(), request(recipe.policy))
    #expect(report.averageVisualTokens > 0 && !report.tokens.isEmpty)
  }
}
