package import Kernels
package import ModelFormats

/// The weights of LLaVA: vision encoder, projector and language model.
///
/// The model is immutable, so any number of requests may share it.
///
/// Shapes are written rows first, such as `[T, D]`, with these letters everywhere:
///
/// | letter | meaning |
/// | --- | --- |
/// | `T` | tokens, the rows of a sequence |
/// | `V` | visual tokens |
/// | `D` | hidden size |
/// | `H` | attention heads; `kvHeads` of keys and values |
/// | `d` | head dimension |
/// | `F` | intermediate size of the MLP |
/// | `N` | vocabulary size |
package struct LLaVAModel: Sendable {
  package let configuration: LLaVAConfiguration
  /// The part from pixels to visual tokens; `nil` for a language model that takes no images.
  package let imageEncoder: ImageEncoder?
  package let languageModel: LanguageModel
  /// CLIP's embeddings, for `Preselection.Method.cdPruner`; `nil` without `configuration.clip`.
  package let clip: CLIPEmbeddings?

  /// Loads all weights of a checkpoint; weights that need no conversion stay mapped from disk.
  ///
  /// - Parameters:
  ///   - visionTower: Weights of a CLIP or SigLIP directory; `nil` if the checkpoint includes the vision encoder.
  ///   - clip: Weights of a CLIP directory with a text encoder; `nil` without `configuration.clip`.
  ///   - computeType: Data types of matmuls; weights of other types are converted here.
  ///   - workers: Threads that convert weights.
  ///   - cache: Cache of converted weights for later loads.
  /// - Throws: `CheckpointError` naming the first tensor that is missing or has another shape than `config.json`
  ///   requires.
  package init(
    _ checkpoint: Checkpoint, _ configuration: LLaVAConfiguration, visionTower: Checkpoint? = nil,
    clip: Checkpoint? = nil, computeType: ModelComputeTypes = ModelComputeTypes(.f32),
    workers: Workers = Workers(count: 1),
    cache: WeightsCache? = nil
  ) throws(CheckpointError) {
    self.configuration = configuration
    func conversion(_ type: ComputeType, blocks: BlockType? = nil) -> LinearConversion {
      LinearConversion(to: type, blockType: blocks ?? computeType.blocks, workers: workers, cache: cache)
    }
    precondition((clip == nil) == (configuration.clip == nil), "LLaVAModel: CLIP's weights or configuration alone")
    let visionConversion = conversion(computeType.vision)
    imageEncoder = try configuration.vision.map { vision throws(CheckpointError) in
      let scope =
        visionTower?.scope("vision_model", visionConversion)
        ?? checkpoint.scope("vision_tower.vision_model", visionConversion)
      return ImageEncoder(
        vision: try VisionEncoder(scope, vision, configuration, scores: computeType.scores),
        projector: try Projector(
          checkpoint.scope("multi_modal_projector", visionConversion), vision, configuration),
        newline: configuration.anyResolution?.merge != .spatialUnpad
          ? nil : try checkpoint.tensor("image_newline", shape: [configuration.text.hiddenSize]).floats())
    }
    languageModel = try LanguageModel(
      checkpoint, configuration, layers: conversion(computeType.decoder),
      // Logits are sensitive to rounding.
      head: conversion(computeType.head, blocks: .q6K), scores: computeType.scores)
    self.clip = if let clip, let part = configuration.clip { try CLIPEmbeddings(clip, part) } else { nil }
  }

  /// All linear layers of the model.
  private var linears: [Linear] {
    (imageEncoder?.linears ?? []) + languageModel.layers.flatMap(\.linears) + [languageModel.head]
  }

  /// Bytes of the embedding and of all linear layers, after conversion.
  package var weightBytes: Int {
    let embedding = languageModel.embedding
    let embeddingBytes =
      configuration.tiesWordEmbeddings ? 0 : embedding.byteCount
    return linears.reduce(embeddingBytes) { $0 + $1.weightByteCount }
  }

  /// Bytes of the weights, counting weights that layers share once.
  package var distinctWeightBytes: Int {
    var addresses = Set<UInt>()
    let repeated = linears.filter { !addresses.insert($0.weightAddress).inserted }
    return weightBytes - repeated.reduce(0) { $0 + $1.weightByteCount }
  }

  /// Bytes of the weights that every decode step reads: those of the decoder's layers and of the head.
  package var decodeWeightBytes: Int {
    languageModel.layers.flatMap(\.linears).reduce(languageModel.head.weightByteCount) { $0 + $1.weightByteCount }
  }

  /// Names of tensors of a checkpoint that were not read, except those that LLaVA never needs.
  ///
  /// Layers after the features, the norm after the last one and SigLIP's pooling head are not needed.
  package func unusedTensors(of checkpoint: Checkpoint) -> [String] {
    let prefix = "vision_tower.vision_model."
    let unneededLayers =
      configuration
      .visionLayersNeeded..<max(
        configuration.visionLayersNeeded, configuration.vision?.layerCount ?? 0)
    let unneeded =
      unneededLayers.map { "\(prefix)encoder.layers.\($0)." } + ["\(prefix)post_layernorm.", "\(prefix)head."]
    return checkpoint.unreadNames.filter { name in !unneeded.contains { name.hasPrefix($0) } }
  }
}

/// The part of a model from pixels to visual tokens.
package struct ImageEncoder: Sendable {
  package let vision: VisionEncoder
  let projector: Projector
  /// Newline embedding, which ends each row of a LLaVA-NeXT image, `[D]`; `nil` for models without one.
  let newline: [Float]?

  var linears: [Linear] { vision.linears + projector.linears }
}

/// Compute types of the parts of a model.
///
/// With an int8 decoder, the head is not quantized: it is a small part of the work, and logits are the most sensitive to
/// rounding.
package struct ModelComputeTypes: Sendable, Equatable {
  /// Compute type of the decoder's layers.
  package var decoder: ComputeType
  /// Compute type of the vision encoder and the projector.
  package var vision: ComputeType
  /// Compute type of the output head, from the last hidden state to logits.
  package var head: ComputeType
  /// The type of block that floats of the decoder's layers are quantized to, for blocks.
  package var blocks: BlockType
  /// The type of attention scores in layers that are not computed in f32.
  package var scores: ScoreType

  package init(
    decoder: ComputeType, vision: ComputeType, head: ComputeType, blocks: BlockType = .q4K, scores: ScoreType = .float
  ) {
    self.blocks = blocks
    self.scores = scores
    self.decoder = decoder
    self.vision = vision
    self.head = head
  }

  /// The same compute type for all parts.
  package init(_ computeType: ComputeType) { self.init(decoder: computeType, vision: computeType, head: computeType) }

  /// The types that weights are converted to, of decoder, vision encoder and head, as one word, such as
  /// `int8-bf16-bf16`.
  package var label: String {
    [decoder, vision, head].map { $0 == .blocks ? "blocks.\(blocks.rawValue)" : $0.rawValue }.joined(separator: "-")
  }
}
