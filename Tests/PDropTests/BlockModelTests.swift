import Foundation
import Kernels
import LLaVA
import ModelTestSupport
import PDrop
import TestSupport
import Testing
import TokenDropping

/// Properties of models with block-quantized weights that hold bit for bit.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct BlockModelTests {
  /// Stored blocks that the kernels read, and such that are converted.
  static let cases = [("vicuna-64", "q4_0_2023"), ("mistral-256", "q4_k_m"), ("mistral-256", "q2_k")]

  private func model(_ folder: String, _ name: String) throws -> VisionLanguageModel {
    let model = try GGUFGoldenCase(folder, name).load(.int4)
    #expect(model.precision.computeType.decoder == .blocks)
    return model
  }

  private func trace(
    _ model: VisionLanguageModel, _ policy: any TokenDroppingPolicy, threads: Int = 2
  ) throws -> Trace {
    var request = Request(
      prompt: .rendered("USER: <image>\nWhat is it? ASSISTANT:"),
      images: [.file(Goldens.path("images/shapes_640x480.png"))], policy: policy)
    request.options.maxTokens = 6
    request.options.ignoresEOS = true
    request.recordsTensors = true
    return try Trace(of: request, model, threads: threads)
  }

  @Test(arguments: cases, [NoDropping(), PyramidDrop(), FastV()] as [any TokenDroppingPolicy])
  func `one thread and three give the same bytes`(
    pair: (folder: String, name: String), policy: any TokenDroppingPolicy
  ) throws {
    let model = try model(pair.folder, pair.name)
    let (one, three) = (try trace(model, policy, threads: 1), try trace(model, policy, threads: 3))
    #expect(one.report.tokens == three.report.tokens)
    for name in one.tensors.names { #expect(try one.tensors.bytes(name) == three.tensors.bytes(name), "\(name)") }
  }

  @Test(arguments: cases)
  func `a schedule that keeps everything equals no dropping`(folder: String, name: String) throws {
    let model = try model(folder, name)
    let all = try trace(model, PyramidDrop(.listed(layers: [1, 2, 3], ratios: [1, 1, 1])))
    let none = try trace(model, NoDropping())
    #expect(all.report.tokens == none.report.tokens)
    for name in ["last_logits", "final_logits", "hidden_last"] {
      #expect(try all.tensors.bytes(name) == none.tensors.bytes(name), "\(name)")
    }
  }

  @Test(arguments: cases)
  func `a token's logits do not depend on the other sequences of the batch`(folder: String, name: String) throws {
    let model = try model(folder, name)
    var generator = Generator(model, threads: 2)
    /// The KV cache of a prompt, and its logits.
    func prefill(_ index: Int) throws -> Prefilled {
      let request = Request(prompt: .rendered(String(repeating: "What is \(index)? ", count: 1 + index)))
      let prepared = try PreparedRequest(request, for: model, threads: 1, images: model)
      return try generator.prefill(generator.embed(prepared), reservedRows: 3)
    }
    func tokens(_ count: Int, _ step: Int) -> [Int] { (0..<count).map { 100 + 7 * $0 + step } }
    var alone: [[[UInt32]]] = []
    for index in 0..<16 {
      let cache = try prefill(index).generation.cache
      alone.append((0..<3).map { generator.decode([tokens(16, $0)[index]], [cache]).rowValues(0).map(\.bitPattern) })
    }
    for count in [1, 3, 16] {
      let caches = try (0..<count).map { try prefill($0).generation.cache }
      for step in 0..<3 {
        let logits = generator.decode(tokens(count, step), caches)
        for index in 0..<count {
          #expect(logits.rowValues(index).map(\.bitPattern) == alone[index][step], "\(index) of \(count), step \(step)")
        }
      }
    }
  }

  @Test(arguments: cases)
  func `a prompt in two parts gives the logits of one`(folder: String, name: String) throws {
    let model = try model(folder, name)
    var generator = Generator(model, threads: 2)
    let request = Request(
      prompt: .rendered("USER: <image>\nWhat is it? ASSISTANT:"),
      images: [.file(Goldens.path("images/shapes_640x480.png"))],
      policy: PyramidDrop(.listed(layers: [2], ratios: [0.5])))
    let prepared = try PreparedRequest(request, for: model, threads: 1, images: model)
    let whole = try generator.prefill(generator.embed(prepared), reservedRows: 0)
    let key = try #require(PrefixKey(prepared, model))
    let prompt = try generator.embed(prepared)
    let selected = prompt.selected
    let prefix = generator.takePrefix(key, of: prepared, selected)
    #expect(prefix != nil)
    let parts = generator.prefill(prompt, after: prefix, reservedRows: 0)
    #expect(parts.logits.map(\.bitPattern) == whole.logits.map(\.bitPattern))
    #expect(parts.generation.report.stages == whole.generation.report.stages)
  }
}
