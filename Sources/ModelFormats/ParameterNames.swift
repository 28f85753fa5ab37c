/// The published spellings of LLaVA's parameter names, brought to one.
///
/// The one spelling is that of the `llava-hf` checkpoints as first published (`language_model.model.layers.0…`); newer
/// versions of the reference library write `model.language_model.layers.0…` and `lm_head` instead.
enum ParameterNames {
  private static let newerPrefixes = [
    ("model.language_model.", "language_model.model."),
    ("model.vision_tower.", "vision_tower."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("model.image_newline", "image_newline"),
    ("lm_head.", "language_model.lm_head."),
  ]

  /// The one name of a stored parameter.
  static func canonical(_ stored: String) -> String {
    for (prefix, replacement) in newerPrefixes where stored.hasPrefix(prefix) {
      return replacement + stored.dropFirst(prefix.count)
    }
    return stored
  }

  /// Whether a stored tensor is a constant that models compute for themselves.
  static func isComputedBuffer(_ name: String) -> Bool {
    name.hasSuffix(".rotary_emb.inv_freq") || name.hasSuffix(".embeddings.position_ids")
  }
}
