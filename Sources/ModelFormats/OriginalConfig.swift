import Kernels

/// `config.json` of the original LLaVA code: a language model's configuration with additional LLaVA keys.
///
/// Source: `LlavaMetaModel` in LLaVA's `llava/model/llava_arch.py`, `CLIPVisionTower` in its
/// `llava/model/multimodal_encoder/clip_encoder.py`.
struct OriginalConfigurationFile: Decodable {
  var model_type: String?
  var mm_vision_tower: String?
  var mm_hidden_size: Int?
  var mm_projector_type: String?
  var mm_vision_select_layer: Int?
  var mm_vision_select_feature: String?
  var mm_patch_merge_type: String?
  var mm_use_im_start_end: Bool?
  var mm_tunable_parts: String?
  var unfreeze_mm_vision_tower: Bool?
  var image_aspect_ratio: String?
  var image_grid_pinpoints: GridPinpoints?
  var tokenizer_model_max_length: Int?
  /// Not a key of the original code; some converted directories have it.
  var vision_config: VisionSection?

  /// Whether the file has this layout: converted files have none of these keys of the original code.
  var isOriginal: Bool { mm_vision_tower != nil || mm_hidden_size != nil || mm_projector_type != nil }

  /// Whether the vision encoder was trained with the model, so that its weights differ from stock CLIP; `nil` if the
  /// file does not define it.
  var trainsVisionTower: Bool? {
    if let mm_tunable_parts, mm_tunable_parts.contains("mm_vision_tower") { return true }
    return unfreeze_mm_vision_tower
  }

  /// The family of the language model.
  func languageModelFamily(_ check: ValueCheck) throws(CheckpointError) -> LanguageModelFamily {
    switch model_type ?? "llava" {
    case "llava", "llava_llama": return .llama
    case "llava_mistral": return .mistral
    case "llava_qwen": return .qwen2
    default:
      throw check.error(
        "model_type", "'llava', 'llava_llama', 'llava_mistral' or 'llava_qwen'", "'\(model_type ?? "")'")
    }
  }

  /// The checked configuration.
  ///
  /// - Parameters:
  ///   - textSection: The language model's keys in the same file.
  ///   - vision: The configuration of the vision encoder, from another file.
  func checked(
    _ textSection: TextSection, vision: VisionConfiguration, _ check: ValueCheck
  ) throws(CheckpointError) -> LLaVAConfiguration {
    let text = try textSection.checked(check, kind: try languageModelFamily(check))
    guard mm_projector_type == "mlp2x_gelu" else {
      throw check.error(
        "mm_projector_type", "'mlp2x_gelu'", mm_projector_type.map { "'\($0)'" } ?? "nothing ('linear')")
    }
    if mm_use_im_start_end == true { throw check.error("mm_use_im_start_end", "false", "true, which is not supported") }
    if let size = mm_hidden_size, size != vision.hiddenSize {
      throw check.error("mm_hidden_size", "\(vision.hiddenSize), the vision encoder's", "\(size)")
    }
    let feature = mm_vision_select_feature ?? "patch"
    guard feature == "patch" || feature == "cls_patch" else {
      throw check.error("mm_vision_select_feature", "'patch' or 'cls_patch'", "'\(feature)'")
    }
    return try LLaVAConfiguration(
      layout: .original, modelType: model_type ?? "llava", imageTokenID: LLaVAConfiguration.imageSentinel,
      visionFeatureLayer: mm_vision_select_layer ?? -2, dropsClassToken: feature == "patch", projectorActivation: .gelu,
      projectorHasBias: true, tiesWordEmbeddings: textSection.tie_word_embeddings ?? false,
      imageAspectRatio: image_aspect_ratio, anyResolution: checkedAnyResolution(vision, check),
      promptLimit: promptLimit(check), eosTokens: textSection.eos_token_id?.tokens, text: text, vision: vision
    ).checkingFeatureLayer("mm_vision_select_layer", check)
  }

  private func promptLimit(_ check: ValueCheck) throws(CheckpointError) -> Int? {
    guard let limit = tokenizer_model_max_length else { return nil }
    return try check.integer("tokenizer_model_max_length", limit, in: 1...(1 << 24))
  }

  private func checkedAnyResolution(
    _ vision: VisionConfiguration, _ check: ValueCheck
  ) throws(CheckpointError) -> AnyResolution? {
    guard let ratio = image_aspect_ratio, ratio.hasPrefix("anyres") else { return nil }
    guard ratio == "anyres" else {
      throw check.error("image_aspect_ratio", "'pad', 'anyres' or 'square'", "'\(ratio)', which is not supported")
    }
    let merge: AnyResolution.Merge
    switch mm_patch_merge_type ?? "flat" {
    case "spatial_unpad": merge = .spatialUnpad
    case "flat": merge = .flat
    case let other: throw check.error("mm_patch_merge_type", "'spatial_unpad' or 'flat'", "'\(other)'")
    }
    guard mm_vision_select_feature ?? "patch" == "patch" else {
      throw check.error("mm_vision_select_feature", "'patch' for image_aspect_ratio 'anyres'", "'cls_patch'")
    }
    guard let pinpoints = image_grid_pinpoints?.pairs else {
      throw check.error("image_grid_pinpoints", "the canvases of image_aspect_ratio 'anyres'", "nothing")
    }
    return try AnyResolution(checking: pinpoints, vision, sizeRule: .original, merge: merge, check)
  }
}
