import Kernels
import Storage

/// `config.json` of the original code of LLaVA, LLaVA-NeXT or LLaVA-OneVision: a language model's configuration with additional LLaVA keys.
///
/// Source: `LlavaMetaModel` in LLaVA's `llava/model/llava_arch.py`, `CLIPVisionTower` in its
/// `llava/model/multimodal_encoder/clip_encoder.py`.
struct OriginalConfiguration {
  let file: ConfigurationSection
  /// The family of the language model.
  let family: LanguageModelFamily
  /// The vision encoder by name or path.
  let visionTower: String
  /// Whether the vision encoder was trained with the model, so that its weights differ from stock CLIP; `nil` if the
  /// file does not define it.
  let trainsVisionTower: Bool?

  /// Whether a file has this layout.
  ///
  /// Converted files may keep keys of the original code, but have a section for the language model.
  static func matches(_ file: ConfigurationSection) -> Bool {
    let keys = ["mm_vision_tower", "mm_hidden_size", "mm_projector_type"]
    return keys.contains { !file[$0].isNull } && file["text_config"].isNull
  }

  /// Checks the model's type and its modules, so that other models are refused by these before their weights are read.
  init(_ file: ConfigurationSection) throws(CheckpointError) {
    self.file = file
    family = try Self.family(file)
    visionTower = try file.text("mm_vision_tower") ?? "openai/clip-vit-large-patch14-336"
    if let parts = try file.text("mm_tunable_parts"), parts.contains("mm_vision_tower") {
      trainsVisionTower = true
    } else {
      let key = "unfreeze_mm_vision_tower"
      trainsVisionTower = file[key].isNull ? nil : try file.flag(key, default: false)
    }
    guard file["mm_projector_type"].string == "mlp2x_gelu" else {
      throw file.error(
        "mm_projector_type", "'mlp2x_gelu'", found: file["mm_projector_type"].isNull ? "nothing ('linear')" : nil)
    }
    for key in ["mm_use_im_start_end", "s2"] {
      guard try !file.flag(key, default: false) else {
        throw file.error(key, "false", found: "true, which is not supported")
      }
    }
    if !file["mm_resampler_type"].isNull {
      throw file.error(
        "mm_resampler_type", "null", found: "\(file["mm_resampler_type"].excerpt); resamplers are not supported")
    }
  }

  /// The family by the class in `architectures`, which the original code writes, or by `model_type`.
  ///
  /// Early checkpoints of all families have the model type `llava`.
  private static func family(_ file: ConfigurationSection) throws(CheckpointError) -> LanguageModelFamily {
    let byType: LanguageModelFamily = try file.choice(
      "model_type", ["llava": .llama, "llava_llama": .llama, "llava_mistral": .mistral, "llava_qwen": .qwen2],
      default: "llava")
    guard let className = file["architectures"].array?.first?.string, className.hasPrefix("Llava"),
      className.hasSuffix("ForCausalLM")
    else { return byType }
    switch className {
    case "LlavaLlamaForCausalLM": return byType
    case "LlavaMistralForCausalLM": return .mistral
    case "LlavaQwenForCausalLM": return .qwen2
    default:
      throw file.error(
        "architectures", "'LlavaLlamaForCausalLM', 'LlavaMistralForCausalLM' or 'LlavaQwenForCausalLM'",
        found: className.excerpt)
    }
  }

  /// The checked configuration of the model.
  ///
  /// - Parameter vision: The configuration of the vision encoder, from another file.
  func configuration(vision: VisionConfiguration) throws(CheckpointError) -> LLaVAConfiguration {
    let text = try TextConfiguration(file, family: family)
    if let size = try file.size("mm_hidden_size"), size != vision.hiddenSize {
      throw file.error("mm_hidden_size", "\(vision.hiddenSize), the vision encoder's", found: "\(size)")
    }
    let dropsClassToken =
      try file.choice("mm_vision_select_feature", ["patch": true, "cls_patch": false], default: "patch")
      && vision.hasClassToken
    var configuration = LLaVAConfiguration(
      layout: .original, modelType: try file.text("model_type") ?? "llava",
      imageTokenID: LLaVAConfiguration.imageSentinel,
      visionFeatureLayer: try featureLayer(of: vision),
      dropsClassToken: dropsClassToken, projectorActivation: .gelu, projectorHasBias: true,
      tiesWordEmbeddings: try file.flag("tie_word_embeddings", default: false),
      imageAspectRatio: try file.text("image_aspect_ratio"),
      anyResolution: try anyResolution(vision, dropsClassToken: dropsClassToken),
      promptLimit: try file.integer("tokenizer_model_max_length", in: 1...(1 << 24)), eosTokens: try file.eosTokens(),
      text: text, vision: vision)
    configuration.readNames(file)
    return configuration
  }

  /// The hidden state that is used. Of SigLIP it is always that before the last layer.
  ///
  /// Source: `SigLipVisionTower` in LLaVA-NeXT's `siglip_encoder.py`.
  private func featureLayer(of vision: VisionConfiguration) throws(CheckpointError) -> Int {
    vision.family == .siglip ? -2 : try file.featureLayer("mm_vision_select_layer", of: vision)
  }

  private func anyResolution(
    _ vision: VisionConfiguration, dropsClassToken: Bool
  ) throws(CheckpointError) -> AnyResolution? {
    guard let ratio = try file.text("image_aspect_ratio"), ratio.hasPrefix("anyres") else { return nil }
    let maxMapViews = AnyResolution.maxMapViews(ratio)
    guard ratio == "anyres" || maxMapViews != nil else {
      throw file.error(
        "image_aspect_ratio", "'pad', 'square', 'anyres' or 'anyres_max_' and a number from 1 to 64",
        found: "\(ratio.excerpt), which is not supported")
    }
    let merge = try file.choice(
      "mm_patch_merge_type", ["spatial_unpad": AnyResolution.Merge.spatialUnpad, "flat": .flat], default: "flat")
    guard dropsClassToken || !vision.hasClassToken else {
      throw file.error("mm_vision_select_feature", "'patch' for image_aspect_ratio 'anyres'")
    }
    guard let pinpoints = try file.gridPinpoints(side: vision.imageSize) else {
      throw file.error("image_grid_pinpoints", "the canvases of image_aspect_ratio 'anyres'")
    }
    var rules = try AnyResolution(checking: pinpoints, vision, sizeRule: .original, merge: merge, file)
    // The limit is one of merge type spatial_unpad.
    if merge == .spatialUnpad { rules.maxMapViews = maxMapViews }
    rules.tilesOnlySingleImages = maxMapViews != nil
    return rules
  }
}
