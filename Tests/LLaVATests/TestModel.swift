import Kernels
import LLaVA
import ModelFormats
import TestSupport

/// A loaded golden checkpoint.
struct TestModel {
  let name: String
  let model: LLaVAModel

  init(_ name: String, _ computeType: ComputeType = .f32) throws {
    self.name = name
    let directory = Goldens.path("models/\(name)")
    model = try LLaVAModel(
      Checkpoint(directory: directory), LLaVAConfiguration(directory: directory),
      computeType: ModelComputeTypes(computeType))
  }

  /// Writes the embeddings of a golden case to `hidden`, `[T, D]`, with the reference's features for its images.
  func splice(_ hidden: inout Matrix, _ golden: GoldenCase) throws -> SequenceLayout {
    var features = Matrix(rows: 0, columns: model.configuration.text.hiddenSize)
    for image in golden.images {
      let file = image.split(separator: "/").last.map(String.init) ?? image
      let rule = model.configuration.anyResolution
      let mark = golden.images.count > 1 && rule?.tilesOnlySingleImages == true ? ".several" : ""
      let values = try Goldens.tensors("features/\(name)/\(file)\(mark).safetensors").floats("features")
      features.append(Matrix(values, columns: features.columns))
    }
    return try model.languageModel.splice(
      &hidden, tokens: golden.promptIDs, placeholder: model.configuration.imageTokenID, features: features,
      featureCounts: golden.numImageTokens, spans: golden.spansOfImages, limit: model.configuration.text.contextLength)
  }
}
