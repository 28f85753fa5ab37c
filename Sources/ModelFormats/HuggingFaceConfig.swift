import Kernels

/// `config.json` in the Hugging Face layout, before defaults and checks.
struct ConfigurationFile: Decodable {
  var model_type: String?
  var image_token_index: Int?
  var image_token_id: Int?
  var vision_feature_layer: Int?
  var vision_feature_select_strategy: String?
  var projector_hidden_act: String?
  var multimodal_projector_bias: Bool?
  var tie_word_embeddings: Bool?
  var image_aspect_ratio: String?
  var image_grid_pinpoints: GridPinpoints?
  var use_image_newline_parameter: Bool?
  var eos_token_id: TokenList?
  var text_config: TextSection?
  var vision_config: VisionSection?

  /// The checked configuration, with the reference library's defaults.
  func checked(_ path: String) throws(CheckpointError) -> LLaVAConfiguration {
    let check = ValueCheck(file: path)
    guard let modelType = model_type, modelType == "llava" || modelType == "llava_next" else {
      throw check.error(
        "model_type", "'llava' or 'llava_next' (LLaVA-1.5 or LLaVA-NeXT), or an original LLaVA configuration",
        model_type.map { "'\($0)'" } ?? "nothing")
    }
    let text = try (text_config ?? TextSection()).checked(check.section("text_config"))
    // The reference's default vision encoder is CLIP ViT-L/14-336 only when the whole section is missing.
    let vision = try (vision_config ?? .clipLarge336).checked(check.section("vision_config"))
    let strategy = vision_feature_select_strategy ?? "default"
    guard strategy == "default" || strategy == "full" else {
      throw check.error("vision_feature_select_strategy", "'default' or 'full'", strategy)
    }
    let imageToken = image_token_index ?? image_token_id ?? 32_000
    return try LLaVAConfiguration(
      layout: .huggingFace, modelType: modelType,
      imageTokenID: check.integer("image_token_index", imageToken, in: 0...text.vocabularySize - 1),
      visionFeatureLayer: vision_feature_layer ?? -2, dropsClassToken: strategy == "default",
      projectorActivation: check.activation("projector_hidden_act", projector_hidden_act ?? "gelu"),
      projectorHasBias: multimodal_projector_bias ?? true,
      tiesWordEmbeddings: text_config?.tie_word_embeddings ?? tie_word_embeddings ?? false,
      imageAspectRatio: image_aspect_ratio, anyResolution: checkedAnyResolution(vision, check),
      eosTokens: (text_config?.eos_token_id ?? eos_token_id)?.tokens, text: text, vision: vision
    ).checkingFeatureLayer("vision_feature_layer", check)
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
  var model_type: String?
  var hidden_size: Int?
  var intermediate_size: Int?
  var num_hidden_layers: Int?
  var num_attention_heads: Int?
  var num_key_value_heads: Int?
  var head_dim: Int?
  var vocab_size: Int?
  var max_position_embeddings: Int?
  var rms_norm_eps: Double?
  var rope_theta: Double?
  var rope_scaling: RopeSection?
  var rope_parameters: RopeSection?
  var hidden_act: String?
  var attention_bias: Bool?
  var mlp_bias: Bool?
  var sliding_window: Int?
  var use_sliding_window: Bool?
  var tie_word_embeddings: Bool?
  var eos_token_id: TokenList?

  /// - Parameter kind: The language model family, if it is not defined by the section.
  func checked(_ check: ValueCheck, kind: LanguageModelFamily? = nil) throws(CheckpointError) -> TextConfiguration {
    let name = model_type ?? "llama"
    guard let kind = kind ?? LanguageModelFamily(rawValue: name) else {
      throw check.error("model_type", "'llama', 'mistral' or 'qwen2'", "'\(name)'")
    }
    let hiddenSize = try check.size("hidden_size", hidden_size ?? 4096)
    let headCount = try check.size("num_attention_heads", num_attention_heads ?? 32)
    let keyValueHeadCount = try check.size(
      "num_key_value_heads", num_key_value_heads ?? kind.defaultKeyValueHeadCount ?? headCount)
    let headDimension = try check.size("head_dim", head_dim ?? hiddenSize / headCount)
    guard headCount.isMultiple(of: keyValueHeadCount) else {
      throw check.error("num_key_value_heads", "a divisor of \(headCount)", "\(keyValueHeadCount)")
    }
    guard head_dim != nil || hiddenSize.isMultiple(of: headCount), headDimension.isMultiple(of: 2) else {
      throw check.error("num_attention_heads", "heads of even, equal size in \(hiddenSize)", "\(headCount)")
    }
    if mlp_bias == true { throw check.error("mlp_bias", "false", "true") }
    guard hidden_act ?? "silu" == "silu" else {
      throw check.error("hidden_act", "'silu'", "'\(hidden_act ?? "")'")
    }
    let contextLength = try check.integer(
      "max_position_embeddings", max_position_embeddings ?? kind.defaultContextLength, in: 1...(1 << 24))
    // Qwen2's files contain a sliding window that is off unless another key enables it.
    if let window = sliding_window, window < contextLength, kind != .qwen2 || use_sliding_window == true {
      throw check.error("sliding_window", "null", "\(window)")
    }
    let rope = rope_scaling ?? rope_parameters
    return TextConfiguration(
      kind: kind, hiddenSize: hiddenSize,
      intermediateSize: try check.size("intermediate_size", intermediate_size ?? kind.defaultIntermediateSize),
      layerCount: try check.integer("num_hidden_layers", num_hidden_layers ?? 32, in: 1...1024),
      headCount: headCount, keyValueHeadCount: keyValueHeadCount, headDimension: headDimension,
      vocabularySize: try check.integer("vocab_size", vocab_size ?? kind.defaultVocabularySize, in: 1...(1 << 24)),
      contextLength: contextLength,
      rmsNormEpsilon: try check.epsilon("rms_norm_eps", rms_norm_eps ?? 1e-6),
      ropeTheta: try check.theta("rope_theta", rope_theta ?? rope_parameters?.rope_theta ?? 10_000),
      ropeScaling: try rope?.checked(check) ?? .none,
      attentionBias: kind == .qwen2 ? .queriesKeysValues : attention_bias == true ? .all : .none)
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
  var rope_type: String?
  var rope_theta: Double?
  var factor: Double?
  var low_freq_factor: Double?
  var high_freq_factor: Double?
  var original_max_position_embeddings: Double?

  func checked(_ check: ValueCheck) throws(CheckpointError) -> RotaryScaling {
    let kind = rope_type ?? type ?? "default"
    let check = check.section("rope_scaling")
    switch kind {
    case "default": return .none
    case "linear": return .linear(factor: try check.number("factor", factor, atLeast: 1))
    case "llama3":
      let low = try check.number("low_freq_factor", low_freq_factor, atLeast: 0.001)
      let high = try check.number("high_freq_factor", high_freq_factor, atLeast: 0.001)
      guard high > low else { throw check.error("high_freq_factor", "more than low_freq_factor (\(low))", "\(high)") }
      return .llama3(
        factor: try check.number("factor", factor, atLeast: 1), lowFrequencyFactor: low, highFrequencyFactor: high,
        originalContextLength: try check.number(
          "original_max_position_embeddings", original_max_position_embeddings, atLeast: 1))
    default: throw check.error("rope_type", "'default', 'linear' or 'llama3'", "'\(kind)', which is not supported")
    }
  }
}

/// The vision encoder section of a configuration file, before defaults and checks.
///
/// Keys that the file omits have the values of CLIP ViT-B/32, as in the reference library.
struct VisionSection: Decodable {
  var model_type: String?
  var hidden_size: Int?
  var intermediate_size: Int?
  var num_hidden_layers: Int?
  var num_attention_heads: Int?
  var image_size: Int?
  var patch_size: Int?
  var num_channels: Int?
  var layer_norm_eps: Double?
  var hidden_act: String?

  static let clipLarge336 = VisionSection(
    model_type: "clip_vision_model", hidden_size: 1024, intermediate_size: 4096, num_hidden_layers: 24,
    num_attention_heads: 16, image_size: 336, patch_size: 14)

  /// The vision encoders of LLaVA's published checkpoints, by the last part of the name.
  static func published(_ name: String) -> VisionSection? {
    var visionTower = clipLarge336
    switch name {
    case "clip-vit-large-patch14-336": break
    case "clip-vit-large-patch14": visionTower.image_size = 224
    default: return nil
    }
    return visionTower
  }

  func checked(_ check: ValueCheck) throws(CheckpointError) -> VisionConfiguration {
    let kind = model_type ?? "clip_vision_model"
    guard kind == "clip_vision_model" else { throw check.error("model_type", "'clip_vision_model'", "'\(kind)'") }
    guard num_channels ?? 3 == 3 else { throw check.error("num_channels", "3", "\(num_channels ?? 3)") }
    let configuration = VisionConfiguration(
      hiddenSize: try check.size("hidden_size", hidden_size ?? 768),
      intermediateSize: try check.size("intermediate_size", intermediate_size ?? 3072),
      layerCount: try check.integer("num_hidden_layers", num_hidden_layers ?? 12, in: 1...1024),
      headCount: try check.size("num_attention_heads", num_attention_heads ?? 12),
      imageSize: try check.integer("image_size", image_size ?? 224, in: 1...4096),
      patchSize: try check.integer("patch_size", patch_size ?? 32, in: 1...4096),
      layerNormEpsilon: try check.epsilon("layer_norm_eps", layer_norm_eps ?? 1e-5),
      activation: try check.activation("hidden_act", hidden_act ?? "quick_gelu"))
    guard configuration.hiddenSize.isMultiple(of: configuration.headCount) else {
      throw check.error(
        "num_attention_heads", "a divisor of \(configuration.hiddenSize)", "\(configuration.headCount)")
    }
    guard configuration.patchSize <= configuration.imageSize else {
      throw check.error("patch_size", "at most \(configuration.imageSize)", "\(configuration.patchSize)")
    }
    return configuration
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
