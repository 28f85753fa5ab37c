package import Kernels

/// Who wrote a LLaVA directory: its file names, tensor names, keys and arithmetic are theirs.
package enum CheckpointLayout: Sendable {
  /// The Hugging Face library, as in `llava-hf/*`.
  case huggingFace
  /// The original LLaVA code, as in `liuhaotian/*`.
  case original
}

/// What `config.json` of a LLaVA directory says.
///
/// The file leaves out what equals the reference library's defaults; those defaults stand here.
package struct LLaVAConfiguration: Sendable, Equatable {
  /// What stands for an image in a prompt where the tokenizer has no token for it.
  ///
  /// Source: `IMAGE_TOKEN_INDEX` in LLaVA's `llava/constants.py`.
  package static let imageSentinel = -200

  package var layout: CheckpointLayout
  package var modelType: String
  /// The token that stands for an image, or `imageSentinel`.
  package var imageTokenID: Int
  /// Which hidden state of the vision encoder is used: 0 is the embedding, negative counts from the last.
  package var visionFeatureLayer: Int
  /// Whether the class token's row is left out of the features.
  package var dropsClassToken: Bool
  package var projectorActivation: Activation
  package var projectorHasBias: Bool
  package var tiesWordEmbeddings: Bool
  /// How original LLaVA checkpoints say that images are fitted: `pad`, `anyres` or nothing.
  package var imageAspectRatio: String?
  /// How images are spread over several views; `nil` for models that look at an image once.
  package var anyResolution: AnyResolution?
  /// The longest prompt with its images that the model was trained on, where that is less than its context.
  package var promptLimit: Int?
  /// Tokens that end an answer, unless `generation_config.json` says otherwise.
  package var eosTokens: Set<Int>?
  package var text: TextConfiguration
  package var vision: VisionConfiguration

  /// Rows that stand for one view of an image.
  package var visualTokensPerView: Int { vision.patchCount + (dropsClassToken ? 0 : 1) }

  /// Vision encoder layers that have to run for the feature layer.
  package var visionLayersNeeded: Int {
    visionFeatureLayer >= 0 ? visionFeatureLayer : vision.layerCount + 1 + visionFeatureLayer
  }
}

/// The families of language models under LLaVA; they differ in defaults and biases only.
package enum LanguageModelFamily: String, Sendable {
  case llama, mistral, qwen2
}

/// Which linear layers of the decoder's attention have a bias.
package enum AttentionBias: Sendable {
  case none, queriesKeysValues, all
}

/// The language model: Llama or one of its relatives.
package struct TextConfiguration: Sendable, Equatable {
  package var kind: LanguageModelFamily
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
  package var ropeScaling = RotaryScaling.none
  package var attentionBias = AttentionBias.none

  package var heads: HeadLayout {
    HeadLayout(headCount: headCount, keyValueHeadCount: keyValueHeadCount, headDimension: headDimension)
  }
}

/// The vision encoder: a CLIP vision transformer.
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

extension LLaVAConfiguration {
  /// Numbers in a checkpoint of this shape, vision encoder included, whether LLaVA needs them or not.
  ///
  /// LLaVA-1.5-7B has 7,063,427,072.
  package var parameterCount: Int {
    let (d, visionSize) = (text.hiddenSize, vision.hiddenSize)
    let projector = visionSize * d + d * d + (projectorHasBias ? 2 * d : 0)
    let newline = anyResolution?.merge == .spatialUnpad ? d : 0
    return vision.parameterCount + projector + newline + text.parameterCount(tiesWordEmbeddings: tiesWordEmbeddings)
  }
}

extension TextConfiguration {
  fileprivate func parameterCount(tiesWordEmbeddings: Bool) -> Int {
    let (d, q, kv) = (hiddenSize, heads.queryColumns, heads.keyValueColumns)
    let biases =
      switch attentionBias {
      case .none: 0
      case .queriesKeysValues: q + 2 * kv
      case .all: q + 2 * kv + d
      }
    let layer = 2 * d * (q + kv) + biases + 3 * d * intermediateSize + 2 * d
    return layerCount * layer + d + (tiesWordEmbeddings ? 1 : 2) * vocabularySize * d
  }
}

extension VisionConfiguration {
  /// CLIP's tower: patches without a bias, and a norm after the last layer.
  fileprivate var parameterCount: Int {
    let (d, m) = (hiddenSize, intermediateSize)
    let embeddings = d + d * 3 * patchSize * patchSize + (1 + patchCount) * d
    let layer = 4 * (d * d + d) + 2 * d * m + m + d + 4 * d
    return embeddings + 2 * d + layerCount * layer + 2 * d
  }
}
