internal import Kernels

/// `config.json` as written, before defaults and checks.
struct ConfigurationFile: Decodable {
  struct Text: Decodable {
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
    var rope_scaling: RopeScaling?
    var rope_parameters: RopeScaling?
    var hidden_act: String?
    var attention_bias: Bool?
    var sliding_window: Int?
    var tie_word_embeddings: Bool?
  }

  struct RopeScaling: Decodable {
    var type: String?
    var rope_type: String?
    var rope_theta: Double?

    var kind: String { rope_type ?? type ?? "default" }
  }

  struct Vision: Decodable {
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
  }

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
  var text_config: Text?
  var vision_config: Vision?
}

extension ConfigurationFile {
  /// The configuration, with the reference library's defaults, or what is wrong with it.
  func checked(_ path: String) throws(CheckpointError) -> LLaVAConfiguration {
    let check = ValueCheck(file: path)
    guard let modelType = model_type, modelType == "llava" || modelType == "llava_next" else {
      throw check.fault(
        "model_type", "'llava' or 'llava_next' (LLaVA-1.5 or LLaVA-NeXT in the Hugging Face layout)",
        model_type.map { "'\($0)'" } ?? "nothing")
    }
    let text = try (text_config ?? Text()).checked(check)
    // The reference's default tower is CLIP ViT-L/14-336 only when the whole section is missing.
    let vision = try (vision_config ?? .clipLarge336).checked(check)
    let strategy = vision_feature_select_strategy ?? "default"
    guard strategy == "default" || strategy == "full" else {
      throw check.fault("vision_feature_select_strategy", "'default' or 'full'", strategy)
    }
    let imageToken = image_token_index ?? image_token_id ?? 32_000
    let configuration = LLaVAConfiguration(
      modelType: modelType,
      imageTokenID: try check.integer("image_token_index", imageToken, in: 0...text.vocabularySize - 1),
      visionFeatureLayer: vision_feature_layer ?? -2,
      dropsClassToken: strategy == "default",
      projectorActivation: try check.activation("projector_hidden_act", projector_hidden_act ?? "gelu"),
      projectorHasBias: multimodal_projector_bias ?? true,
      tiesWordEmbeddings: text_config?.tie_word_embeddings ?? tie_word_embeddings ?? false,
      imageAspectRatio: image_aspect_ratio, anyResolution: try checkedAnyResolution(vision, check), text: text,
      vision: vision)
    guard (0...vision.layerCount).contains(configuration.visionLayersNeeded) else {
      throw check.fault(
        "vision_feature_layer", "a layer of \(vision.layerCount)", "\(configuration.visionFeatureLayer)")
    }
    return configuration
  }
}

extension ConfigurationFile.Text {
  func checked(_ check: ValueCheck) throws(CheckpointError) -> TextConfiguration {
    let kind = model_type ?? "llama"
    let isMistral = kind == "mistral"
    guard isMistral || kind == "llama" else {
      throw check.fault("text_config.model_type", "'llama' or 'mistral'", kind)
    }
    let hiddenSize = try check.size("text_config.hidden_size", hidden_size ?? 4096)
    let headCount = try check.size("text_config.num_attention_heads", num_attention_heads ?? 32)
    let keyValueHeadCount = try check.size(
      "text_config.num_key_value_heads", num_key_value_heads ?? (isMistral ? 8 : headCount))
    let headDimension = try check.size("text_config.head_dim", head_dim ?? hiddenSize / headCount)
    guard headCount.isMultiple(of: keyValueHeadCount) else {
      throw check.fault("text_config.num_key_value_heads", "a divisor of \(headCount)", "\(keyValueHeadCount)")
    }
    guard head_dim != nil || hiddenSize.isMultiple(of: headCount), headDimension.isMultiple(of: 2) else {
      throw check.fault("text_config.num_attention_heads", "heads of even, equal size in \(hiddenSize)", "\(headCount)")
    }
    if let scaling = rope_scaling ?? rope_parameters, scaling.kind != "default" {
      throw check.fault("text_config.rope_scaling", "none", "'\(scaling.kind)', which is not supported")
    }
    if attention_bias == true { throw check.fault("text_config.attention_bias", "false", "true") }
    guard hidden_act ?? "silu" == "silu" else {
      throw check.fault("text_config.hidden_act", "'silu'", "'\(hidden_act ?? "")'")
    }
    let contextLength = try check.integer(
      "text_config.max_position_embeddings", max_position_embeddings ?? (isMistral ? 131_072 : 2048), in: 1...(1 << 24))
    if let window = sliding_window, window < contextLength {
      throw check.fault("text_config.sliding_window", "null", "\(window)")
    }
    return TextConfiguration(
      modelType: kind, hiddenSize: hiddenSize,
      intermediateSize: try check.size(
        "text_config.intermediate_size", intermediate_size ?? (isMistral ? 14_336 : 11_008)),
      layerCount: try check.integer("text_config.num_hidden_layers", num_hidden_layers ?? 32, in: 1...1024),
      headCount: headCount, keyValueHeadCount: keyValueHeadCount, headDimension: headDimension,
      vocabularySize: try check.integer("text_config.vocab_size", vocab_size ?? 32_000, in: 1...(1 << 24)),
      contextLength: contextLength,
      rmsNormEpsilon: try check.epsilon("text_config.rms_norm_eps", rms_norm_eps ?? 1e-6),
      ropeTheta: try check.theta("text_config.rope_theta", rope_theta ?? rope_parameters?.rope_theta ?? 10_000))
  }
}

extension ConfigurationFile.Vision {
  static var clipLarge336: Self {
    Self(
      model_type: "clip_vision_model", hidden_size: 1024, intermediate_size: 4096, num_hidden_layers: 24,
      num_attention_heads: 16, image_size: 336, patch_size: 14)
  }

  func checked(_ check: ValueCheck) throws(CheckpointError) -> VisionConfiguration {
    let kind = model_type ?? "clip_vision_model"
    guard kind == "clip_vision_model" else {
      throw check.fault("vision_config.model_type", "'clip_vision_model'", "'\(kind)'")
    }
    guard num_channels ?? 3 == 3 else { throw check.fault("vision_config.num_channels", "3", "\(num_channels ?? 3)") }
    let configuration = VisionConfiguration(
      hiddenSize: try check.size("vision_config.hidden_size", hidden_size ?? 768),
      intermediateSize: try check.size("vision_config.intermediate_size", intermediate_size ?? 3072),
      layerCount: try check.integer("vision_config.num_hidden_layers", num_hidden_layers ?? 12, in: 1...1024),
      headCount: try check.size("vision_config.num_attention_heads", num_attention_heads ?? 12),
      imageSize: try check.integer("vision_config.image_size", image_size ?? 224, in: 1...4096),
      patchSize: try check.integer("vision_config.patch_size", patch_size ?? 32, in: 1...4096),
      layerNormEpsilon: try check.epsilon("vision_config.layer_norm_eps", layer_norm_eps ?? 1e-5),
      activation: try check.activation("vision_config.hidden_act", hidden_act ?? "quick_gelu"))
    guard configuration.hiddenSize.isMultiple(of: configuration.headCount) else {
      throw check.fault(
        "vision_config.num_attention_heads", "a divisor of \(configuration.hiddenSize)", "\(configuration.headCount)")
    }
    guard configuration.patchSize <= configuration.imageSize else {
      throw check.fault("vision_config.patch_size", "at most \(configuration.imageSize)", "\(configuration.patchSize)")
    }
    return configuration
  }
}

/// Range checks of a configuration file's values.
struct ValueCheck {
  var file: String

  func fault(_ key: String, _ expected: String, _ found: String) -> CheckpointError {
    .badValue(file: file, key: key, expected: expected, found: found)
  }

  func integer(_ key: String, _ value: Int, in range: ClosedRange<Int>) throws(CheckpointError) -> Int {
    guard range.contains(value) else {
      throw fault(key, "a number from \(range.lowerBound) to \(range.upperBound)", "\(value)")
    }
    return value
  }

  /// An axis of a weight.
  func size(_ key: String, _ value: Int) throws(CheckpointError) -> Int { try integer(key, value, in: 1...(1 << 20)) }

  func epsilon(_ key: String, _ value: Double) throws(CheckpointError) -> Float {
    guard value >= 0, value < 1 else { throw fault(key, "a small positive number", "\(value)") }
    return Float(value)
  }

  func theta(_ key: String, _ value: Double) throws(CheckpointError) -> Double {
    guard value > 1, value.isFinite else { throw fault(key, "a number above 1", "\(value)") }
    return value
  }

  func activation(_ key: String, _ value: String) throws(CheckpointError) -> Activation {
    guard let activation = Activation(rawValue: value) else {
      throw fault(key, "'quick_gelu', 'gelu' or 'silu'", "'\(value)'")
    }
    return activation
  }
}
