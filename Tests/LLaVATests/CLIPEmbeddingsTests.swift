import Kernels
@testable import LLaVA
@testable import ModelFormats
import TestSupport
import Testing
import TokenDropping
import TokenSelection

/// CLIP's embeddings, and the relevance of CDPruner, against those of the reference.
@Suite struct CLIPEmbeddingsTests {
  private let compute = ComputeContext(workers: Workers(count: 2))
  private let cases: CLIPCases
  private let tensors: GoldenTensors

  init() throws {
    cases = try Goldens.json("clip/cases.json", as: CLIPCases.self)
    tensors = try Goldens.tensors("clip/cases.safetensors")
  }

  private func clip(_ eosToken: Int? = nil) throws -> CLIPEmbeddings {
    let directory = try CLIPDirectory(Goldens.path("clip/tiny-clip"))
    var configuration = directory.configuration
    #expect(configuration.eosToken == nil)
    configuration.eosToken = eosToken
    return try CLIPEmbeddings(directory.checkpoint, configuration)
  }

  @Test(arguments: ["largest", "end"]) func `texts of any number of pieces`(token: String) throws {
    let clip = try clip(token == "end" ? 673 : nil)
    for (index, question) in cases.questions.enumerated() {
      compute.ledger = CostLedger()
      let found = clip.text(question.pieces, on: compute)
      #expect(found.rows == question.pieces.count)
      try expectClose(found.values, tensors.floats("text/\(index)/\(token)"), 2e-5, question.text)
      let counted = compute.ledger.multiplyAdds.values.reduce(0, +)
      #expect(counted == clip.configuration.multiplyAdds(text: question.pieces))
    }
  }

  @Test func `patches of an image, and their relevance to a question`() throws {
    let clip = try clip()
    let image = "shapes_640x480.png"
    for selection in cases.selections where selection.model == "tiny-llava-1.5" && selection.image == image {
      let model = try TestModel(selection.model).model
      var inputs: SelectionInputs?
      let pixels = try GoldenVisionTests.pixelValues(selection.image)
      let features = model.imageFeatures(pixels, .single, selectionInputs: &inputs, on: compute)
      let patches = try #require(inputs)
      let embeddings = clip.image(Matrix(patches.patchFeatures, columns: patches.columns), on: compute)
      let name = "\(selection.model)/\(selection.image)"
      try expectClose(embeddings.values, tensors.floats("image/\(name)"), 2e-4, name)

      let relevance = try CDPruner.relevance(
        embeddings, "clip_image", question: clip.text(cases.questions[selection.question].pieces, on: compute),
        "clip_text", sign: -1, on: compute)
      try expectClose(
        relevance, tensors.floats("relevance/\(name)/\(selection.question)"), 1e-4, "relevance of \(name)")
      let order = try CDPruner.select(features, relevance: relevance, count: selection.count, on: compute)
      #expect([order] == selection.orders)
    }
  }

  @Test func `a piece without the end token has the embedding of its first row`() throws {
    let directory = try CLIPDirectory(Goldens.path("clip/tiny-clip"))
    var configuration = directory.configuration
    #expect(configuration.embeddedRow(of: [5, 9, 9, 2]) == 1)
    configuration.eosToken = 7
    #expect(configuration.embeddedRow(of: [5, 9, 7, 7]) == 2)
    #expect(configuration.embeddedRow(of: [5, 9]) == 0)
  }

  @Test func `a directory without the text encoder is refused by the missing tensor`() throws {
    let path = Goldens.path("models/tiny-llava-1.5")
    let error = #expect(throws: CheckpointError.self) { _ = try CLIPDirectory(path) }
    #expect(error.map { "\($0)" }?.contains("model_type: expected 'clip', found") == true)
  }
}
