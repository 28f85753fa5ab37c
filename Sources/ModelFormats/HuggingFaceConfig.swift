import Kernels
import Storage

extension LLaVAConfiguration {
  /// The configuration in a `config.json` of the Hugging Face layout, with the reference library's defaults.
  ///
  /// - Parameter vision: The configuration of its vision encoder.
  init(huggingFace file: ConfigurationSection, vision: VisionConfiguration) throws(CheckpointError) {
    let modelType = try ModelType(file)
    if modelType.splitsImages {
      try self.init(idefics3: file, modelType, vision: vision)
      return
    }
    let textSection = try file.section("text_config")
    let text = try TextConfiguration(
      textSection ?? ConfigurationSection(file: file.file, prefix: "text_config."),
      standard: modelType == .llavaOneVision ? .qwen2 : .llama)
    let dropsClassToken = try file.choice(
      "vision_feature_select_strategy", ["default": true, "full": false],
      default: modelType == .llavaOneVision ? "full" : "default")
    guard vision.hasClassToken || !dropsClassToken else {
      throw file.error(
        "vision_feature_select_strategy", "'full' for a vision encoder without class token",
        found: "'default', which would leave out the first patch")
    }
    // The newer name wins. The row of the token in the embedding is never read, so the token may be outside of it.
    let tokenKey = file.contains("image_token_id") ? "image_token_id" : "image_token_index"
    var eosTokens = try textSection?.eosTokens()
    if eosTokens == nil { eosTokens = try file.eosTokens() }
    self.init(
      layout: .huggingFace, modelType: modelType.rawValue,
      imageTokenID: try file.integer(
        tokenKey, in: 0...Int(Int32.max), default: modelType == .llavaOneVision ? 151_646 : 32_000),
      visionFeatureLayer: try file.featureLayer(
        "vision_feature_layer", of: vision, default: modelType == .llavaOneVision ? -1 : -2),
      dropsClassToken: dropsClassToken,
      projectorActivation: try file.activation("projector_hidden_act", default: "gelu"),
      projectorHasBias: try file.flag("multimodal_projector_bias", default: true),
      tiesWordEmbeddings: try textSection?.flag("tie_word_embeddings", default: false) ?? false,
      imageAspectRatio: try file.text("image_aspect_ratio"),
      anyResolution: try AnyResolution(file, modelType, vision, dropsClassToken: dropsClassToken),
      eosTokens: eosTokens, text: text, vision: vision)
    if modelType == .llavaOneVision {
      let key = file.contains("video_token_id") ? "video_token_id" : "video_token_index"
      videoTokenID = try file.integer(key, in: 0...Int(Int32.max), default: 151_647)
      guard videoTokenID != imageTokenID else { throw file.error(key, "another token than the image token") }
    }
    try readTopLevel(file, modelType, textSection)
  }

  /// The configuration of SmolVLM or Idefics3.
  ///
  /// Source: `Idefics3Config` and `SmolVLMConfig` in transformers.
  private init(
    idefics3 file: ConfigurationSection, _ modelType: ModelType, vision: VisionConfiguration
  ) throws(CheckpointError) {
    let textSection = try file.section("text_config")
    var text = try TextConfiguration(
      textSection ?? ConfigurationSection(file: file.file, prefix: "text_config."))
    if textSection == nil { text.rmsNormEpsilon = 1e-5 }
    let factor = try file.integer("scale_factor", in: 1...64, default: 2)
    guard vision.patchesPerSide.isMultiple(of: factor) else {
      throw file.error(
        "scale_factor", "a divisor of the \(vision.patchesPerSide) patches along the side of a view",
        found: "\(factor)")
    }
    var eosTokens = try textSection?.eosTokens()
    if eosTokens == nil { eosTokens = try file.eosTokens() }
    self.init(
      layout: .huggingFace, modelType: modelType.rawValue,
      imageTokenID: try file.integer("image_token_id", in: 0...Int(Int32.max), default: 128_257),
      visionFeatureLayer: -1, dropsClassToken: false, projectorActivation: .gelu, projectorHasBias: false,
      tiesWordEmbeddings: try textSection?.flag("tie_word_embeddings", default: false) ?? false,
      imageSplitting: ImageSplitting(for: vision), pixelShuffle: factor, eosTokens: eosTokens, text: text,
      vision: vision)
    try readTopLevel(file, modelType, textSection)
  }

  /// Reads the names of the model, and remarks about keys of the top level.
  private mutating func readTopLevel(
    _ file: ConfigurationSection, _ modelType: ModelType, _ textSection: ConfigurationSection?
  ) throws(CheckpointError) {
    readNames(file)
    if textSection?.contains("tie_word_embeddings") != true {
      tiesWordEmbeddingsAtTop = try file.flag("tie_word_embeddings", default: false)
    }
    if let className = architectures.first, let declared = ModelType(className: className), declared != modelType {
      notes.append(
        .contradiction(
          file: "config.json", key: "architectures", found: className.excerpt,
          used: "model_type '\(modelType.rawValue)'"))
    }
  }

  /// Reads the names that identify the model family.
  mutating func readNames(_ file: ConfigurationSection) {
    architectures = (file["architectures"].array ?? []).prefix(8).compactMap(\.string)
    nameOrPath = file["_name_or_path"].string
    notes = text.notes
  }
}

/// The model types of the reference library.
package enum ModelType: String, Sendable, CaseIterable {
  case llava
  case llavaNext = "llava_next"
  case llavaOneVision = "llava_onevision"
  case smolVLM = "smolvlm"
  case idefics3

  private var className: String {
    switch self {
    case .llava: "LlavaForConditionalGeneration"
    case .llavaNext: "LlavaNextForConditionalGeneration"
    case .llavaOneVision: "LlavaOnevisionForConditionalGeneration"
    case .smolVLM: "SmolVLMForConditionalGeneration"
    case .idefics3: "Idefics3ForConditionalGeneration"
    }
  }

  /// The type of a class in `architectures`.
  init?(className: String) {
    guard let type = Self.allCases.first(where: { $0.className == className }) else { return nil }
    self = type
  }

  /// The model type, or that of the class in `architectures` if the file has none.
  init(_ file: ConfigurationSection) throws(CheckpointError) {
    let className = file["architectures"].array?.first?.string
    let named = try file.text("model_type").map(Self.init(rawValue:))
    guard let type = named ?? className.flatMap(Self.init(className:)) else {
      throw file.error(
        "model_type",
        "'llava', 'llava_next' or 'llava_onevision' (LLaVA-1.5, LLaVA-NeXT or LLaVA-OneVision), 'smolvlm' or "
          + "'idefics3', or an original LLaVA configuration")
    }
    self = type
  }

  /// Whether the model is SmolVLM or Idefics3, which differ in their names alone.
  package var splitsImages: Bool { self == .smolVLM || self == .idefics3 }

  /// The vision encoder of a file without the section.
  var standardVision: VisionConfiguration { self == .llavaOneVision ? .siglipSo400m384 : .clipLarge336 }
}

extension ConfigurationSection {
  /// The hidden state of the vision encoder that is used: an integer or a list of one.
  func featureLayer(
    _ key: String, of vision: VisionConfiguration, default standard: Int = -2
  ) throws(CheckpointError) -> Int {
    let range = -(vision.layerCount + 1)...vision.layerCount
    guard let list = self[key].array else { return try integer(key, in: range, default: standard) }
    guard list.count == 1, let layer = list[0].wholeValue, range.contains(layer) else {
      throw error(
        key, "one layer from \(range.lowerBound) to \(range.upperBound)",
        found: list.count == 1
          ? "a list of \(list[0].excerpt)" : "a list of \(list.count); features of several layers are not supported")
    }
    return layer
  }

  /// The tokens of `eos_token_id`; `nil` if it is absent or null. Tokens outside the vocabulary never occur.
  func eosTokens() throws(CheckpointError) -> Set<Int>? {
    try integers("eos_token_id", in: Int(Int32.min)...Int(Int32.max)).map(Set.init)
  }
}

extension TextConfiguration {
  /// - Parameters:
  ///   - file: The keys of the language model.
  ///   - given: The language model family, if it is not defined by the section.
  ///   - standard: The language model family of a section without a model type.
  init(
    _ file: ConfigurationSection, family given: LanguageModelFamily? = nil, standard: LanguageModelFamily = .llama
  ) throws(CheckpointError) {
    let family: LanguageModelFamily
    if let given {
      family = given
    } else {
      family = try file.choice(
        "model_type", ["llama": .llama, "mistral": .mistral, "qwen2": .qwen2], default: standard.rawValue)
    }
    let hiddenSize = try file.size("hidden_size", default: 4096)
    let headCount = try file.size("num_attention_heads", default: 32)
    let keyValueHeadCount =
      file["num_key_value_heads"].isNull && file.contains("num_key_value_heads")
      ? headCount : try file.size("num_key_value_heads", default: family.defaultKeyValueHeadCount ?? headCount)
    let givenHeadDimension = try file.size("head_dim")
    let headDimension = givenHeadDimension ?? hiddenSize / headCount
    guard headDimension > 0 else { throw file.error("head_dim", "hidden_size / num_attention_heads of at least 1") }
    guard headCount.isMultiple(of: keyValueHeadCount) else {
      throw file.error("num_key_value_heads", "a divisor of \(headCount)", found: "\(keyValueHeadCount)")
    }
    guard givenHeadDimension != nil || hiddenSize.isMultiple(of: headCount), headDimension.isMultiple(of: 2) else {
      throw file.error("num_attention_heads", "heads of even, equal size in \(hiddenSize)", found: "\(headCount)")
    }
    // The other families have no such biases in the reference library, whatever their files contain.
    if family == .llama, try file.flag("mlp_bias", default: false) { throw file.error("mlp_bias", "false") }
    _ = try file.choice("hidden_act", ["silu": (), "swish": ()], default: "silu")
    if !file["partial_rotary_factor"].isNull, file["partial_rotary_factor"].real != 1 {
      throw file.error("partial_rotary_factor", "1")
    }

    let positions = try file.integer("max_position_embeddings", in: 1...(1 << 24), default: family.defaultContextLength)
    let rope = try RotaryConfiguration(file, family)
    let window = try Self.slidingWindow(file, family)
    let attentionBias: AttentionBias =
      switch family {
      case .llama: try file.flag("attention_bias", default: false) ? .all : .none
      case .mistral: .none
      case .qwen2: .queriesKeysValues
      }
    self.init(
      kind: family, hiddenSize: hiddenSize,
      intermediateSize: try file.size("intermediate_size", default: family.defaultIntermediateSize),
      layerCount: try file.integer("num_hidden_layers", in: 1...1024, default: 32),
      headCount: headCount, keyValueHeadCount: keyValueHeadCount, headDimension: headDimension,
      vocabularySize: try file.integer("vocab_size", in: 1...(1 << 24), default: family.defaultVocabularySize),
      contextLength: min(positions, window ?? positions),
      rmsNormEpsilon: try file.epsilon("rms_norm_eps", default: 1e-6), ropeTheta: rope.theta,
      ropeScaling: rope.scaling, attentionBias: attentionBias)
    if let window, window <= positions { contextCeiling = window }
    if rope.isDynamic { contextCeiling = min(contextCeiling ?? positions, positions) }
    if let window, window < positions { notes.append(.cappedContext(slidingWindow: window, positions: positions)) }
  }

  /// The number of tokens that each token attends to; `nil` if it attends to all.
  private static func slidingWindow(
    _ file: ConfigurationSection, _ family: LanguageModelFamily
  ) throws(CheckpointError) -> Int? {
    // Files of Qwen2 contain a sliding window that is off unless another key enables it.
    if family == .qwen2, try !file.flag("use_sliding_window", default: false) { return nil }
    let missing = family == .llama || file.contains("sliding_window") ? nil : 4096
    return try file.integer("sliding_window", in: 1...(1 << 24)) ?? missing
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

/// RoPE's base and scaling, from `rope_theta` and `rope_scaling` or, in newer files, `rope_parameters`.
private struct RotaryConfiguration {
  var theta: Double
  var scaling = RotaryScaling.none
  /// Whether RoPE changes after `max_position_embeddings` tokens.
  var isDynamic = false

  init(_ file: ConfigurationSection, _ family: LanguageModelFamily) throws(CheckpointError) {
    let old = try file.section("rope_scaling")
    let newer = try file.section("rope_parameters")
    let parameters = file.contains("rope_theta") ? file : newer ?? file
    theta = try parameters.number("rope_theta", in: 1.000_001...Double.greatestFiniteMagnitude, default: 10_000)
    guard let section = old ?? newer else { return }
    // Of two names for the type, Mistral uses the newer one, the other families the older one.
    let names = family == .mistral ? ["rope_type", "type"] : ["type", "rope_type"]
    let key = names.first(where: section.contains) ?? "rope_type"
    let type = old == nil && !section.contains(key) ? "default" : section[key].string
    switch type {
    case "default": break
    case "linear": scaling = .linear(factor: try section.factor("factor", atLeast: 1))
    case "dynamic":
      _ = try section.factor("factor", atLeast: 1)
      isDynamic = true
    case "llama3":
      let low = try section.factor("low_freq_factor", atLeast: 0.001)
      let high = try section.factor("high_freq_factor", atLeast: 0.001)
      guard high > low else {
        throw section.error("high_freq_factor", "more than low_freq_factor (\(low))", found: "\(high)")
      }
      scaling = .llama3(
        factor: try section.factor("factor", atLeast: 1), lowFrequencyFactor: low, highFrequencyFactor: high,
        originalContextLength: try section.factor("original_max_position_embeddings", atLeast: 1))
    default: throw section.error(key, "'default', 'linear', 'dynamic' or 'llama3'")
    }
  }
}

extension ConfigurationSection {
  fileprivate func factor(_ key: String, atLeast least: Double) throws(CheckpointError) -> Double {
    try number(key, in: least...Double.greatestFiniteMagnitude)
  }
}
