import Kernels
import LLaVA
import ModelFormats
import TestSupport
import Testing
import TokenDropping

/// A golden checkpoint, loaded.
struct TestModel {
  let name: String
  let model: LLaVAModel

  init(_ name: String) throws {
    self.name = name
    let directory = Goldens.path("models/\(name)")
    model = try LLaVAModel(Checkpoint(directory: directory), LLaVAConfiguration(directory: directory))
  }

  /// The sequence of a case, with the reference's own features for its pictures.
  func splice(_ hidden: inout Matrix, _ golden: GoldenCase) throws -> SequenceLayout {
    var features = Matrix(rows: 0, columns: model.configuration.text.hiddenSize)
    for image in golden.images {
      let file = image.split(separator: "/").last.map(String.init) ?? image
      let values = try Goldens.tensors("features/\(name)/\(file).safetensors").floats("features")
      features.append(Matrix(values, columns: features.columns))
    }
    return try model.languageModel.splice(
      &hidden, tokens: golden.prompt_ids, placeholder: model.configuration.imageTokenID, features: features,
      featureCounts: golden.num_image_tokens, limit: model.configuration.text.contextLength)
  }
}

extension GoldenCase.Policy {
  /// The policy that the golden names.
  var policy: any TokenDroppingPolicy {
    switch method {
    case "pyramiddrop": PyramidDrop(.listed(layers: layers ?? [], ratios: keep ?? []))
    case "fastv": FastV(k: k ?? 0, r: r ?? 0)
    default: NoDropping()
    }
  }
}

/// Expects two lists of numbers to differ by at most `tolerance`.
func expectClose(
  _ found: [Float], _ expected: [Float], _ tolerance: Double, _ label: String,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  let difference = Difference.absolute(found, expected)
  #expect(difference.largest <= tolerance, "\(label): \(difference)", sourceLocation: sourceLocation)
}
