package import Kernels
import Storage

/// The metadata and tensors of a GGUF file that is written from a model of any layout.
///
/// A model is two files: the language model, and the vision encoder with projector (mmproj). Names and order of rows
/// are those of llama.cpp's converters.
package struct GGUFExport: Sendable {
  /// A tensor of the file.
  package struct Part: Sendable {
    /// The canonical name.
    package let name: String
    package let storedName: String
    package let shape: [Int]
    /// The values of a tensor that models of other layouts do not have.
    fileprivate var values: [Float]?
  }

  package private(set) var metadata: [(key: String, value: GGUFWriter.Value)] = []
  package private(set) var parts: [Part] = []
  private var interleavedRows: InterleavedRows?

  private init() {}

  /// The values of a part, in the order of rows of GGUF files.
  ///
  /// - Throws: `CheckpointError` if the model's files do not have it.
  package func tensor(_ part: Part, of files: some ModelFiles) throws(CheckpointError) -> Tensor {
    if let values = part.values { return Tensor(values, shape: part.shape) }
    let tensor = try files.tensor(part.name, shape: part.shape)
    guard let rows = interleavedRows?.destinations(part.name, count: tensor.rows) else { return tensor }
    return tensor.reordered(rows: rows)
  }

  /// Appends a metadata value.
  package mutating func append(_ key: String, _ value: GGUFWriter.Value) { metadata.append((key, value)) }

  /// Writes the file; an existing one is replaced when the new one is complete.
  ///
  /// - Parameters:
  ///   - type: The type of each part in the file.
  ///   - tensor: The values of each part, in that type.
  /// - Returns: The size of the file in bytes.
  package func write(
    to path: String, types type: (Part) -> StoredType, _ tensor: (Part) throws(CheckpointError) -> Tensor
  ) throws(CheckpointError) -> Int {
    var writer = GGUFWriter()
    for (key, value) in metadata { writer.set(key, value) }
    for part in parts { writer.add(part.storedName, type(part), shape: part.shape) }
    let byName = Dictionary(uniqueKeysWithValues: parts.map { ($0.storedName, $0) })
    try writer.write(to: path) { name throws(CheckpointError) in
      guard let part = byName[name] else { preconditionFailure("GGUFExport: \(name) was not added") }
      return try tensor(part)
    }
    return writer.byteCount
  }

  private mutating func add(_ name: String, _ shape: [Int]) {
    parts.append(Part(name: name, storedName: GGUFNames.stored(name), shape: shape))
  }

  private mutating func addLayer(_ name: String, inputs: Int, outputs: Int, bias: Bool) {
    add(name + ".weight", [outputs, inputs])
    if bias { add(name + ".bias", [outputs]) }
  }

  private mutating func set(_ key: String, _ value: GGUFWriter.Value) { metadata.append((key, value)) }
  private mutating func set(_ key: String, _ value: Int) { set(key, .integer(UInt32(value))) }
}

// MARK: - Language model

extension GGUFExport {
  /// The file of the language model, without the keys of the tokenizer.
  ///
  /// - Parameters:
  ///   - configuration: The configuration of the model.
  ///   - name: The name of the model.
  /// - Throws: `CheckpointError.notInGGUF` for a model that GGUF files cannot describe.
  package static func languageModel(
    _ configuration: LLaVAConfiguration, name: String
  ) throws(CheckpointError) -> GGUFExport {
    let text = configuration.text
    var export = GGUFExport()
    let prefix = text.kind == .qwen2 ? "qwen2" : "llama"
    export.set("general.architecture", .text(prefix))
    export.set("general.type", .text("model"))
    export.set("general.name", .text(name))
    export.set("general.quantization_version", 2)
    export.set("\(prefix).vocab_size", text.vocabularySize)
    export.set("\(prefix).context_length", text.contextLength)
    export.set("\(prefix).embedding_length", text.hiddenSize)
    export.set("\(prefix).block_count", text.layerCount)
    export.set("\(prefix).feed_forward_length", text.intermediateSize)
    export.set("\(prefix).attention.head_count", text.headCount)
    export.set("\(prefix).attention.head_count_kv", text.keyValueHeadCount)
    export.set("\(prefix).attention.key_length", text.headDimension)
    export.set("\(prefix).attention.value_length", text.headDimension)
    export.set("\(prefix).attention.layer_norm_rms_epsilon", .real(text.rmsNormEpsilon))
    export.set("\(prefix).rope.dimension_count", text.headDimension)
    export.set("\(prefix).rope.freq_base", .real(Float(text.ropeTheta)))
    if let ceiling = text.contextCeiling {
      guard text.kind != .qwen2 else { throw .notInGGUF(part: "a sliding window or dynamic RoPE of Qwen2") }
      export.set("\(prefix).attention.sliding_window", ceiling)
    }
    export.setScaling(text, prefix)
    if text.kind != .qwen2 { export.interleavedRows = InterleavedRows(heads: text.heads) }
    export.addTextTensors(text, tiesWordEmbeddings: configuration.tiesWordEmbeddings)
    return export
  }

  private mutating func setScaling(_ text: TextConfiguration, _ prefix: String) {
    switch text.ropeScaling {
    case .none: return
    case .linear(let factor):
      set("\(prefix).rope.scaling.type", .text("linear"))
      set("\(prefix).rope.scaling.factor", .real(Float(factor)))
    case .llama3, .divided:
      func frequencies(_ scaling: RotaryScaling) -> [Float] {
        scaling.frequencies(headDimension: text.headDimension, theta: text.ropeTheta)
      }
      let divisors = zip(frequencies(.none), frequencies(text.ropeScaling)).map { $0 / $1 }
      let name = "rope_freqs.weight"
      parts.append(Part(name: name, storedName: name, shape: [divisors.count], values: divisors))
    }
  }

  private mutating func addTextTensors(_ text: TextConfiguration, tiesWordEmbeddings: Bool) {
    let (d, heads) = (text.hiddenSize, text.heads)
    add("language_model.model.embed_tokens.weight", [text.vocabularySize, d])
    add("language_model.model.norm.weight", [d])
    if !tiesWordEmbeddings { add("language_model.lm_head.weight", [text.vocabularySize, d]) }
    for i in 0..<text.layerCount {
      let layer = "language_model.model.layers.\(i)."
      add(layer + "input_layernorm.weight", [d])
      let hasBias = text.attentionBias != .none
      addLayer(layer + "self_attn.q_proj", inputs: d, outputs: heads.queryColumns, bias: hasBias)
      addLayer(layer + "self_attn.k_proj", inputs: d, outputs: heads.keyValueColumns, bias: hasBias)
      addLayer(layer + "self_attn.v_proj", inputs: d, outputs: heads.keyValueColumns, bias: hasBias)
      addLayer(
        layer + "self_attn.o_proj", inputs: heads.queryColumns, outputs: d, bias: text.attentionBias == .all)
      add(layer + "post_attention_layernorm.weight", [d])
      addLayer(layer + "mlp.gate_proj", inputs: d, outputs: text.intermediateSize, bias: false)
      addLayer(layer + "mlp.up_proj", inputs: d, outputs: text.intermediateSize, bias: false)
      addLayer(layer + "mlp.down_proj", inputs: text.intermediateSize, outputs: d, bias: false)
    }
  }
}

// MARK: - Vision encoder

extension GGUFExport {
  /// The file of the vision encoder and projector: the layers up to the one that is used.
  ///
  /// - Parameters:
  ///   - configuration: The configuration of the model.
  ///   - preprocessor: The preprocessing; `nil` for that of LLaVA-1.5.
  ///   - name: The name of the model.
  /// - Throws: `CheckpointError.notInGGUF` for a model that GGUF files cannot describe.
  package static func visionEncoder(
    _ configuration: LLaVAConfiguration, _ preprocessor: PreprocessorConfiguration?, name: String
  ) throws(CheckpointError) -> GGUFExport {
    guard let vision = configuration.vision else { throw .notInGGUF(part: "no vision encoder") }
    let preprocessor = preprocessor ?? PreprocessorConfiguration(for: vision)
    try refuse(configuration, vision, preprocessor)
    var export = GGUFExport()
    export.set("general.architecture", .text("clip"))
    export.set("general.type", .text("mmproj"))
    export.set("general.name", .text(name))
    export.set("general.quantization_version", 2)
    export.set("clip.has_text_encoder", .bool(false))
    export.set("clip.has_vision_encoder", .bool(true))
    export.set("clip.has_llava_projector", .bool(true))
    export.set("clip.projector_type", .text("mlp"))
    // In llama.cpp this is the approximation by tanh, as SigLIP needs it.
    export.set("clip.use_gelu", .bool([.gelu, .tanhGELU].contains(vision.activation)))
    export.set("clip.use_silu", .bool(vision.activation == .silu))
    export.set("clip.vision.image_size", vision.imageSize)
    export.set("clip.vision.patch_size", vision.patchSize)
    export.set("clip.vision.embedding_length", vision.hiddenSize)
    export.set("clip.vision.feed_forward_length", vision.intermediateSize)
    export.set("clip.vision.projection_dim", configuration.text.hiddenSize)
    export.set("clip.vision.block_count", configuration.visionLayersNeeded)
    export.set("clip.vision.attention.head_count", vision.headCount)
    export.set("clip.vision.attention.layer_norm_epsilon", .real(vision.layerNormEpsilon))
    export.set("clip.vision.image_mean", .reals(preprocessor.mean.map { Float($0) }))
    export.set("clip.vision.image_std", .reals(preprocessor.standardDeviation.map { Float($0) }))
    if let anyResolution = configuration.anyResolution {
      let sides = anyResolution.canvases.flatMap { [Int32($0.height), Int32($0.width)] }
      export.set(
        "clip.vision.image_aspect_ratio", .text(anyResolution.maxMapViews.map { "anyres_max_\($0)" } ?? "anyres"))
      export.set("clip.vision.image_grid_pinpoints", .integers(sides))
      export.set(
        "clip.vision.mm_patch_merge_type", .text(anyResolution.merge == .spatialUnpad ? "spatial_unpad" : "flat"))
    } else if preprocessor.padsToSquare || configuration.imageAspectRatio == "pad" {
      export.set("clip.vision.image_aspect_ratio", .text("pad"))
    }
    export.addVisionTensors(configuration, vision)
    return export
  }

  private static func refuse(
    _ configuration: LLaVAConfiguration, _ vision: VisionConfiguration, _ preprocessor: PreprocessorConfiguration
  ) throws(CheckpointError) {
    var plain = PreprocessorConfiguration(for: vision)
    plain.mean = preprocessor.mean
    plain.standardDeviation = preprocessor.standardDeviation
    plain.padsToSquare = preprocessor.padsToSquare
    plain.imageProcessorType = preprocessor.imageProcessorType
    plain.gridPinpoints = preprocessor.gridPinpoints
    let parts: [(Bool, String)] = [
      (configuration.pixelShuffle == nil, "the tiles and the projector of a model of type \(configuration.modelType)"),
      (
        configuration.dropsClassToken || !vision.hasClassToken,
        "features with the class token (vision_feature_select_strategy 'full')"
      ),
      (
        vision.family == .clip ? vision.activation != .tanhGELU : vision.activation == .tanhGELU,
        "a vision encoder with the activation \(vision.activation.rawValue)"
      ),
      (
        configuration.anyResolution.map { $0.tilesOnlySingleImages == ($0.maxMapViews != nil) } ?? true,
        "image_aspect_ratio 'anyres_max_' with mm_patch_merge_type 'flat'"
      ),
      (configuration.visionLayersNeeded > 0, "features from before the first layer of the vision encoder"),
      (
        configuration.projectorActivation == .gelu && configuration.projectorHasBias,
        "a projector without bias or with another activation than 'gelu'"
      ),
      (
        preprocessor == plain || configuration.anyResolution != nil,
        "another preprocessing than a resize and a centre crop to the size of the vision encoder"
      ),
    ]
    if let part = parts.first(where: { !$0.0 }) { throw .notInGGUF(part: part.1) }
  }

  private mutating func addVisionTensors(_ configuration: LLaVAConfiguration, _ vision: VisionConfiguration) {
    let d = vision.hiddenSize
    let encoder = "vision_tower.vision_model."
    func norm(_ name: String) {
      add(name + ".weight", [d])
      add(name + ".bias", [d])
    }
    if vision.hasClassToken { add(encoder + "embeddings.class_embedding", [d]) }
    add(encoder + "embeddings.patch_embedding.weight", [d, 3, vision.patchSize, vision.patchSize])
    if vision.family == .siglip { add(encoder + "embeddings.patch_embedding.bias", [d]) }
    add(encoder + "embeddings.position_embedding.weight", [vision.rowsPerView, d])
    if vision.family == .clip { norm(encoder + "pre_layrnorm") }
    for i in 0..<configuration.visionLayersNeeded {
      let layer = encoder + "encoder.layers.\(i)."
      for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
        addLayer(layer + "self_attn." + name, inputs: d, outputs: d, bias: true)
      }
      norm(layer + "layer_norm1")
      addLayer(layer + "mlp.fc1", inputs: d, outputs: vision.intermediateSize, bias: true)
      addLayer(layer + "mlp.fc2", inputs: vision.intermediateSize, outputs: d, bias: true)
      norm(layer + "layer_norm2")
    }
    let width = configuration.text.hiddenSize
    addLayer("multi_modal_projector.linear_1", inputs: d, outputs: width, bias: true)
    addLayer("multi_modal_projector.linear_2", inputs: width, outputs: width, bias: true)
    if configuration.anyResolution?.merge == .spatialUnpad { add("image_newline", [width]) }
  }
}

extension ModelFiles {
  /// A tensor by its canonical name, from the model's own weights or those of its CLIP directory.
  ///
  /// - Throws: `CheckpointError` if it is missing or has another shape.
  package func tensor(_ name: String, shape: [Int]) throws(CheckpointError) -> Tensor {
    let prefix = "vision_tower."
    let (source, name) =
      if let checkpoint = visionCheckpoint, name.hasPrefix(prefix) {
        (checkpoint, String(name.dropFirst(prefix.count)))
      } else {
        (checkpoint, name)
      }
    guard shape.count == 4 else { return try source.tensor(name, shape: shape) }
    return try source.convolutionWeight(name, channels: shape[1], side: shape[2], outputs: shape[0])
  }
}
