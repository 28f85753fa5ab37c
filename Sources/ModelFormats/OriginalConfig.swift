import Kernels

/// `config.json` of the original LLaVA code: a language model's configuration with additional LLaVA keys.
///
/// Source: `LlavaMetaModel` in LLaVA's `llava/model/llava_arch.py`, `CLIPVisionTower` in its
/// `llava/model/multimodal_encoder/clip_encoder.py`.
struct OriginalConfigurationFile: Decodable {
  var modelType: String?
  var mmVisionTower: String?
  var mmHiddenSize: Int?
  var mmProjectorType: String?
  var mmVisionSelectLayer: Int?
  var mmVisionSelectFeature: String?
  var mmPatchMergeType: String?
  var mmUseImStartEnd: Bool?
  var mmTunableParts: String?
  var unfreezeMmVisionTower: Bool?
  var imageAspectRatio: String?
  var imageGridPinpoints: GridPinpoints?
  var tokenizerModelMaxLength: Int?
  /// Not a key of the original code; some converted directories have it.
  var visionConfig: VisionSection?

  /// Whether the file has this layout: converted files have none of these keys of the original code.
  var isOriginal: Bool { mmVisionTower != nil || mmHiddenSize != nil || mmProjectorType != nil }

  /// Whether the vision encoder was trained with the model, so that its weights differ from stock CLIP; `nil` if the
  /// file does not define it.
  var trainsVisionTower: Bool? {
    if let mmTunableParts, mmTunableParts.contains("mm_vision_tower") { return true }
    return unfreezeMmVisionTower
  }

  /// The family of the language model.
  func languageModelFamily(_ check: ValueCheck) throws(CheckpointError) -> LanguageModelFamily {
    switch modelType ?? "llava" {
    case "llava", "llava_llama": return .llama
    case "llava_mistral": return .mistral
    case "llava_qwen": return .qwen2
    default:
      throw check.error(
        "model_type", "'llava', 'llava_llama', 'llava_mistral' or 'llava_qwen'", "'\(modelType ?? "")'")
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
    guard mmProjectorType == "mlp2x_gelu" else {
      throw check.error(
        "mm_projector_type", "'mlp2x_gelu'", mmProjectorType.map { "'\($0)'" } ?? "nothing ('linear')")
    }
    if mmUseImStartEnd == true { throw check.error("mm_use_im_start_end", "false", "true, which is not supported") }
    if let size = mmHiddenSize, size != vision.hiddenSize {
      throw check.error("mm_hidden_size", "\(vision.hiddenSize), the vision encoder's", "\(size)")
    }
    let feature = mmVisionSelectFeature ?? "patch"
    guard feature == "patch" || feature == "cls_patch" else {
      throw check.error("mm_vision_select_feature", "'patch' or 'cls_patch'", "'\(feature)'")
    }
    return try LLaVAConfiguration(
      layout: .original, modelType: modelType ?? "llava", imageTokenID: LLaVAConfiguration.imageSentinel,
      visionFeatureLayer: mmVisionSelectLayer ?? -2, dropsClassToken: feature == "patch", projectorActivation: .gelu,
      projectorHasBias: true, tiesWordEmbeddings: textSection.tieWordEmbeddings ?? false,
      imageAspectRatio: imageAspectRatio, anyResolution: checkedAnyResolution(vision, check),
      promptLimit: promptLimit(check), eosTokens: textSection.eosTokenID?.tokens, text: text, vision: vision
    ).checkingFeatureLayer("mm_vision_select_layer", check)
  }

  private func promptLimit(_ check: ValueCheck) throws(CheckpointError) -> Int? {
    guard let limit = tokenizerModelMaxLength else { return nil }
    return try check.integer("tokenizer_model_max_length", limit, in: 1...(1 << 24))
  }

  private func checkedAnyResolution(
    _ vision: VisionConfiguration, _ check: ValueCheck
  ) throws(CheckpointError) -> AnyResolution? {
    guard let ratio = imageAspectRatio, ratio.hasPrefix("anyres") else { return nil }
    guard ratio == "anyres" else {
      throw check.error("image_aspect_ratio", "'pad', 'anyres' or 'square'", "'\(ratio)', which is not supported")
    }
    let merge: AnyResolution.Merge
    switch mmPatchMergeType ?? "flat" {
    case "spatial_unpad": merge = .spatialUnpad
    case "flat": merge = .flat
    case let other: throw check.error("mm_patch_merge_type", "'spatial_unpad' or 'flat'", "'\(other)'")
    }
    guard mmVisionSelectFeature ?? "patch" == "patch" else {
      throw check.error("mm_vision_select_feature", "'patch' for image_aspect_ratio 'anyres'", "'cls_patch'")
    }
    guard let pinpoints = imageGridPinpoints?.pairs else {
      throw check.error("image_grid_pinpoints", "the canvases of image_aspect_ratio 'anyres'", "nothing")
    }
    return try AnyResolution(checking: pinpoints, vision, sizeRule: .original, merge: merge, check)
  }

  enum CodingKeys: String, CodingKey {
    case modelType = "model_type"
    case mmVisionTower = "mm_vision_tower"
    case mmHiddenSize = "mm_hidden_size"
    case mmProjectorType = "mm_projector_type"
    case mmVisionSelectLayer = "mm_vision_select_layer"
    case mmVisionSelectFeature = "mm_vision_select_feature"
    case mmPatchMergeType = "mm_patch_merge_type"
    case mmUseImStartEnd = "mm_use_im_start_end"
    case mmTunableParts = "mm_tunable_parts"
    case unfreezeMmVisionTower = "unfreeze_mm_vision_tower"
    case imageAspectRatio = "image_aspect_ratio"
    case imageGridPinpoints = "image_grid_pinpoints"
    case tokenizerModelMaxLength = "tokenizer_model_max_length"
    case visionConfig = "vision_config"
  }
}
