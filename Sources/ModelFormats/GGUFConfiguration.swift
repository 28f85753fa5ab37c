import Kernels
import Storage

extension LLaVAConfiguration {
  /// The configuration of a pair of GGUF files; the image token is that of prompts without one in the vocabulary.
  ///
  /// - Parameter mmproj: The vision encoder with projector; `nil` for a language model alone.
  /// - Throws: `CheckpointError` if the files are not of LLaVA, or not of one model.
  init(gguf model: GGUFFile, mmproj: GGUFFile?) throws(CheckpointError) {
    let text = try TextConfiguration(gguf: model)
    self.init(
      layout: .gguf, modelType: "llava", imageTokenID: Self.imageSentinel, visionFeatureLayer: -1,
      dropsClassToken: true,
      projectorActivation: .gelu, projectorHasBias: true, tiesWordEmbeddings: model.records["output.weight"] == nil,
      text: text)
    nameOrPath = try model.metadata.string("general.name")
    notes = text.notes
    guard let mmproj else { return }
    let projector = try GGUFProjector(mmproj)
    try projector.check(fits: text, of: model)
    let section = mmproj.metadata.section("clip.vision.")
    vision = projector.vision
    dropsClassToken = projector.vision.hasClassToken
    visionFeatureLayer = try projector.featureLayer()
    imageAspectRatio = try section.text("image_aspect_ratio")
    anyResolution = try AnyResolution(gguf: section, projector.vision, hasNewline: projector.hasNewline)
    if let anyResolution { modelType = anyResolution.tilesOnlySingleImages ? "llava_onevision" : "llava_next" }
  }
}

extension GGUFFile {
  /// `general.architecture`, the kind of model that the file contains; `nil` if it has none.
  package var architecture: String? { (try? metadata.string("general.architecture")) ?? nil }

  /// Whether the file is a vision encoder with projector, by llama.cpp's name an mmproj file.
  package var isVisionEncoder: Bool { architecture == "clip" }
}

extension TextConfiguration {
  /// The language model of a GGUF file.
  ///
  /// Source: llama.cpp's table of metadata keys, in gguf-py's `constants.py`.
  init(gguf file: GGUFFile) throws(CheckpointError) {
    let general = file.metadata.section("general.")
    let kind: LanguageModelFamily = try general.choice(
      "architecture", ["llama": .llama, "qwen2": .qwen2], default: "nothing")
    let section = file.metadata.section(kind.rawValue + ".")
    guard try section.integer("expert_count", in: 0...(1 << 20)) ?? 0 == 0 else {
      throw section.error("expert_count", "0, as mixtures of experts are not supported")
    }
    let hiddenSize = try section.size("embedding_length", default: 0)
    let headCount = try section.uniformSize("attention.head_count") ?? 0
    guard headCount > 0 else { throw section.error("attention.head_count", "an integer of at least 1") }
    let keyValueHeadCount = try section.uniformSize("attention.head_count_kv") ?? headCount
    guard headCount.isMultiple(of: keyValueHeadCount) else {
      throw section.error("attention.head_count_kv", "a divisor of \(headCount)", found: "\(keyValueHeadCount)")
    }
    let givenHeadDimension = try section.size("attention.key_length")
    let headDimension = givenHeadDimension ?? hiddenSize / headCount
    guard givenHeadDimension != nil || hiddenSize.isMultiple(of: headCount), headDimension.isMultiple(of: 2) else {
      throw section.error("attention.head_count", "heads of even, equal size in \(hiddenSize)", found: "\(headCount)")
    }
    for key in ["attention.value_length", "rope.dimension_count"] {
      guard try section.size(key) ?? headDimension == headDimension else {
        throw section.error(key, "the size of a head, \(headDimension)")
      }
    }
    guard let intermediateSize = try section.uniformSize("feed_forward_length") else {
      throw section.error("feed_forward_length", "an integer of at least 1")
    }
    let positions = try section.integer("context_length", in: 1...(1 << 24), default: 0)
    // Qwen2 has no sliding window unless the reference library is told to use it, which GGUF files do not contain.
    let givenWindow = kind == .qwen2 ? nil : try section.integer("attention.sliding_window", in: 0...(1 << 24))
    let window = givenWindow == 0 ? nil : givenWindow
    self.init(
      kind: kind, hiddenSize: hiddenSize, intermediateSize: intermediateSize,
      layerCount: try section.integer("block_count", in: 1...1024, default: 0), headCount: headCount,
      keyValueHeadCount: keyValueHeadCount, headDimension: headDimension,
      vocabularySize: try file.vocabularySize(section), contextLength: min(positions, window ?? positions),
      rmsNormEpsilon: Float(try section.number("attention.layer_norm_rms_epsilon", in: 0...0.5)),
      ropeTheta: try section.number(
        "rope.freq_base", in: 1.000_001...Double.greatestFiniteMagnitude, default: 10_000),
      ropeScaling: try RotaryScaling(gguf: section, file, headDimension: headDimension),
      attentionBias: file.attentionBias)
    if let window, window <= positions { contextCeiling = window }
    if let window, window < positions { notes.append(.cappedContext(slidingWindow: window, positions: positions)) }
  }
}

extension GGUFFile {
  /// The number of embeddings, which the vocabulary may not exceed.
  fileprivate func vocabularySize(_ section: ConfigurationSection) throws(CheckpointError) -> Int {
    guard let embedding = records["token_embd.weight"] else {
      throw .missingTensor(name: "token_embd.weight", directory: path)
    }
    let rows = embedding.shape.first ?? 0
    let size = try section.integer("vocab_size", in: 1...(1 << 24), default: rows)
    guard size == rows else { throw section.error("vocab_size", "\(rows), the rows of token_embd.weight") }
    let tokens = "tokenizer.ggml.tokens"
    if let count = metadata.count(tokens), count > rows {
      throw .badValue(
        file: path, key: tokens, expected: "at most \(rows) tokens, the rows of token_embd.weight", found: "\(count)")
    }
    return rows
  }

  /// The linear layers of attention with a bias, by those of the first layer.
  fileprivate var attentionBias: AttentionBias {
    guard records["blk.0.attn_q.bias"] != nil else { return .none }
    return records["blk.0.attn_output.bias"] == nil ? .queriesKeysValues : .all
  }
}

extension RotaryScaling {
  /// The scaling of a GGUF file: keys, or divisors of the frequencies as a tensor, as for Llama 3.
  fileprivate init(gguf section: ConfigurationSection, _ file: GGUFFile, headDimension: Int) throws(CheckpointError) {
    let type = try section.text("rope.scaling.type") ?? "none"
    let factors = 1...Double.greatestFiniteMagnitude
    // An old key, which llama.cpp still honours.
    let old = try section.number("rope.scale_linear", in: factors, default: 1)
    switch type {
    case "none": self = old == 1 ? .none : .linear(factor: old)
    case "linear": self = .linear(factor: try section.number("rope.scaling.factor", in: factors))
    default: throw section.error("rope.scaling.type", "'none' or 'linear'")
    }
    let name = "rope_freqs.weight"
    guard let info = file.records[name] else { return }
    guard info.shape == [headDimension / 2] else {
      throw .shapeMismatch(name: name, expected: [headDimension / 2], found: info.shape, file: file.path)
    }
    guard self == .none else {
      throw section.error("rope.scaling.type", "'none' with the tensor \(name)")
    }
    let divisors = try file.tensor(name).floats()
    guard divisors.allSatisfy({ $0.isFinite && $0 > 0 }) else {
      throw .malformed(file: file.path, reason: "\(name) has values that are not positive numbers")
    }
    self = .divided(by: divisors)
  }
}

/// The vision encoder and the projector of an mmproj file.
///
/// Source: llama.cpp's `clip-impl.h` and its converter for LLaVA, `convert_image_encoder_to_gguf.py`.
struct GGUFProjector {
  let file: GGUFFile
  let vision: VisionConfiguration

  init(_ file: GGUFFile) throws(CheckpointError) {
    self.file = file
    let clip = file.metadata.section("clip.")
    guard file.isVisionEncoder else {
      throw .badValue(
        file: file.path, key: "general.architecture", expected: "'clip', a vision encoder (mmproj)",
        found: file.architecture.map { "\($0.excerpt), a language model" } ?? "nothing")
    }
    guard try clip.flag("has_vision_encoder", default: true) else { throw clip.error("has_vision_encoder", "true") }
    try Self.checkProjector(clip, file)
    let isSigLIP = file.records["v.class_embd"] == nil
    guard isSigLIP == (file.records["v.patch_embd.bias"] != nil) else {
      throw .malformed(
        file: file.path,
        reason: "the vision encoder is neither CLIP, with a class embedding (v.class_embd), nor SigLIP, with a bias of "
          + "the patch embedding (v.patch_embd.bias); expected the mmproj file of a LLaVA model")
    }
    // Converters have no key for the function of SigLIP.
    let activation: Activation =
      try isSigLIP
      ? .tanhGELU
      : clip.flag("use_gelu", default: false) ? .gelu : clip.flag("use_silu", default: false) ? .silu : .quickGELU
    let section = file.metadata.section("clip.vision.")
    vision = try VisionConfiguration(gguf: section, isSigLIP ? .siglip : .clip, activation: activation)
  }

  /// Files of 2023 have no projector type.
  private static func checkProjector(_ clip: ConfigurationSection, _ file: GGUFFile) throws(CheckpointError) {
    let keys = ["vision.projector_type", "projector_type"]
    if let key = keys.first(where: clip.contains) {
      guard clip[key].string == "mlp" else { throw clip.error(key, "'mlp', the projector of LLaVA") }
    } else if try !clip.flag("has_llava_projector", default: false) {
      throw clip.error("projector_type", "'mlp', the projector of LLaVA")
    }
    for layer in [1, 3, 4] where file.records["mm.\(layer).weight"] != nil {
      throw .malformed(
        file: file.path,
        reason: "the projector has a tensor mm.\(layer).weight, as that of Yi-VL; expected mm.0 and mm.2 of LLaVA")
    }
  }

  /// Whether there is an embedding that ends each row of an image, as in LLaVA-1.6.
  var hasNewline: Bool { ["model.image_newline", "v.image_newline"].contains { file.records[$0] != nil } }

  /// The hidden state that is used: by default that of the last layer, as files do not contain the layers after it.
  func featureLayer() throws(CheckpointError) -> Int {
    let section = file.metadata.section("clip.vision.")
    let key = "feature_layer"
    guard let layers = try section.integers(key, in: 0...vision.layerCount) else { return vision.layerCount }
    guard layers.count == 1 else {
      throw section.error(
        key, "one layer", found: "\(layers.count) layers; features of several layers are not supported")
    }
    return layers[0]
  }

  /// Checks that the features have the width of the embeddings of a language model.
  func check(fits text: TextConfiguration, of model: GGUFFile) throws(CheckpointError) {
    guard let rows = file.records["mm.2.weight"]?.shape.first else {
      throw .missingTensor(name: "mm.2.weight", directory: file.path)
    }
    guard rows == text.hiddenSize else {
      throw .pairMismatch(
        mmproj: file.path, features: rows, model: model.path, embeddings: text.hiddenSize)
    }
  }
}

extension VisionConfiguration {
  fileprivate init(
    gguf section: ConfigurationSection, _ family: VisionEncoderFamily, activation: Activation
  ) throws(CheckpointError) {
    self.init(
      family: family, hiddenSize: try section.size("embedding_length", default: 0),
      intermediateSize: try section.size("feed_forward_length", default: 0),
      layerCount: try section.integer("block_count", in: 1...1024, default: 0),
      headCount: try section.size("attention.head_count", default: 0),
      imageSize: try section.integer("image_size", in: 1...4096, default: 0),
      patchSize: try section.integer("patch_size", in: 1...4096, default: 0),
      layerNormEpsilon: try section.epsilon("attention.layer_norm_epsilon", default: family == .clip ? 1e-5 : 1e-6),
      activation: activation)
    guard hiddenSize.isMultiple(of: headCount) else {
      throw section.error("attention.head_count", "a divisor of \(hiddenSize)", found: "\(headCount)")
    }
    guard patchSize <= imageSize else {
      throw section.error("patch_size", "at most \(imageSize)", found: "\(patchSize)")
    }
  }
}

extension AnyResolution {
  /// The tiling of an mmproj file, whose canvases are a flat list; `nil` if it has none.
  fileprivate init?(
    gguf section: ConfigurationSection, _ vision: VisionConfiguration, hasNewline: Bool
  ) throws(CheckpointError) {
    let key = "image_grid_pinpoints"
    let ratio = try section.text("image_aspect_ratio") ?? ""
    let maxMapViews = Self.maxMapViews(ratio)
    if ratio.hasPrefix("anyres"), ratio != "anyres", maxMapViews == nil {
      throw section.error(
        "image_aspect_ratio", "'pad', 'square', 'anyres' or 'anyres_max_' and a number from 1 to 64",
        found: "\(ratio.excerpt), which is not supported")
    }
    guard let sides = try section.integers(key, in: section.sideRange) else { return nil }
    guard sides.count.isMultiple(of: 2) else { throw section.error(key, "pairs of heights and widths") }
    let pairs = stride(from: 0, to: sides.count, by: 2).map { (sides[$0], sides[$0 + 1]) }
    let merge = try section.choice(
      "mm_patch_merge_type", ["spatial_unpad": AnyResolution.Merge.spatialUnpad, "flat": .flat],
      default: hasNewline ? "spatial_unpad" : "flat")
    try self.init(checking: pairs, vision, sizeRule: .huggingFace, merge: merge, section)
    // The limit is one of merge type spatial_unpad.
    if merge == .spatialUnpad { self.maxMapViews = maxMapViews }
    tilesOnlySingleImages = maxMapViews != nil
  }
}

extension ConfigurationSection {
  /// A size, or a list of equal ones for all layers; `nil` if the key is absent.
  fileprivate func uniformSize(_ key: String) throws(CheckpointError) -> Int? {
    guard let sizes = try integers(key, in: 1...(1 << 20)) else { return nil }
    guard let first = sizes.first, sizes.allSatisfy({ $0 == first }) else {
      throw error(key, "the same number in all layers", found: "different ones")
    }
    return first
  }
}
