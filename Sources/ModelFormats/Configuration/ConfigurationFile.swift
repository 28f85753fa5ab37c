/// `config.json` in the Hugging Face layout as written, before defaults and checks.
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

  /// The configuration, with the reference library's defaults, or what is wrong with it.
  func checked(_ path: String) throws(CheckpointError) -> LLaVAConfiguration {
    let check = ValueCheck(file: path)
    guard let modelType = model_type, modelType == "llava" || modelType == "llava_next" else {
      throw check.fault(
        "model_type", "'llava' or 'llava_next' (LLaVA-1.5 or LLaVA-NeXT), or an original LLaVA configuration",
        model_type.map { "'\($0)'" } ?? "nothing")
    }
    let text = try (text_config ?? TextSection()).checked(check.section("text_config"))
    // The reference's default tower is CLIP ViT-L/14-336 only when the whole section is missing.
    let vision = try (vision_config ?? .clipLarge336).checked(check.section("vision_config"))
    let strategy = vision_feature_select_strategy ?? "default"
    guard strategy == "default" || strategy == "full" else {
      throw check.fault("vision_feature_select_strategy", "'default' or 'full'", strategy)
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
      endTokens: (text_config?.eos_token_id ?? eos_token_id)?.tokens, text: text, vision: vision
    ).checkingFeatureLayer("vision_feature_layer", check)
  }
}

extension LLaVAConfiguration {
  /// Itself, if the tower has the feature layer.
  func checkingFeatureLayer(_ key: String, _ check: ValueCheck) throws(CheckpointError) -> LLaVAConfiguration {
    guard (0...vision.layerCount).contains(visionLayersNeeded) else {
      throw check.fault(key, "a layer of \(vision.layerCount)", "\(visionFeatureLayer)")
    }
    return self
  }
}
