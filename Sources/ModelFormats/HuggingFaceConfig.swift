import Kernels

/// `config.json` in the Hugging Face layout, before defaults and checks.
struct ConfigurationFile: Decodable {
  var modelType: String?
  var imageTokenIndex: Int?
  var imageTokenID: Int?
  var visionFeatureLayer: Int?
  var visionFeatureSelectStrategy: String?
  var projectorHiddenAct: String?
  var multimodalProjectorBias: Bool?
  var tieWordEmbeddings: Bool?
  var imageAspectRatio: String?
  var imageGridPinpoints: GridPinpoints?
  var useImageNewlineParameter: Bool?
  var eosTokenID: TokenList?
  var textConfig: TextSection?
  var visionConfig: VisionSection?

  /// The checked configuration, with the reference library's defaults.
  func checked(_ path: String) throws(CheckpointError) -> LLaVAConfiguration {
    let check = ValueCheck(file: path)
    guard let modelType = modelType, modelType == "llava" || modelType == "llava_next" else {
      throw check.error(
        "model_type", "'llava' or 'llava_next' (LLaVA-1.5 or LLaVA-NeXT), or an original LLaVA configuration",
        modelType.map { "'\($0)'" } ?? "nothing")
    }
    let text = try (textConfig ?? TextSection()).checked(check.section("text_config"))
    // The reference's default vision encoder is CLIP ViT-L/14-336 only when the whole section is missing.
    let vision = try (visionConfig ?? .clipLarge336).checked(check.section("vision_config"))
    let strategy = visionFeatureSelectStrategy ?? "default"
    guard strategy == "default" || strategy == "full" else {
      throw check.error("vision_feature_select_strategy", "'default' or 'full'", strategy)
    }
    let imageToken = imageTokenIndex ?? imageTokenID ?? 32_000
    return try LLaVAConfiguration(
      layout: .huggingFace, modelType: modelType,
      imageTokenID: check.integer("image_token_index", imageToken, in: 0...text.vocabularySize - 1),
      visionFeatureLayer: visionFeatureLayer ?? -2, dropsClassToken: strategy == "default",
      projectorActivation: check.activation("projector_hidden_act", projectorHiddenAct ?? "gelu"),
      projectorHasBias: multimodalProjectorBias ?? true,
      tiesWordEmbeddings: textConfig?.tieWordEmbeddings ?? tieWordEmbeddings ?? false,
      imageAspectRatio: imageAspectRatio, anyResolution: checkedAnyResolution(vision, check),
      eosTokens: (textConfig?.eosTokenID ?? eosTokenID)?.tokens, text: text, vision: vision
    ).checkingFeatureLayer("vision_feature_layer", check)
  }

  enum CodingKeys: String, CodingKey {
    case modelType = "model_type"
    case imageTokenIndex = "image_token_index"
    case imageTokenID = "image_token_id"
    case visionFeatureLayer = "vision_feature_layer"
    case visionFeatureSelectStrategy = "vision_feature_select_strategy"
    case projectorHiddenAct = "projector_hidden_act"
    case multimodalProjectorBias = "multimodal_projector_bias"
    case tieWordEmbeddings = "tie_word_embeddings"
    case imageAspectRatio = "image_aspect_ratio"
    case imageGridPinpoints = "image_grid_pinpoints"
    case useImageNewlineParameter = "use_image_newline_parameter"
    case eosTokenID = "eos_token_id"
    case textConfig = "text_config"
    case visionConfig = "vision_config"
  }
}

extension LLaVAConfiguration {
  /// The configuration itself, after a check that the vision encoder has the feature layer.
  func checkingFeatureLayer(_ key: String, _ check: ValueCheck) throws(CheckpointError) -> LLaVAConfiguration {
    guard (0...vision.layerCount).contains(visionLayersNeeded) else {
      throw check.error(key, "a layer of \(vision.layerCount)", "\(visionFeatureLayer)")
    }
    return self
  }
}

/// The language model section of a configuration file, before defaults and checks.
struct TextSection: Decodable {
  var modelType: String?
  var hiddenSize: Int?
  var intermediateSize: Int?
  var numHiddenLayers: Int?
  var numAttentionHeads: Int?
  var numKeyValueHeads: Int?
  var headDim: Int?
  var vocabSize: Int?
  var maxPositionEmbeddings: Int?
  var rmsNormEps: Double?
  var ropeTheta: Double?
  var ropeScaling: RopeSection?
  var ropeParameters: RopeSection?
  var hiddenAct: String?
  var attentionBias: Bool?
  var mlpBias: Bool?
  var slidingWindow: Int?
  var useSlidingWindow: Bool?
  var tieWordEmbeddings: Bool?
  var eosTokenID: TokenList?

  /// - Parameter kind: The language model family, if it is not defined by the section.
  func checked(_ check: ValueCheck, kind: LanguageModelFamily? = nil) throws(CheckpointError) -> TextConfiguration {
    let name = modelType ?? "llama"
    guard let kind = kind ?? LanguageModelFamily(rawValue: name) else {
      throw check.error("model_type", "'llama', 'mistral' or 'qwen2'", "'\(name)'")
    }
    let hiddenSize = try check.size("hidden_size", hiddenSize ?? 4096)
    let headCount = try check.size("num_attention_heads", numAttentionHeads ?? 32)
    let keyValueHeadCount = try check.size(
      "num_key_value_heads", numKeyValueHeads ?? kind.defaultKeyValueHeadCount ?? headCount)
    let headDimension = try check.size("head_dim", headDim ?? hiddenSize / headCount)
    guard headCount.isMultiple(of: keyValueHeadCount) else {
      throw check.error("num_key_value_heads", "a divisor of \(headCount)", "\(keyValueHeadCount)")
    }
    guard headDim != nil || hiddenSize.isMultiple(of: headCount), headDimension.isMultiple(of: 2) else {
      throw check.error("num_attention_heads", "heads of even, equal size in \(hiddenSize)", "\(headCount)")
    }
    if mlpBias == true { throw check.error("mlp_bias", "false", "true") }
    guard hiddenAct ?? "silu" == "silu" else {
      throw check.error("hidden_act", "'silu'", "'\(hiddenAct ?? "")'")
    }
    let contextLength = try check.integer(
      "max_position_embeddings", maxPositionEmbeddings ?? kind.defaultContextLength, in: 1...(1 << 24))
    // Qwen2's files contain a sliding window that is off unless another key enables it.
    if let window = slidingWindow, window < contextLength, kind != .qwen2 || useSlidingWindow == true {
      throw check.error("sliding_window", "null", "\(window)")
    }
    let rope = ropeScaling ?? ropeParameters
    return TextConfiguration(
      kind: kind, hiddenSize: hiddenSize,
      intermediateSize: try check.size("intermediate_size", intermediateSize ?? kind.defaultIntermediateSize),
      layerCount: try check.integer("num_hidden_layers", numHiddenLayers ?? 32, in: 1...1024),
      headCount: headCount, keyValueHeadCount: keyValueHeadCount, headDimension: headDimension,
      vocabularySize: try check.integer("vocab_size", vocabSize ?? kind.defaultVocabularySize, in: 1...(1 << 24)),
      contextLength: contextLength,
      rmsNormEpsilon: try check.epsilon("rms_norm_eps", rmsNormEps ?? 1e-6),
      ropeTheta: try check.theta("rope_theta", ropeTheta ?? ropeParameters?.ropeTheta ?? 10_000),
      ropeScaling: try rope?.checked(check) ?? .none,
      attentionBias: kind == .qwen2 ? .queriesKeysValues : attentionBias == true ? .all : .none)
  }

  enum CodingKeys: String, CodingKey {
    case modelType = "model_type"
    case hiddenSize = "hidden_size"
    case intermediateSize = "intermediate_size"
    case numHiddenLayers = "num_hidden_layers"
    case numAttentionHeads = "num_attention_heads"
    case numKeyValueHeads = "num_key_value_heads"
    case headDim = "head_dim"
    case vocabSize = "vocab_size"
    case maxPositionEmbeddings = "max_position_embeddings"
    case rmsNormEps = "rms_norm_eps"
    case ropeTheta = "rope_theta"
    case ropeScaling = "rope_scaling"
    case ropeParameters = "rope_parameters"
    case hiddenAct = "hidden_act"
    case attentionBias = "attention_bias"
    case mlpBias = "mlp_bias"
    case slidingWindow = "sliding_window"
    case useSlidingWindow = "use_sliding_window"
    case tieWordEmbeddings = "tie_word_embeddings"
    case eosTokenID = "eos_token_id"
  }
}

extension LanguageModelFamily {
  // The reference library's defaults for keys that the file omits.

  var defaultIntermediateSize: Int {
    switch self {
    case .llama: 11_008
    case .mistral: 14_336
    case .qwen2: 22_016
    }
  }

  /// `nil` if it equals the number of query heads.
  var defaultKeyValueHeadCount: Int? {
    switch self {
    case .llama: nil
    case .mistral: 8
    case .qwen2: 32
    }
  }

  var defaultVocabularySize: Int { self == .qwen2 ? 151_936 : 32_000 }

  var defaultContextLength: Int {
    switch self {
    case .llama: 2048
    case .mistral: 131_072
    case .qwen2: 32_768
    }
  }
}

/// RoPE scaling, under `rope_scaling` or, in newer files, `rope_parameters`.
struct RopeSection: Decodable {
  var type: String?
  var ropeType: String?
  var ropeTheta: Double?
  var factor: Double?
  var lowFreqFactor: Double?
  var highFreqFactor: Double?
  var originalMaxPositionEmbeddings: Double?

  func checked(_ check: ValueCheck) throws(CheckpointError) -> RotaryScaling {
    let kind = ropeType ?? type ?? "default"
    let check = check.section("rope_scaling")
    switch kind {
    case "default": return .none
    case "linear": return .linear(factor: try check.number("factor", factor, atLeast: 1))
    case "llama3":
      let low = try check.number("low_freq_factor", lowFreqFactor, atLeast: 0.001)
      let high = try check.number("high_freq_factor", highFreqFactor, atLeast: 0.001)
      guard high > low else { throw check.error("high_freq_factor", "more than low_freq_factor (\(low))", "\(high)") }
      return .llama3(
        factor: try check.number("factor", factor, atLeast: 1), lowFrequencyFactor: low, highFrequencyFactor: high,
        originalContextLength: try check.number(
          "original_max_position_embeddings", originalMaxPositionEmbeddings, atLeast: 1))
    default: throw check.error("rope_type", "'default', 'linear' or 'llama3'", "'\(kind)', which is not supported")
    }
  }

  enum CodingKeys: String, CodingKey {
    case type, factor
    case ropeType = "rope_type"
    case ropeTheta = "rope_theta"
    case lowFreqFactor = "low_freq_factor"
    case highFreqFactor = "high_freq_factor"
    case originalMaxPositionEmbeddings = "original_max_position_embeddings"
  }
}

/// The vision encoder section of a configuration file, before defaults and checks.
///
/// Keys that the file omits have the values of CLIP ViT-B/32, as in the reference library.
struct VisionSection: Decodable {
  var modelType: String?
  var hiddenSize: Int?
  var intermediateSize: Int?
  var numHiddenLayers: Int?
  var numAttentionHeads: Int?
  var imageSize: Int?
  var patchSize: Int?
  var numChannels: Int?
  var layerNormEps: Double?
  var hiddenAct: String?

  static let clipLarge336 = VisionSection(
    modelType: "clip_vision_model", hiddenSize: 1024, intermediateSize: 4096, numHiddenLayers: 24,
    numAttentionHeads: 16, imageSize: 336, patchSize: 14)

  /// The vision encoders of LLaVA's published checkpoints, by the last part of the name.
  static func published(_ name: String) -> VisionSection? {
    var visionTower = clipLarge336
    switch name {
    case "clip-vit-large-patch14-336": break
    case "clip-vit-large-patch14": visionTower.imageSize = 224
    default: return nil
    }
    return visionTower
  }

  func checked(_ check: ValueCheck) throws(CheckpointError) -> VisionConfiguration {
    let kind = modelType ?? "clip_vision_model"
    guard kind == "clip_vision_model" else { throw check.error("model_type", "'clip_vision_model'", "'\(kind)'") }
    guard numChannels ?? 3 == 3 else { throw check.error("num_channels", "3", "\(numChannels ?? 3)") }
    let configuration = VisionConfiguration(
      hiddenSize: try check.size("hidden_size", hiddenSize ?? 768),
      intermediateSize: try check.size("intermediate_size", intermediateSize ?? 3072),
      layerCount: try check.integer("num_hidden_layers", numHiddenLayers ?? 12, in: 1...1024),
      headCount: try check.size("num_attention_heads", numAttentionHeads ?? 12),
      imageSize: try check.integer("image_size", imageSize ?? 224, in: 1...4096),
      patchSize: try check.integer("patch_size", patchSize ?? 32, in: 1...4096),
      layerNormEpsilon: try check.epsilon("layer_norm_eps", layerNormEps ?? 1e-5),
      activation: try check.activation("hidden_act", hiddenAct ?? "quick_gelu"))
    guard configuration.hiddenSize.isMultiple(of: configuration.headCount) else {
      throw check.error(
        "num_attention_heads", "a divisor of \(configuration.hiddenSize)", "\(configuration.headCount)")
    }
    guard configuration.patchSize <= configuration.imageSize else {
      throw check.error("patch_size", "at most \(configuration.imageSize)", "\(configuration.patchSize)")
    }
    return configuration
  }

  enum CodingKeys: String, CodingKey {
    case modelType = "model_type"
    case hiddenSize = "hidden_size"
    case intermediateSize = "intermediate_size"
    case numHiddenLayers = "num_hidden_layers"
    case numAttentionHeads = "num_attention_heads"
    case imageSize = "image_size"
    case patchSize = "patch_size"
    case numChannels = "num_channels"
    case layerNormEps = "layer_norm_eps"
    case hiddenAct = "hidden_act"
  }
}

/// The value of `eos_token_id`: one token or a list.
package struct TokenList: Decodable, Sendable, Equatable {
  package var tokens: Set<Int>

  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let one = try? container.decode(Int.self) {
      tokens = [one]
    } else {
      tokens = Set(try container.decode([Int].self))
    }
  }
}

/// Range checks for the values of a configuration file.
struct ValueCheck {
  var file: String
  /// The prefix of keys in a section, with a trailing dot; empty at the top level.
  var section = ""

  /// The checks of a section within this one.
  func section(_ name: String) -> ValueCheck { ValueCheck(file: file, section: section + name + ".") }

  func error(_ key: String, _ expected: String, _ found: String) -> CheckpointError {
    .badValue(file: file, key: section + key, expected: expected, found: found)
  }

  func integer(_ key: String, _ value: Int, in range: ClosedRange<Int>) throws(CheckpointError) -> Int {
    guard range.contains(value) else {
      throw error(key, "a number from \(range.lowerBound) to \(range.upperBound)", "\(value)")
    }
    return value
  }

  /// The size of a weight dimension.
  func size(_ key: String, _ value: Int) throws(CheckpointError) -> Int { try integer(key, value, in: 1...(1 << 20)) }

  func epsilon(_ key: String, _ value: Double) throws(CheckpointError) -> Float {
    guard value >= 0, value < 1 else { throw error(key, "a small positive number", "\(value)") }
    return Float(value)
  }

  /// A finite number that is at least `least`.
  func number(_ key: String, _ value: Double?, atLeast least: Double) throws(CheckpointError) -> Double {
    guard let value, value >= least, value.isFinite else {
      throw error(key, "a number of at least \(least)", value.map { "\($0)" } ?? "nothing")
    }
    return value
  }

  func theta(_ key: String, _ value: Double) throws(CheckpointError) -> Double {
    guard value > 1, value.isFinite else { throw error(key, "a number above 1", "\(value)") }
    return value
  }

  func activation(_ key: String, _ value: String) throws(CheckpointError) -> Activation {
    guard let activation = Activation(rawValue: value) else {
      throw error(key, "'quick_gelu', 'gelu' or 'silu'", "'\(value)'")
    }
    return activation
  }
}
