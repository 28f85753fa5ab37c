import Foundation
import ModelFormats
@testable import PDrop
import TestSupport
import Testing
import TokenDropping

/// The packings of published codes in sessions, caches and reports.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct PackingSessionTests {
  private static let image = Goldens.path("images/wide_1000x200.png")

  private func load(_ change: (inout VisionLanguageModel.Options) -> Void = { _ in }) throws -> VisionLanguageModel {
    try .golden("tiny-llava-next-vicuna", change)
  }

  private func request(
    _ selection: Preselection, question: String = "What is it?", then policy: any TokenDroppingPolicy = NoDropping()
  ) -> Request {
    var request = Request(
      question: question, images: [.file(Self.image)], policy: Preselected(selection, then: policy))
    request.options.maxTokens = 3
    return request
  }

  @Test func `CDPruner in its paper's packing selects the tokens of the reference in each view`() throws {
    let cases = try Goldens.json("clip/cases.json", as: CLIPCases.self)
    let model = try load { $0.clipModel = .directory(Goldens.path("clip/tiny-clip")) }
    let selections = cases.selections.filter { $0.model == "tiny-llava-next-vicuna" }
    #expect(selections.count >= 3)
    for golden in selections {
      let views = golden.orders.count
      let selection = Preselection(.cdPruner, .tokens(views * golden.count), packing: .patches)
      let report = try model.report(request(selection, question: cases.questions[golden.question].text))
      let image = try #require(report.selection?.images.first)
      #expect(image.count == views * 576)
      // The canvas of the golden image has one row of tiles.
      let expected = golden.orders.enumerated().flatMap { view, order in
        order.map { patch in
          view == 0 ? patch : 576 + patch / 24 * (views - 1) * 24 + (view - 1) * 24 + patch % 24
        }
      }
      #expect(image.kept == expected.sorted())
      #expect(report.policy.preselect == "cdpruner \(views * golden.count) packing patches")
    }
  }

  @Test func `caches keep the packings apart`() throws {
    let folder = try TemporaryFolder()
    let plain = try load { $0.precision = .int8 }
    let cached = try load {
      $0.precision = .int8
      $0.featureCache = FeatureCacheOptions(directory: folder.path("features"))
      $0.promptCache = PromptCacheOptions(directory: folder.path("prompts"))
    }
    let selections = [
      Preselection(.scope(), .tokens(60)), Preselection(.scope(), .tokens(60), packing: .patches),
      Preselection(.divPrune, .tokens(60)), Preselection(.divPrune, .tokens(60), packing: .sequence),
    ]
    var kept: Set<[Int]> = []
    for _ in 0..<2 {
      for selection in selections {
        let asked = request(selection, then: PyramidDrop())
        let (expected, found) = (try plain.report(asked), try cached.report(asked))
        #expect(found.tokens == expected.tokens && found.selection == expected.selection, "\(selection.label)")
        #expect(found.flops == expected.flops, "\(selection.label)")
        kept.insert(found.selection?.images[0].kept ?? [])
      }
    }
    #expect(kept.count == selections.count)
    #expect(cached.featureCacheStatistics?.written == 2 && cached.featureCacheStatistics?.damaged == 0)
    #expect(cached.promptCacheStatistics?.hits == 4 && cached.promptCacheStatistics?.damaged == 0)
    // The features of all patches from the cache, for another question.
    let reopened = try load {
      $0.precision = .int8
      $0.featureCache = FeatureCacheOptions(directory: folder.path("features"))
    }
    let asked = request(selections[1], question: "What else?")
    #expect(try reopened.report(asked).selection == plain.report(asked).selection)
    #expect(reopened.featureCacheStatistics?.hits == 1)
  }

  @Test func `a kept-token map shows all tiles, without newlines`() throws {
    var asked = request(Preselection(.scope(), .tokens(90), packing: .patches))
    asked.recordsTensors = true
    let map = try #require(try Session(load(), asked, threads: 2).keptMaps.first)
    #expect(map.newlines.isEmpty && map.tokenCount.isMultiple(of: 576) && map.stages.first?.keptCount == 90)
    #expect(map.regions.map(\.rows) == [24, 24] && map.regions[1].columns == 72)
  }

  @Test func `an image that was encoded for another packing is refused`() throws {
    let model = try load()
    var asked = request(Preselection(.scope(), .tokens(20), packing: .patches))
    asked.images = [.features(try model.encode(.file(Self.image), forSelection: true, threads: 2))]
    #expect(throws: RequestError.generation(.otherPacking(.patches))) { _ = try Session(model, asked, threads: 1) }
    asked.images = [
      .features(try model.encode(.file(Self.image), forSelection: true, packing: .patches, threads: 2))
    ]
    #expect(try model.report(asked).selection?.images[0].kept.count == 20)
    asked.policy = PyramidDrop()
    #expect(throws: RequestError.generation(.otherPacking(.unpadded))) { _ = try Session(model, asked, threads: 1) }
  }

  @Test func `the same image without tiles has no other packing`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5"))
    let reports = try Preselection.Packing.allCases.map {
      try model.report(request(Preselection(.divPrune, .tokens(20), packing: $0)))
    }
    #expect(reports.allSatisfy { $0.selection == reports[0].selection && $0.tokens == reports[0].tokens })
  }

  @Test func `a model that reduces its map of tiles refuses the packing`() throws {
    let model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-onevision"))
    let asked = request(Preselection(.divPrune, .tokens(20), packing: .patches))
    #expect(throws: RequestError.generation(.noPacking(modelType: "llava_onevision"))) {
      _ = try Session(model, asked, threads: 1)
    }
  }
}
