/// The published spellings of LLaVA's parameter names, brought to one.
///
/// The one spelling is that of the `llava-hf` checkpoints as first published (`language_model.model.layers.0…`). Newer
/// versions of the reference library write `model.language_model.layers.0…`, the original LLaVA code `model.layers.0…`. No
/// name of one spelling means another thing in another, so there is one table for all.
enum ParameterNames {
  private static let prefixes = [
    // Newer versions of the reference library.
    ("model.language_model.", "language_model.model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("model.image_newline", "image_newline"),
    ("lm_head.", "language_model.lm_head."),
    // The original code. Its tower is a module in a module, so the longer prefix goes before the newer library's.
    ("model.vision_tower.vision_tower.", "vision_tower."),
    ("model.vision_tower.", "vision_tower."),
    ("model.embed_tokens.", "language_model.model.embed_tokens."),
    ("model.layers.", "language_model.model.layers."),
    ("model.norm.", "language_model.model.norm."),
    ("model.mm_projector.0.", "multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "multi_modal_projector.linear_2."),
  ]

  /// The one name of a stored parameter.
  static func canonical(_ stored: String) -> String {
    for (prefix, replacement) in prefixes where stored.hasPrefix(prefix) {
      return replacement + stored.dropFirst(prefix.count)
    }
    return stored
  }

  /// Whether a stored tensor is a constant that models compute for themselves.
  static func isComputedBuffer(_ name: String) -> Bool {
    name.hasSuffix(".rotary_emb.inv_freq") || name.hasSuffix(".embeddings.position_ids")
  }
}
