import Kernels

/// The mapping of GGUF tensor names to canonical names and back.
///
/// Source: llama.cpp's tables of tensor names, in gguf-py's `constants.py` for language models and in `clip-impl.h` for
/// vision encoders.
enum GGUFNames {
  private static let textModel = [
    "token_embd": "language_model.model.embed_tokens", "output_norm": "language_model.model.norm",
    "output": "language_model.lm_head",
  ]
  private static let textLayers = "language_model.model.layers."
  private static let textLayer = [
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
  ]

  private static let vision = "vision_tower.vision_model."
  private static let visionModel = [
    "v.patch_embd": vision + "embeddings.patch_embedding", "v.position_embd": vision + "embeddings.position_embedding",
    "v.pre_ln": vision + "pre_layrnorm", "v.post_ln": vision + "post_layernorm",
    "mm.0": "multi_modal_projector.linear_1", "mm.2": "multi_modal_projector.linear_2",
  ]
  /// Names of whole tensors; of two for one the first is written.
  private static let visionTensors: KeyValuePairs = [
    "v.class_embd": vision + "embeddings.class_embedding", "model.image_newline": "image_newline",
    "v.image_newline": "image_newline",
  ]
  private static let visionLayers = vision + "encoder.layers."
  /// Names within a layer. Converters for LLaVA named the linear layers of the MLP the wrong way round.
  private static let visionLayer = [
    "ln1": "layer_norm1", "ln2": "layer_norm2", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_out": "self_attn.out_proj", "ffn_down": "mlp.fc1", "ffn_up": "mlp.fc2",
  ]

  /// The canonical name of a tensor of a language model; other names are returned as they are.
  static func canonicalText(_ stored: String) -> String {
    let (module, parameter) = split(stored)
    if let name = textModel[module] { return "\(name).\(parameter)" }
    guard let (layer, name) = layer(of: module, after: "blk."), let canonical = textLayer[name] else { return stored }
    return "\(textLayers)\(layer).\(canonical).\(parameter)"
  }

  /// The canonical name of a tensor of a vision encoder or projector; other names are returned as they are.
  ///
  /// The linear layers of the MLP are told apart by their shapes, because converters differ in their names.
  ///
  /// - Parameters:
  ///   - shape: The shape of the tensor, rows first.
  ///   - hiddenSize: The hidden size of the vision encoder.
  static func canonicalVision(_ stored: String, shape: [Int], hiddenSize: Int) -> String {
    if let tensor = visionTensors.first(where: { $0.key == stored }) { return tensor.value }
    let (module, parameter) = split(stored)
    if let name = visionModel[module] { return "\(name).\(parameter)" }
    guard let (layer, name) = layer(of: module, after: "v.blk."), var canonical = visionLayer[name] else {
      return stored
    }
    if canonical.hasPrefix("mlp.") {
      let isFirst = shape.count == 1 ? shape[0] != hiddenSize : shape.last == hiddenSize
      canonical = isFirst ? "mlp.fc1" : "mlp.fc2"
    }
    return "\(visionLayers)\(layer).\(canonical).\(parameter)"
  }

  /// The GGUF name of a canonical name, as converters for LLaVA write it; other names are returned as they are.
  static func stored(_ canonical: String) -> String {
    if let tensor = visionTensors.first(where: { $0.value == canonical }) { return tensor.key }
    let (module, parameter) = split(canonical)
    for names in [textModel, visionModel] {
      if let name = names.first(where: { $0.value == module })?.key { return "\(name).\(parameter)" }
    }
    for (prefix, names, begin) in [(textLayers, textLayer, "blk."), (visionLayers, visionLayer, "v.blk.")] {
      if let (layer, part) = layer(of: module, after: prefix), let name = names.first(where: { $0.value == part })?.key
      {
        return "\(begin)\(layer).\(name).\(parameter)"
      }
    }
    return canonical
  }

  /// Whether a canonical name is that of a tensor of the vision encoder or of the projector.
  static func isVision(_ canonical: String) -> Bool {
    ["vision_tower.", "multi_modal_projector.", "image_newline"].contains(where: canonical.hasPrefix)
  }

  /// A name without its last component, and that component, `weight` or `bias`.
  private static func split(_ name: String) -> (module: String, parameter: Substring) {
    guard let dot = name.lastIndex(of: ".") else { return (name, "") }
    return (String(name[..<dot]), name[name.index(after: dot)...])
  }

  /// The number of a layer and the name within it.
  private static func layer(of module: String, after prefix: String) -> (number: Int, name: String)? {
    guard module.hasPrefix(prefix) else { return nil }
    let rest = module.dropFirst(prefix.count)
    guard let dot = rest.firstIndex(of: "."), let number = Int(rest[..<dot]), "\(number)" == rest[..<dot] else {
      return nil
    }
    return (number, String(rest[rest.index(after: dot)...]))
  }
}

/// The order of the rows of queries and keys in GGUF files of Llama models.
///
/// There RoPE rotates neighbouring rows of a head, here rows half a head apart, so converters move the rows.
///
/// Source: `permute` in llama.cpp's `convert_hf_to_gguf.py`.
struct InterleavedRows: Sendable {
  let heads: HeadLayout

  /// For each row of a tensor the row of the GGUF tensor that it is; `nil` if the order of the tensor is the same.
  ///
  /// - Precondition: A tensor of queries or keys has a row for each dimension of each head.
  func sources(_ canonical: String, count: Int) -> [Int]? {
    guard let headCount = headCount(canonical) else { return nil }
    let (size, half) = (heads.headDimension, heads.headDimension / 2)
    precondition(count == headCount * size, "sources: \(count) rows of \(headCount) heads of \(size)")
    return (0..<count).map { row in
      let (head, i) = (row / size, row % size)
      return head * size + (i < half ? 2 * i : 2 * (i - half) + 1)
    }
  }

  /// For each row of the GGUF tensor the row of a tensor that it is; `nil` if the order of the tensor is the same.
  ///
  /// - Precondition: As for `sources`.
  func destinations(_ canonical: String, count: Int) -> [Int]? {
    guard let headCount = headCount(canonical) else { return nil }
    let (size, half) = (heads.headDimension, heads.headDimension / 2)
    precondition(count == headCount * size, "destinations: \(count) rows of \(headCount) heads of \(size)")
    return (0..<count).map { row in
      let (head, i) = (row / size, row % size)
      return head * size + i / 2 + (i.isMultiple(of: 2) ? 0 : half)
    }
  }

  private func headCount(_ canonical: String) -> Int? {
    guard canonical.hasPrefix("language_model.") else { return nil }
    if canonical.contains(".self_attn.q_proj.") { return heads.headCount }
    return canonical.contains(".self_attn.k_proj.") ? heads.keyValueHeadCount : nil
  }
}
