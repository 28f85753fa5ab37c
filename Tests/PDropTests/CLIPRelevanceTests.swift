import BatchInference
import Foundation
import LLaVA
import ModelFormats
@testable import PDrop
import TestSupport
import Testing
import TokenDropping

/// CDPruner in sessions with CLIP's text encoder.
@Suite struct CLIPRelevanceTests {
  private static let clip = Goldens.path("clip/tiny-clip")

  private func load(
    _ source: CLIPSource, directory: String = Goldens.path("models/tiny-llava-1.5"),
    _ change: (inout VisionLanguageModel.Options) -> Void = { _ in }
  ) throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    options.clipModel = source
    change(&options)
    return try VisionLanguageModel(directory: directory, options: options)
  }

  private func request(_ question: String, image: String = "shapes_640x480.png", count: Int = 32) -> Request {
    var request = Request(
      question: question, images: [.file(Goldens.path("images/\(image)"))],
      policy: Preselected(Preselection(.cdPruner, .tokens(count)), then: NoDropping()))
    request.options.maxTokens = 2
    return request
  }

  private func report(_ model: VisionLanguageModel, _ request: Request, threads: Int = 2) throws -> RunReport {
    var session = try Session(model, request, threads: threads)
    while try session.next() != nil {}
    return session.report
  }

  /// A folder with links to a golden model and beside it or in it a folder of CLIP's files.
  private func folder(clip place: String, _ files: [String]) throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    let manager = FileManager.default
    for (name, files) in [
      ("model", try manager.contentsOfDirectory(atPath: Goldens.path("models/tiny-llava-1.5"))), (place, files),
    ] {
      try manager.createDirectory(at: folder.url.appending(path: name), withIntermediateDirectories: true)
      for file in files {
        let source = name == "model" ? "models/tiny-llava-1.5" : "clip/tiny-clip"
        try manager.createSymbolicLink(
          at: folder.url.appending(path: "\(name)/\(file)"), withDestinationURL: Goldens.url("\(source)/\(file)"))
      }
    }
    return folder
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation")) func `selects the tokens of the reference`() throws {
    let cases = try Goldens.json("clip/cases.json", as: CLIPCases.self)
    let model = try load(.directory(Self.clip))
    #expect(model.clipDirectory == Self.clip)
    for selection in cases.selections where selection.model == "tiny-llava-1.5" {
      let asked = request(cases.questions[selection.question].text, image: selection.image, count: selection.count)
      let report = try report(model, asked)
      #expect(report.selection?.images.first?.kept == selection.orders[0].sorted())
      #expect(report.policy.relevance == "clip")
      #expect(report.policy.description == "cdpruner 32 by CLIP's text encoder, then none")
      let one = try self.report(model, asked, threads: 1)
      #expect(one.selection == report.selection && one.tokens == report.tokens && one.flops == report.flops)
    }
  }

  @Test func `the instruction of benchmarks is not part of the question`() throws {
    let model = try load(.directory(Self.clip))
    let prepared = try ["", "\nAnswer the question using a single word or phrase."].map {
      try PreparedRequest(request("What is it?\($0)"), for: model, threads: 1, images: model)
    }
    #expect(prepared[0].question == prepared[1].question)
  }

  @Test(arguments: ["tiny-llava-1.5", "tiny-llava-next-vicuna"])
  func `operations and memory are counted`(name: String) throws {
    let model = try load(.directory(Self.clip), directory: Goldens.path("models/\(name)"))
    for question in ["What is it?", String(repeating: "one two three ", count: 40)] {
      let asked = request(question)
      let prepared = try PreparedRequest(asked, for: model, threads: 2, images: model)
      let selection = try #require(asked.policy.preselection)
      let expected = model.llava.configuration.selectionMultiplyAdds(
        selection, prepared.images.map(\.layout), question: prepared.question)
      #expect(try report(model, asked).flops.rank == 2 * expected)
      let weights = try #require(model.llava.clip).weightBytes
      #expect(weights > 300_000 && prepared.selectionByteCount > weights + 576 * 576 * 4)
      var other = asked
      other.policy = Preselected(Preselection(.divPrune, .tokens(32)), then: NoDropping())
      let without = try PreparedRequest(other, for: model, threads: 2, images: model)
      #expect(without.selectionByteCount == 576 * 576 * 4)
    }
  }

  @Test(arguments: ["model/clip", "clip"]) func `a folder clip in or beside the model is found`(place: String) throws {
    let names = ["config.json", "model.safetensors", "tokenizer.json"]
    let folder = try folder(clip: place, names)
    let found = try load(.automatic, directory: folder.path("model"))
    #expect(found.clipDirectory?.hasSuffix("/clip") == true)
    let unused = try load(.none, directory: folder.path("model"))
    #expect(unused.clipDirectory == nil)
    #expect(try report(unused, request("What is it?")).policy.relevance == "language-model")
  }

  @Test func `an incomplete folder is left out with a remark, and refused if it is given`() throws {
    let folder = try folder(clip: "clip", ["config.json", "model.safetensors"])
    let model = try load(.automatic, directory: folder.path("model"))
    #expect(model.clipDirectory == nil && model.warnings.isEmpty)
    #expect(model.remarks.contains { $0.contains("vocab.json and merges.txt") && $0.contains("cdpruner") })
    #expect(throws: ModelError.self) { _ = try load(.directory(folder.path("clip")), directory: folder.path("model")) }
  }

  @Test func `CLIP of another vision encoder is refused`() throws {
    let error = #expect(throws: ModelError.self) {
      _ = try load(.directory(Self.clip), directory: Goldens.path("models/tiny-llava-onevision"))
    }
    #expect(
      error?.problem.contains("expected the CLIP of the model's vision encoder (siglip of hidden size 144)") == true)
    #expect(error?.reason == .visionTower)
  }

  @Test func `a path without CLIP is refused with the remedy`() throws {
    let error = #expect(throws: ModelError.self) { _ = try load(.directory("/nowhere")) }
    #expect(error?.problem.hasPrefix("/nowhere: expected a CLIP directory with a text encoder") == true)
    let vision = #expect(throws: ModelError.self) { _ = try load(.directory(Goldens.path("models/tiny-llava-1.5"))) }
    #expect(vision?.problem.contains("model_type: expected 'clip', found") == true)
  }

  @Test func `the prompt cache tells both relevances apart`() throws {
    let folder = try TemporaryFolder()
    let asked = request("Is there a red circle?")
    var kept: [[Int]?] = []
    for source in [CLIPSource.directory(Self.clip), .none, .directory(Self.clip)] {
      let model = try load(source) { $0.promptCache = PromptCacheOptions(directory: folder.path("prompts")) }
      kept.append(try report(model, asked).selection?.images.first?.kept)
      #expect(model.promptCacheStatistics?.hits == (kept.count == 3 ? 1 : 0))
    }
    #expect(kept[0] != kept[1] && kept[0] == kept[2])
  }
}
