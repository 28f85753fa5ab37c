import Foundation
import Kernels
import Storage

/// CLIP's text encoder, and the space that it shares with the vision encoder.
package struct CLIPConfiguration: Sendable, Equatable {
  /// The sizes of a layer of the text encoder.
  package var layer: EncoderLayerConfiguration
  package var layerCount: Int
  package var vocabularySize: Int
  /// Tokens of a piece of text, 77 in published models.
  package var contextLength: Int
  /// The token whose row is the embedding of a text; `nil` for the largest one.
  package var eosToken: Int?
  /// Size of the embeddings of texts and images, `E`.
  package var embeddingSize: Int
  /// Hidden size of the vision encoder, `C`.
  package var visionHiddenSize: Int
  /// Added to the variance in the norm after the vision encoder.
  package var visionEpsilon: Float

  /// The row of a piece of text that becomes its embedding; later rows do not change it.
  ///
  /// Source: `CLIPTextTransformer` of transformers, also for a piece without the token.
  package func embeddedRow(of piece: [Int]) -> Int {
    let end = eosToken ?? piece.max() ?? 0
    return piece.firstIndex(of: end) ?? 0
  }

  /// Keys that the file omits have the values of the reference library.
  ///
  /// - Throws: `CheckpointError` with the key, the expected and the found value.
  init(_ file: ConfigurationSection) throws(CheckpointError) {
    _ = try file.choice("model_type", ["clip": ()], default: "none")
    func section(_ name: String) throws(CheckpointError) -> ConfigurationSection {
      // The older section has precedence, with the defaults of all keys that it omits.
      if let older = try file.section(name + "_dict") { return older }
      return try file.section(name) ?? ConfigurationSection(file: file.file, prefix: name + ".")
    }
    let (text, vision) = (try section("text_config"), try section("vision_config"))
    layer = EncoderLayerConfiguration(
      hiddenSize: try text.size("hidden_size", default: 512),
      intermediateSize: try text.size("intermediate_size", default: 2048),
      headCount: try text.size("num_attention_heads", default: 8),
      layerNormEpsilon: try text.epsilon("layer_norm_eps", default: 1e-5),
      activation: try text.activation("hidden_act", default: "quick_gelu"))
    guard layer.hiddenSize.isMultiple(of: layer.headCount) else {
      throw text.error("num_attention_heads", "a divisor of \(layer.hiddenSize)", found: "\(layer.headCount)")
    }
    layerCount = try text.integer("num_hidden_layers", in: 1...1024, default: 12)
    vocabularySize = try text.size("vocab_size", default: 49408)
    contextLength = try text.integer("max_position_embeddings", in: 2...65536, default: 77)
    // Published files have 2 for the largest token.
    let end = try text.integer("eos_token_id", in: 0...(1 << 20), default: 49407)
    eosToken = end == 2 ? nil : end
    embeddingSize = try file.size("projection_dim", default: 512)
    visionHiddenSize = try vision.size("hidden_size", default: 768)
    visionEpsilon = try vision.epsilon("layer_norm_eps", default: 1e-5)
  }
}

/// An open CLIP directory with both encoders, as `openai/clip-vit-large-patch14-336`.
package struct CLIPDirectory {
  package let path: String
  package let configuration: CLIPConfiguration
  package let checkpoint: Checkpoint

  /// - Throws: `CheckpointError` with the file and key, the expected and the found value; for a directory without the
  ///   text encoder, with the missing tensor.
  package init(_ path: String) throws(CheckpointError) {
    self.path = path
    let file: ConfigurationSection
    do { file = try JSONFile.section(at: path + "/config.json") } catch .file(.notFound) {
      throw .malformed(
        file: path,
        reason: "expected a CLIP directory with a text encoder, found no config.json; give a copy of "
          + "openai/clip-vit-large-patch14-336, or that of the model's vision encoder")
    }
    configuration = try CLIPConfiguration(file)
    checkpoint = try Checkpoint(directory: path)
    for name in Self.parts where !checkpoint.contains(name) {
      throw .missingTensor(name: name, directory: path)
    }
  }

  /// A tensor of each part that LLaVA directories lack.
  private static let parts = [
    "text_model.embeddings.token_embedding.weight", "text_projection.weight", "visual_projection.weight",
    "vision_model.post_layernorm.weight",
  ]

  /// Where CLIP may be without an option: the directory of the model's vision encoder, then `clip` in and beside the
  /// model's directory; those that have a configuration of both encoders.
  package static func candidates(_ files: any ModelFiles) -> [String] {
    var isDirectory = false
    _ = FileManager.default.fileExists(atPath: files.path, isDirectory: &isDirectory)
    let directory =
      isDirectory ? files.path : URL(filePath: files.path).deletingLastPathComponent().path(percentEncoded: false)
    let paths = (files.visionDirectory.map { [$0] } ?? []) + ["\(directory)/clip", "\(directory)/../clip"]
    return paths.filter { path in
      (try? JSONFile.sectionIfPresent(at: path + "/config.json"))?["model_type"].string == "clip"
    }
  }
}
