package import Kernels
package import ModelFormats

/// LLaVA: a vision encoder, a projector and a language model that reads the image's features between the words.
///
/// Holds weights only and never changes, so any number of requests may share it.
package struct LLaVAModel: Sendable {
  package let configuration: LLaVAConfiguration
  package let vision: VisionEncoder
  let projector: Projector
  /// What ends a row of a LLaVA-NeXT image, `[D]`; `nil` for models that mark no rows.
  let imageNewline: [Float]?
  package let languageModel: LanguageModel

  /// Finds all weights in a checkpoint; they stay where they are on disk.
  ///
  /// - Parameters:
  ///   - tower: A CLIP directory's weights; `nil` where the checkpoint brings its vision encoder along.
  ///   - arithmetic: What products are computed in; weights stored otherwise are converted here.
  ///   - workers: Convert weights in parallel.
  ///   - cache: Keeps converted weights for later loads.
  /// - Throws: `CheckpointError` naming the first tensor that is missing or has another shape than `config.json` says.
  package init(
    _ checkpoint: Checkpoint, _ configuration: LLaVAConfiguration, visionTower: Checkpoint? = nil,
    computeType: ModelComputeTypes = ModelComputeTypes(.f32), workers: Workers = Workers(count: 1),
    cache: WeightsCache? = nil
  ) throws(CheckpointError) {
    self.configuration = configuration
    func conversion(_ computeType: ComputeType) -> LinearConversion {
      LinearConversion(to: computeType, workers: workers, cache: cache)
    }
    let visionConversion = conversion(computeType.vision)
    let visionScope =
      visionTower?.scope("vision_model", visionConversion)
      ?? checkpoint.scope("vision_tower.vision_model", visionConversion)
    vision = try VisionEncoder(visionScope, configuration)
    projector = try Projector(checkpoint.scope("multi_modal_projector", visionConversion), configuration)
    imageNewline =
      configuration.anyResolution?.merge != .spatialUnpad
      ? nil : try checkpoint.tensor("image_newline", shape: [configuration.text.hiddenSize]).floats()
    languageModel = try LanguageModel(
      checkpoint, configuration, layers: conversion(computeType.decoder), head: conversion(computeType.head))
  }

  /// All linear layers of the model.
  private var linears: [Linear] {
    vision.linears + [projector.expand, projector.contract] + languageModel.layers.flatMap(\.linears)
      + [languageModel.head]
  }

  /// Bytes of the embedding and of all linear layers, as they are kept.
  package var weightBytes: Int {
    let embedding = languageModel.embedding
    let embeddingBytes =
      configuration.tiesWordEmbeddings ? 0 : embedding.count * embedding.element.byteCount
    return linears.reduce(embeddingBytes) { $0 + $1.weightByteCount }
  }

  /// `weightBytes`, with weights that layers share counted once.
  package var distinctWeightBytes: Int {
    var addresses = Set<UInt>()
    let repeated = linears.filter { !addresses.insert($0.weightAddress).inserted }
    return weightBytes - repeated.reduce(0) { $0 + $1.weightByteCount }
  }

  /// Bytes of the weights that every decoding step reads: those of the decoder's layers and of the head.
  package var decodeWeightBytes: Int {
    languageModel.layers.flatMap(\.linears).reduce(languageModel.head.weightByteCount) { $0 + $1.weightByteCount }
  }

  /// Tensors of a checkpoint that the model has no use for, but for those it is known not to need.
  ///
  /// LLaVA reads the vision encoder before its last layer, so that layer and the final norm are in the file for nothing.
  package func unusedTensors(of checkpoint: Checkpoint) -> [String] {
    let prefix = "vision_tower.vision_model."
    let unneededLayers =
      configuration
      .visionLayersNeeded..<max(
        configuration.visionLayersNeeded, configuration.vision.layerCount)
    let known = unneededLayers.map { "\(prefix)encoder.layers.\($0)." } + ["\(prefix)post_layernorm."]
    return checkpoint.unreadNames.filter { name in !known.contains { name.hasPrefix($0) } }
  }

  /// What stands for an image among the prompt's embeddings.
  ///
  /// - Parameters:
  ///   - pixels: Normalised values of the image's views, `[views, 3, imageSize, imageSize]`: the base view, then the
  ///     tiles row by row.
  ///   - tiles: How the tiles make the image; `nil` for an image seen in one view.
  /// - Returns: `[visualTokenCount(tiles), D]`.
  package func imageFeatures(_ pixels: [Float], tiles: TileGrid?, on compute: ComputeContext) -> Matrix {
    packed(viewFeatures(pixels, views: 1 + (tiles?.tileCount ?? 0), on: compute), tiles)
  }

  /// The features of views, each for itself, through the vision encoder in one batch.
  ///
  /// - Parameter pixels: Normalised values, `[views, 3, imageSize, imageSize]`.
  /// - Returns: `[views · patches, D]`.
  package func viewFeatures(_ pixels: [Float], views: Int, on compute: ComputeContext) -> Matrix {
    let features = compute.during(.encode) { vision(pixels, views: views, on: compute) }
    return compute.during(.project) { projector(features, on: compute) }
  }
}

/// What the parts of a model multiply in.
///
/// In int8, vision encoder, projector and head keep more digits unless asked otherwise: they are a small part of the work, and the
/// vision encoder's features and the head's logits feel rounding most.
package struct ModelComputeTypes: Sendable, Equatable {
  /// The layers of the decoder.
  package var decoder: ComputeType
  /// The vision encoder and the projector.
  package var vision: ComputeType
  /// From the last hidden state to logits.
  package var head: ComputeType

  package init(decoder: ComputeType, vision: ComputeType, head: ComputeType) {
    self.decoder = decoder
    self.vision = vision
    self.head = head
  }

  /// Everything in one arithmetic.
  package init(_ computeType: ComputeType) { self.init(decoder: computeType, vision: computeType, head: computeType) }

  /// Decoder, vision encoder and head in a word, such as `int8-bf16-bf16`.
  package var label: String { [decoder, vision, head].map(\.rawValue).joined(separator: "-") }
}
