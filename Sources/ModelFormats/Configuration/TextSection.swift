internal import Kernels

/// The language model as a configuration file describes it, before defaults and checks.
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

  /// - Parameter kind: The kind of language model, where the section does not say it itself.
  func checked(_ check: ValueCheck, kind: TextKind? = nil) throws(CheckpointError) -> TextConfiguration {
    let name = model_type ?? "llama"
    guard let kind = kind ?? TextKind(rawValue: name) else {
      throw check.fault("model_type", "'llama', 'mistral' or 'qwen2'", "'\(name)'")
    }
    let hiddenSize = try check.size("hidden_size", hidden_size ?? 4096)
    let headCount = try check.size("num_attention_heads", num_attention_heads ?? 32)
    let keyValueHeadCount = try check.size(
      "num_key_value_heads", num_key_value_heads ?? kind.defaultKeyValueHeadCount ?? headCount)
    let headDimension = try check.size("head_dim", head_dim ?? hiddenSize / headCount)
    guard headCount.isMultiple(of: keyValueHeadCount) else {
      throw check.fault("num_key_value_heads", "a divisor of \(headCount)", "\(keyValueHeadCount)")
    }
    guard head_dim != nil || hiddenSize.isMultiple(of: headCount), headDimension.isMultiple(of: 2) else {
      throw check.fault("num_attention_heads", "heads of even, equal size in \(hiddenSize)", "\(headCount)")
    }
    if mlp_bias == true { throw check.fault("mlp_bias", "false", "true") }
    guard hidden_act ?? "silu" == "silu" else {
      throw check.fault("hidden_act", "'silu'", "'\(hidden_act ?? "")'")
    }
    let contextLength = try check.integer(
      "max_position_embeddings", max_position_embeddings ?? kind.defaultContextLength, in: 1...(1 << 24))
    // Qwen2's files carry a window that is off unless another key switches it on.
    if let window = sliding_window, window < contextLength, kind != .qwen2 || use_sliding_window == true {
      throw check.fault("sliding_window", "null", "\(window)")
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

extension TextKind {
  // What the reference library takes where the file is silent.

  var defaultIntermediateSize: Int {
    switch self {
    case .llama: 11_008
    case .mistral: 14_336
    case .qwen2: 22_016
    }
  }

  /// `nil` for as many as there are query heads.
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

/// How rotary frequencies are stretched, under `rope_scaling` or, in newer files, `rope_parameters`.
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
      guard high > low else { throw check.fault("high_freq_factor", "more than low_freq_factor (\(low))", "\(high)") }
      return .llama3(
        factor: try check.number("factor", factor, atLeast: 1), lowFrequencyFactor: low, highFrequencyFactor: high,
        originalContextLength: try check.number(
          "original_max_position_embeddings", original_max_position_embeddings, atLeast: 1))
    default: throw check.fault("rope_type", "'default', 'linear' or 'llama3'", "'\(kind)', which is not supported")
    }
  }
}
