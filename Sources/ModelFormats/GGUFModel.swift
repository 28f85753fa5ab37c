import Foundation
import Kernels
import Storage

/// The weights of a pair of GGUF files: a language model and a vision encoder with projector (mmproj).
package struct GGUFWeights: Sendable {
  package let model: GGUFFile
  /// `nil` for a language model alone.
  package let mmproj: GGUFFile?
  /// The order of the rows of queries and keys; `nil` if it is that of other files.
  let interleavedRows: InterleavedRows?
  private let visionHiddenSize: Int

  init(model: GGUFFile, mmproj: GGUFFile?, _ configuration: LLaVAConfiguration) {
    self.model = model
    self.mmproj = mmproj
    interleavedRows = configuration.text.kind == .llama ? InterleavedRows(heads: configuration.text.heads) : nil
    visionHiddenSize = configuration.vision?.hiddenSize ?? 0
  }

  /// The tensors of both files by canonical name.
  var tensors: [(name: String, file: GGUFFile, storedName: String)] {
    let text = model.records.keys.map { (GGUFNames.canonicalText($0), model, $0) }
    guard let mmproj else { return text }
    return text
      + mmproj.records.map { name, info in
        (GGUFNames.canonicalVision(name, shape: info.shape, hiddenSize: visionHiddenSize), mmproj, name)
      }
  }

  /// The error that a tensor is missing, by its name in the file that should have it.
  func missing(_ name: String) -> CheckpointError {
    .missingTensor(name: GGUFNames.stored(name), directory: (GGUFNames.isVision(name) ? mmproj ?? model : model).path)
  }
}

/// An open LLaVA model in GGUF files.
package struct GGUFModel: ModelFiles {
  package let path: String
  package let configuration: LLaVAConfiguration
  package let checkpoint: Checkpoint
  private let model: GGUFFile
  private let mmproj: GGUFFile?

  /// - Parameters:
  ///   - path: The path for errors and names, of the language model or of the directory.
  ///   - model: The language model's file.
  ///   - mmproj: The vision encoder's file; `nil` for a language model alone, which takes no images.
  /// - Throws: `CheckpointError` with file and key, the expected and the found value.
  package init(_ path: String, model: GGUFFile, mmproj: GGUFFile?) throws(CheckpointError) {
    self.path = path
    self.model = model
    self.mmproj = mmproj
    guard !model.isVisionEncoder else { throw .swappedGGUF(file: model.path, isVisionEncoder: true) }
    if let mmproj, !mmproj.isVisionEncoder { throw .swappedGGUF(file: mmproj.path, isVisionEncoder: false) }
    configuration = try LLaVAConfiguration(gguf: model, mmproj: mmproj)
    checkpoint = try Checkpoint(GGUFWeights(model: model, mmproj: mmproj, configuration))
  }

  package var ggufFiles: [String] { [model, mmproj].compactMap { $0?.path } }

  package var metadata: GGUFMetadata? { model.metadata }

  package var visionCheckpoint: Checkpoint? { nil }
  package var visionDirectory: String? { nil }

  package func preprocessor() throws(CheckpointError) -> PreprocessorConfiguration? {
    guard let mmproj, let vision = configuration.vision else { return nil }
    return try PreprocessorConfiguration(gguf: mmproj, for: vision)
  }

  /// None: the vocabulary in the metadata defines them.
  package func eosTokens() -> (tokens: Set<Int>, file: String)? { nil }

  package func notes(imageToken: String) -> [LoadNote] { configuration.notes + checkpoint.notes }

  package var contentKey: String {
    let headers = [model, mmproj].compactMap { $0 }.map { String($0.storage.checksum(0..<$0.headerCount)) }
    return SharedBytes.checksum(of: ([checkpoint.contentKey] + headers).joined(separator: "\n"))
  }
}
