package import Kernels

/// The layout of a LLaVA model: file names, tensor names, configuration keys and rounding rules.
package enum CheckpointLayout: Sendable {
  /// The layout of the Hugging Face library, as in `llava-hf/*`.
  case huggingFace
  /// The layout of the original LLaVA code, as in `liuhaotian/*`.
  case original
  /// A pair of GGUF files, as llama.cpp's converters write them; rules as in the Hugging Face layout.
  case gguf
}

/// The configuration of a LLaVA model, from its `config.json`.
///
/// Keys that the file omits have the reference library's defaults.
package struct LLaVAConfiguration: Sendable, Equatable {
  /// The image placeholder in a prompt if the tokenizer has no image token.
  ///
  /// Source: `IMAGE_TOKEN_INDEX` in LLaVA's `llava/constants.py`.
  package static let imageSentinel = -200

  package var layout: CheckpointLayout
  package var modelType: String
  /// The image token, or `imageSentinel`.
  package var imageTokenID: Int
  /// The video token of LLaVA-OneVision in the Hugging Face layout; `nil` for models without one.
  package var videoTokenID: Int?
  /// The hidden state of the vision encoder that is used: 0 is the embedding; negative values count from the last.
  package var visionFeatureLayer: Int
  /// Whether the row of the class token is dropped from the features.
  package var dropsClassToken: Bool
  package var projectorActivation: Activation
  package var projectorHasBias: Bool
  package var tiesWordEmbeddings: Bool
  /// The `image_aspect_ratio` of original LLaVA checkpoints: `pad`, `anyres` or nil.
  package var imageAspectRatio: String?
  /// The tiling of images; `nil` for models with one view per image.
  package var anyResolution: AnyResolution?
  /// The tiling of images in SmolVLM and Idefics3; `nil` for other models.
  package var imageSplitting: ImageSplitting?
  /// The number of patches along the side of a square that become one visual token, in models with one linear layer as
  /// projector (SmolVLM); `nil` for one token for each patch and an MLP.
  package var pixelShuffle: Int?
  /// The longest prompt, images included, that the model was trained on, if shorter than its context.
  package var promptLimit: Int?
  /// EOS tokens, unless `generation_config.json` defines them.
  package var eosTokens: Set<Int>?
  package var text: TextConfiguration
  /// The vision encoder; `nil` for a language model without one, which takes no images.
  package var vision: VisionConfiguration?
  /// CLIP's text encoder and projections, which are not part of LLaVA; `nil` without them.
  package var clip: CLIPConfiguration?
  /// The classes in `architectures`, such as `LlavaMistralForCausalLM`.
  package var architectures: [String] = []
  /// The model's name or path when its files were written, `_name_or_path`.
  package var nameOrPath: String?
  /// Whether only the top level of the file ties the embeddings, which the reference library ignores.
  package var tiesWordEmbeddingsAtTop = false
  package var notes: [LoadNote] = []

  /// Whether the model takes videos.
  package var takesVideos: Bool {
    anyResolution.map { $0.tilesOnlySingleImages && $0.merge == .spatialUnpad } ?? false
  }

  /// Whether the class token of each view is a visual token too.
  package var keepsClassToken: Bool { vision?.hasClassToken == true && !dropsClassToken }

  /// The number of visual tokens along the side of a view.
  package var tokensPerSide: Int { (vision?.patchesPerSide ?? 0) / (pixelShuffle ?? 1) }

  /// The side in pixels of the part of a view that a visual token shows.
  package var tokenSize: Int { (vision?.patchSize ?? 0) * (pixelShuffle ?? 1) }

  /// The number of visual tokens of one view.
  package var visualTokensPerView: Int { tokensPerSide * tokensPerSide + (keepsClassToken ? 1 : 0) }

  /// The number of vision encoder layers up to the feature layer.
  package var visionLayersNeeded: Int {
    vision.map { visionFeatureLayer >= 0 ? visionFeatureLayer : $0.layerCount + 1 + visionFeatureLayer } ?? 0
  }
}

/// The language model families of LLaVA; they differ only in defaults and biases.
package enum LanguageModelFamily: String, Sendable {
  case llama, mistral, qwen2
}

/// The linear layers of the decoder's attention that have a bias.
package enum AttentionBias: Sendable {
  case none, queriesKeysValues, all
}

/// The configuration of the language model: Llama, Mistral or Qwen2.
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
  /// The longest sequence with the same result as in the reference library; longer ones would need another attention
  /// or RoPE.
  package var contextCeiling: Int?
  var notes: [LoadNote] = []

  package var heads: HeadLayout {
    HeadLayout(headCount: headCount, keyValueHeadCount: keyValueHeadCount, headDimension: headDimension)
  }
}

extension LLaVAConfiguration {
  /// The number of parameters in a checkpoint, vision encoder included, whether LLaVA uses them or not.
  ///
  /// LLaVA-1.5-7B has 7,063,427,072.
  package var parameterCount: Int {
    let d = text.hiddenSize
    let language = text.parameterCount(tiesWordEmbeddings: tiesWordEmbeddings)
    guard let vision else { return language }
    let projector =
      pixelShuffle.map { $0 * $0 * vision.hiddenSize * d }
      ?? vision.hiddenSize * d + d * d + (projectorHasBias ? 2 * d : 0)
    let newline = anyResolution?.merge == .spatialUnpad ? d : 0
    return vision.parameterCount + projector + newline + language
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
