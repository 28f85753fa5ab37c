package import Kernels

/// What `config.json` of a LLaVA directory says.
///
/// The file leaves out what equals the reference library's defaults; those defaults stand here.
package struct LLaVAConfiguration: Sendable, Equatable {
  package var modelType: String
  package var imageTokenID: Int
  /// Which hidden state of the tower is used: 0 is the embedding, negative counts from the last.
  package var visionFeatureLayer: Int
  /// Whether the class token's row is left out of the features.
  package var dropsClassToken: Bool
  package var projectorActivation: Activation
  package var projectorHasBias: Bool
  package var tiesWordEmbeddings: Bool
  /// How original LLaVA checkpoints say that pictures are fitted: `pad`, `anyres` or nothing.
  package var imageAspectRatio: String?
  /// How pictures are spread over several views; `nil` for models that look at a picture once.
  package var anyResolution: AnyResolution?
  package var text: TextConfiguration
  package var vision: VisionConfiguration

  /// Rows that stand for one view of a picture.
  package var visualTokensPerView: Int { vision.patchCount + (dropsClassToken ? 0 : 1) }

  /// Tower layers that have to run for the feature layer.
  package var visionLayersNeeded: Int {
    visionFeatureLayer >= 0 ? visionFeatureLayer : vision.layerCount + 1 + visionFeatureLayer
  }
}

extension LLaVAConfiguration {
  /// Reads and checks `config.json`.
  ///
  /// - Throws: `CheckpointError` naming the key, what was expected and what was found.
  package init(directory: String) throws(CheckpointError) {
    let path = directory + "/config.json"
    let file = try JSONFile.read(ConfigurationFile.self, at: path)
    self = try file.checked(path)
  }
}

/// The language model: Llama, or Mistral, which differs in its defaults only.
package struct TextConfiguration: Sendable, Equatable {
  package var modelType: String
  package var hiddenSize: Int
  package var intermediateSize: Int
  package var layerCount: Int
  package var headCount: Int
  package var keyValueHeadCount: Int
  package var headDimension: Int
  package var vocabularySize: Int
  package var contextLength: Int
  package var rmsNormEpsilon: Float
  package var ropeTheta: Double

  package var heads: HeadLayout {
    HeadLayout(headCount: headCount, keyValueHeadCount: keyValueHeadCount, headDimension: headDimension)
  }
}

/// The vision tower: a CLIP vision transformer.
package struct VisionConfiguration: Sendable, Equatable {
  package var hiddenSize: Int
  package var intermediateSize: Int
  package var layerCount: Int
  package var headCount: Int
  package var imageSize: Int
  package var patchSize: Int
  package var layerNormEpsilon: Float
  package var activation: Activation

  package var patchesPerSide: Int { imageSize / patchSize }

  package var patchCount: Int { patchesPerSide * patchesPerSide }

  package var heads: HeadLayout {
    HeadLayout(headCount: headCount, keyValueHeadCount: headCount, headDimension: hiddenSize / headCount)
  }
}
