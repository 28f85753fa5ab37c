package import Kernels

/// The vision encoder families of LLaVA: vision transformers that differ in their ends.
package enum VisionEncoderFamily: String, Sendable {
  /// A class token, and a norm before the first layer.
  case clip
  /// Neither of them; the patch embedding has a bias.
  case siglip
}

/// The configuration of the vision encoder: CLIP or SigLIP.
package struct VisionConfiguration: Sendable, Equatable {
  package var family = VisionEncoderFamily.clip
  package var hiddenSize: Int
  package var intermediateSize: Int
  package var layerCount: Int
  package var headCount: Int
  package var imageSize: Int
  package var patchSize: Int
  package var layerNormEpsilon: Float
  package var activation: Activation
  /// Whether the norm after the last layer is applied to the features, as in SmolVLM.
  package var appliesFinalNorm = false
  /// Whether patches have the positions of the vision encoder of Idefics3 in transformers, which depend on the data type
  /// of the weights; see `PatchEmbedding`.
  package var placesPatchesByFractions = false

  package var hasClassToken: Bool { family == .clip }

  package var patchesPerSide: Int { imageSize / patchSize }

  package var patchCount: Int { patchesPerSide * patchesPerSide }

  /// The rows of a view in the encoder's layers: its patches and, if there is one, the class token.
  package var rowsPerView: Int { patchCount + (hasClassToken ? 1 : 0) }

  package var heads: HeadLayout { layer.heads }

  /// The sizes of a layer.
  package var layer: EncoderLayerConfiguration {
    EncoderLayerConfiguration(
      hiddenSize: hiddenSize, intermediateSize: intermediateSize, headCount: headCount,
      layerNormEpsilon: layerNormEpsilon, activation: activation)
  }
}

/// The sizes of a layer of the vision encoder or of CLIP's text encoder.
package struct EncoderLayerConfiguration: Sendable, Equatable {
  package var hiddenSize: Int
  package var intermediateSize: Int
  package var headCount: Int
  package var layerNormEpsilon: Float
  package var activation: Activation

  package var heads: HeadLayout {
    HeadLayout(headCount: headCount, keyValueHeadCount: headCount, headDimension: hiddenSize / headCount)
  }
}

extension VisionConfiguration {
  /// The number of parameters, with a norm after the last layer and without a pooling head.
  var parameterCount: Int {
    let (d, m) = (hiddenSize, intermediateSize)
    let embeddings = d * 3 * patchSize * patchSize + (rowsPerView + 1) * d
    let inputNorm = family == .clip ? 2 * d : 0
    let layer = 4 * (d * d + d) + 2 * d * m + m + d + 4 * d
    return embeddings + inputNorm + layerCount * layer + 2 * d
  }
}

extension VisionConfiguration {
  /// CLIP ViT-L/14 at 336 pixels, the vision encoder of LLaVA-1.5 and LLaVA-NeXT.
  package static let clipLarge336 = VisionConfiguration(
    hiddenSize: 1024, intermediateSize: 4096, layerCount: 24, headCount: 16, imageSize: 336, patchSize: 14,
    layerNormEpsilon: 1e-5, activation: .quickGELU)

  /// SigLIP so400m/14 at 384 pixels without its last layer, the vision encoder of LLaVA-OneVision.
  package static let siglipSo400m384 = VisionConfiguration(
    family: .siglip, hiddenSize: 1152, intermediateSize: 4304, layerCount: 26, headCount: 16, imageSize: 384,
    patchSize: 14, layerNormEpsilon: 1e-6, activation: .tanhGELU)

  /// SigLIP B/16 at 512 pixels, the vision encoder of SmolVLM-256M and -500M.
  package static let smolVLM512 = VisionConfiguration(
    family: .siglip, hiddenSize: 768, intermediateSize: 3072, layerCount: 12, headCount: 12, imageSize: 512,
    patchSize: 16, layerNormEpsilon: 1e-6, activation: .tanhGELU, appliesFinalNorm: true,
    placesPatchesByFractions: true)

  /// The vision encoders of published checkpoints, by the last part of the name, with all of their layers.
  static func published(_ name: String) -> VisionConfiguration? {
    var configuration = clipLarge336
    switch name {
    case "clip-vit-large-patch14-336": break
    case "clip-vit-large-patch14": configuration.imageSize = 224
    case "siglip-so400m-patch14-384":
      configuration = siglipSo400m384
      configuration.layerCount = 27
    default: return nil
    }
    return configuration
  }

  /// The vision encoder of a `config.json` of the Hugging Face layout.
  ///
  /// - Parameter type: The type of the model, which has an encoder for files without the section.
  init(ofHuggingFace file: ConfigurationSection, _ type: ModelType) throws(CheckpointError) {
    let section = try file.section("vision_config")
    if type.splitsImages {
      try self.init(idefics3: section ?? ConfigurationSection(file: file.file, prefix: "vision_config."))
    } else if let section {
      try self.init(section, standard: type.standardVision.family)
    } else {
      self = type.standardVision
    }
  }

  /// The vision encoder of SmolVLM and Idefics3, whose section is read by its own class whatever its model type.
  private init(idefics3 file: ConfigurationSection) throws(CheckpointError) {
    let standard = Self(
      family: .siglip, hiddenSize: 1152, intermediateSize: 3072, layerCount: 12, headCount: 16, imageSize: 224,
      patchSize: 32, layerNormEpsilon: 1e-6, activation: .tanhGELU, appliesFinalNorm: true,
      placesPatchesByFractions: true)
    try self.init(file, defaults: standard)
  }

  /// Keys that the file omits have the values of the family's smallest model, as in the reference library.
  ///
  /// - Parameters:
  ///   - given: The family of a part of a larger file; `nil` to read it from the section.
  ///   - standard: The family of a section without a model type.
  init(
    _ file: ConfigurationSection, family given: VisionEncoderFamily? = nil, standard: VisionEncoderFamily = .clip
  ) throws(CheckpointError) {
    var family = VisionEncoderFamily.clip
    if let given {
      family = given
    } else {
      family = try file.choice(
        "model_type", ["clip_vision_model": .clip, "siglip_vision_model": .siglip],
        default: standard == .siglip ? "siglip_vision_model" : "clip_vision_model")
    }
    try self.init(
      file,
      defaults: Self(
        family: family, hiddenSize: 768, intermediateSize: 3072, layerCount: 12, headCount: 12, imageSize: 224,
        patchSize: family == .clip ? 32 : 16, layerNormEpsilon: family == .clip ? 1e-5 : 1e-6,
        activation: family == .clip ? .quickGELU : .tanhGELU))
  }

  /// - Parameter defaults: The family, and the values of keys that the file omits.
  private init(_ file: ConfigurationSection, defaults: VisionConfiguration) throws(CheckpointError) {
    guard !file.contains("num_channels") || file["num_channels"].wholeValue == 3 else {
      throw file.error("num_channels", "3")
    }
    self = defaults
    hiddenSize = try file.size("hidden_size", default: hiddenSize)
    intermediateSize = try file.size("intermediate_size", default: intermediateSize)
    layerCount = try file.integer("num_hidden_layers", in: 1...1024, default: layerCount)
    headCount = try file.size("num_attention_heads", default: headCount)
    imageSize = try file.integer("image_size", in: 1...4096, default: imageSize)
    patchSize = try file.integer("patch_size", in: 1...4096, default: patchSize)
    layerNormEpsilon = try file.epsilon("layer_norm_eps", default: family == .clip ? 1e-5 : 1e-6)
    activation = try file.activation(
      "hidden_act", default: activation == .quickGELU ? "quick_gelu" : "gelu_pytorch_tanh")
    guard hiddenSize.isMultiple(of: headCount) else {
      throw file.error("num_attention_heads", "a divisor of \(hiddenSize)", found: "\(headCount)")
    }
    guard patchSize <= imageSize else {
      throw file.error("patch_size", "at most \(imageSize)", found: "\(patchSize)")
    }
  }
}
