internal import Kernels

/// The vision tower as a configuration file describes it, before defaults and checks.
///
/// What the file leaves out is CLIP ViT-B/32's, as in the reference library.
struct VisionSection: Decodable {
  var model_type: String?
  var hidden_size: Int?
  var intermediate_size: Int?
  var num_hidden_layers: Int?
  var num_attention_heads: Int?
  var image_size: Int?
  var patch_size: Int?
  var num_channels: Int?
  var layer_norm_eps: Double?
  var hidden_act: String?

  static let clipLarge336 = VisionSection(
    model_type: "clip_vision_model", hidden_size: 1024, intermediate_size: 4096, num_hidden_layers: 24,
    num_attention_heads: 16, image_size: 336, patch_size: 14)

  /// The towers that LLaVA's published checkpoints name, by the last part of the name.
  static func published(_ name: String) -> VisionSection? {
    var tower = clipLarge336
    switch name {
    case "clip-vit-large-patch14-336": break
    case "clip-vit-large-patch14": tower.image_size = 224
    default: return nil
    }
    return tower
  }

  func checked(_ check: ValueCheck) throws(CheckpointError) -> VisionConfiguration {
    let kind = model_type ?? "clip_vision_model"
    guard kind == "clip_vision_model" else { throw check.fault("model_type", "'clip_vision_model'", "'\(kind)'") }
    guard num_channels ?? 3 == 3 else { throw check.fault("num_channels", "3", "\(num_channels ?? 3)") }
    let configuration = VisionConfiguration(
      hiddenSize: try check.size("hidden_size", hidden_size ?? 768),
      intermediateSize: try check.size("intermediate_size", intermediate_size ?? 3072),
      layerCount: try check.integer("num_hidden_layers", num_hidden_layers ?? 12, in: 1...1024),
      headCount: try check.size("num_attention_heads", num_attention_heads ?? 12),
      imageSize: try check.integer("image_size", image_size ?? 224, in: 1...4096),
      patchSize: try check.integer("patch_size", patch_size ?? 32, in: 1...4096),
      layerNormEpsilon: try check.epsilon("layer_norm_eps", layer_norm_eps ?? 1e-5),
      activation: try check.activation("hidden_act", hidden_act ?? "quick_gelu"))
    guard configuration.hiddenSize.isMultiple(of: configuration.headCount) else {
      throw check.fault(
        "num_attention_heads", "a divisor of \(configuration.hiddenSize)", "\(configuration.headCount)")
    }
    guard configuration.patchSize <= configuration.imageSize else {
      throw check.fault("patch_size", "at most \(configuration.imageSize)", "\(configuration.patchSize)")
    }
    return configuration
  }
}
