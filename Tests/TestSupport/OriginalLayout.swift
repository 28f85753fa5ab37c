public import Foundation

/// A golden checkpoint rewritten in the layout of the original LLaVA code: the same values under other names.
///
/// Tensors have the names of the original module tree. The language model's configuration moves to the top level of
/// `config.json`. The tokenizer is `tokenizer.model` alone, without an image token.
public struct OriginalLayout {
  /// The location of the vision encoder's weights.
  public enum VisionTower {
    /// In the checkpoint, as in LLaVA-1.6.
    case inside
    /// In a CLIP directory of this name next to the model, as in LLaVA-1.5 with stock CLIP.
    case directory(String)
  }

  private struct Tensor {
    var element: String
    var shape: [Int]
    var bytes: [UInt8]
  }

  private let source: URL
  private let tensors: [String: Tensor]
  /// The new `config.json`, which tests may change.
  public var configuration: [String: Any]

  /// - Parameter golden: A golden checkpoint in a single file.
  public init(_ golden: String) throws {
    source = Goldens.url("models/\(golden)")
    let file = try GoldenTensors(source.appending(path: "model.safetensors"))
    tensors = try Dictionary(
      uniqueKeysWithValues: file.names.map { name in
        (name, Tensor(element: try file.elementName(name), shape: try file.shape(name), bytes: try file.bytes(name)))
      })
    let old = try Self.object(source.appending(path: "config.json"))
    let text = old["text_config"] as? [String: Any] ?? [:]
    configuration = text
    let type = text["model_type"] as? String
    configuration["model_type"] = type == "mistral" ? "llava_mistral" : "llava"
    configuration["architectures"] = [
      ["mistral": "LlavaMistralForCausalLM", "qwen2": "LlavaQwenForCausalLM"][type] ?? "LlavaLlamaForCausalLM"
    ]
    configuration["mm_hidden_size"] = (old["vision_config"] as? [String: Any])?["hidden_size"]
    configuration["mm_projector_type"] = "mlp2x_gelu"
    configuration["mm_vision_select_layer"] = old["vision_feature_layer"]
    configuration["mm_vision_tower"] = "openai/clip-tiny"
    configuration["mm_use_im_start_end"] = false
    if let pinpoints = old["image_grid_pinpoints"] {
      configuration["image_grid_pinpoints"] = pinpoints
      configuration["image_aspect_ratio"] = "anyres"
      configuration["mm_patch_merge_type"] = "spatial_unpad"
    }
    if old["model_type"] as? String == "llava_onevision" {
      configuration["image_aspect_ratio"] = old["vision_aspect_ratio"]
      configuration["image_grid_pinpoints"] = "(1x1),...,(6x6)"
      configuration["mm_tunable_parts"] = "mm_vision_tower,mm_mlp_adapter,mm_language_model"
      // The original code does not use the key for SigLIP.
      configuration["mm_vision_select_layer"] = -2
      configuration["mm_vision_tower"] = "google/siglip-tiny"
    }
  }

  /// Writes the model's directory, and that of a separate vision encoder, into a folder.
  ///
  /// - Returns: The model's directory.
  @discardableResult
  public func write(into folder: URL, visionTower: VisionTower) throws -> URL {
    let model = folder.appending(path: "model")
    try FileManager.default.createDirectory(at: model, withIntermediateDirectories: true)
    try FileManager.default.copyItem(
      at: source.appending(path: "tokenizer.model"), to: model.appending(path: "tokenizer.model"))
    try JSONSerialization.data(withJSONObject: configuration).write(to: model.appending(path: "config.json"))
    var own: [String: Tensor] = [:]
    var clip: [String: Tensor] = [:]
    for (name, tensor) in tensors {
      if case .directory = visionTower, name.hasPrefix("vision_tower.") {
        clip[String(name.dropFirst("vision_tower.".count))] = tensor
      } else {
        own[Self.originalName(name)] = tensor
      }
    }
    try Self.safetensors(own).write(to: model.appending(path: "model.safetensors"))
    if case .directory(let name) = visionTower {
      let directory = folder.appending(path: name)
      try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
      try writeVisionTowerConfiguration(into: directory)
      try Self.safetensors(clip).write(to: directory.appending(path: "model.safetensors"))
    }
    return model
  }

  /// Writes the golden checkpoint with the tensor names and the keys of newer versions of the reference library.
  ///
  /// - Returns: The model's directory.
  public func writeNewerNames(into folder: URL) throws -> URL {
    let model = folder.appending(path: "newer")
    try FileManager.default.copyItem(at: source, to: model)
    let renamed = tensors.map { name, tensor in
      let prefixes = [("language_model.model.", "model.language_model."), ("language_model.lm_head.", "lm_head.")]
      let pair = prefixes.first { name.hasPrefix($0.0) } ?? ("", "model.")
      return (pair.1 + name.dropFirst(pair.0.count).replacing(".vision_model.", with: "."), tensor)
    }
    try Self.safetensors(Dictionary(uniqueKeysWithValues: renamed)).write(
      to: model.appending(path: "model.safetensors"))
    var file = try Self.object(source.appending(path: "config.json"))
    for kind in ["image", "video"] { file["\(kind)_token_id"] = file.removeValue(forKey: "\(kind)_token_index") }
    try JSONSerialization.data(withJSONObject: file).write(to: model.appending(path: "config.json"))
    return model
  }

  /// Writes the `config.json` of a CLIP or SigLIP directory, in the form for both of its encoders.
  public func writeVisionTowerConfiguration(into directory: URL) throws {
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    let old = try Self.object(source.appending(path: "config.json"))
    var vision = old["vision_config"] as? [String: Any] ?? [:]
    let isSigLIP = vision["model_type"] as? String == "siglip_vision_model"
    // The converted file counts only the layers that are used.
    if isSigLIP, let layers = vision["num_hidden_layers"] as? Int { vision["num_hidden_layers"] = layers + 1 }
    let file: [String: Any] = ["model_type": isSigLIP ? "siglip" : "clip", "vision_config": vision]
    try JSONSerialization.data(withJSONObject: file).write(to: directory.appending(path: "config.json"))
  }

  /// The name of a parameter in the original code.
  static func originalName(_ name: String) -> String {
    let prefixes = [
      ("language_model.model.", "model."), ("language_model.lm_head.", "lm_head."),
      ("multi_modal_projector.linear_1.", "model.mm_projector.0."),
      ("multi_modal_projector.linear_2.", "model.mm_projector.2."), ("image_newline", "model.image_newline"),
      ("vision_tower.", "model.vision_tower.vision_tower."),
    ]
    for (prefix, replacement) in prefixes where name.hasPrefix(prefix) {
      return replacement + name.dropFirst(prefix.count)
    }
    return name
  }

  private static func safetensors(_ tensors: [String: Tensor]) throws -> Data {
    var header: [String: Any] = [:]
    var payload = Data()
    for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
      header[name] = [
        "dtype": tensor.element, "shape": tensor.shape,
        "data_offsets": [payload.count, payload.count + tensor.bytes.count],
      ]
      payload += tensor.bytes
    }
    let text = try JSONSerialization.data(withJSONObject: header)
    return Data((0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) }) + text + payload
  }

  private static func object(_ url: URL) throws -> [String: Any] {
    try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any] ?? [:]
  }
}
