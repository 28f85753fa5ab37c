import Kernels

/// `config.json` of a checkpoint that the original LLaVA code wrote: a language model's file with LLaVA's keys among its own.
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
  /// Not a key of the original code; directories that were converted carry it.
  var vision_config: VisionSection?

  /// Whether the file is of this layout: the converted ones have none of the original code's own keys.
  var isOriginal: Bool { mm_vision_tower != nil || mm_hidden_size != nil || mm_projector_type != nil }

  /// Whether the vision encoder was trained along, so that its weights in the checkpoint are not stock CLIP's; `nil` where the file
  /// does not say.
  var trainsVisionTower: Bool? {
    if let mm_tunable_parts, mm_tunable_parts.contains("mm_vision_tower") { return true }
    return unfreeze_mm_vision_tower
  }

  /// The kind of language model under LLaVA.
  func languageModelFamily(_ check: ValueCheck) throws(CheckpointError) -> LanguageModelFamily {
    switch model_type ?? "llava" {
    case "llava", "llava_llama": return .llama
    case "llava_mistral": return .mistral
    case "llava_qwen": return .qwen2
    default:
      throw check.fault(
        "model_type", "'llava', 'llava_llama', 'llava_mistral' or 'llava_qwen'", "'\(model_type ?? "")'")
    }
  }

  /// The configuration, or what is wrong with it.
  ///
  /// - Parameters:
  ///   - textSection: The language model's keys of the same file.
  ///   - vision: The vision encoder's configuration, which is in another file.
  func checked(
    _ textSection: TextSection, vision: VisionConfiguration, _ check: ValueCheck
  ) throws(CheckpointError) -> LLaVAConfiguration {
    let text = try textSection.checked(check, kind: try languageModelFamily(check))
    guard mm_projector_type == "mlp2x_gelu" else {
      throw check.fault(
        "mm_projector_type", "'mlp2x_gelu'", mm_projector_type.map { "'\($0)'" } ?? "nothing ('linear')")
    }
    if mm_use_im_start_end == true { throw check.fault("mm_use_im_start_end", "false", "true, which is not supported") }
    if let size = mm_hidden_size, size != vision.hiddenSize {
      throw check.fault("mm_hidden_size", "\(vision.hiddenSize), the vision encoder's", "\(size)")
    }
    let feature = mm_vision_select_feature ?? "patch"
    guard feature == "patch" || feature == "cls_patch" else {
      throw check.fault("mm_vision_select_feature", "'patch' or 'cls_patch'", "'\(feature)'")
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
      throw check.fault("image_aspect_ratio", "'pad', 'anyres' or 'square'", "'\(ratio)', which is not supported")
    }
    let merge: AnyResolution.Merge
    switch mm_patch_merge_type ?? "flat" {
    case "spatial_unpad": merge = .spatialUnpad
    case "flat": merge = .flat
    case let other: throw check.fault("mm_patch_merge_type", "'spatial_unpad' or 'flat'", "'\(other)'")
    }
    guard mm_vision_select_feature ?? "patch" == "patch" else {
      throw check.fault("mm_vision_select_feature", "'patch' for image_aspect_ratio 'anyres'", "'cls_patch'")
    }
    guard let pinpoints = image_grid_pinpoints?.pairs else {
      throw check.fault("image_grid_pinpoints", "the canvases of image_aspect_ratio 'anyres'", "nothing")
    }
    return try AnyResolution(checking: pinpoints, vision, sizeRule: .original, merge: merge, check)
  }
}
