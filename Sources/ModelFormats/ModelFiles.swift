import Foundation
import Storage

/// An open LLaVA model of any layout: configuration, weights and the other values that loading needs.
package protocol ModelFiles {
  var path: String { get }
  var configuration: LLaVAConfiguration { get }
  var checkpoint: Checkpoint { get }
  /// The weights of the vision encoder's CLIP directory; `nil` if `checkpoint` contains them or there are none.
  var visionCheckpoint: Checkpoint? { get }
  /// The vision encoder's CLIP directory, with or without weights; `nil` without such a directory.
  var visionDirectory: String? { get }
  /// The paths of GGUF files, that of the language model first; empty for a directory of other files.
  var ggufFiles: [String] { get }
  /// The metadata of the language model's GGUF file, with vocabulary and chat template; `nil` for a directory, which has
  /// files for them.
  var metadata: GGUFMetadata? { get }
  /// A checksum of everything that image features depend on, the key of cached features.
  var contentKey: String { get }

  /// The preprocessor configuration; `nil` if there is none.
  func preprocessor() throws(CheckpointError) -> PreprocessorConfiguration?

  /// The EOS tokens and the file that defines them; `nil` if none does.
  func eosTokens() throws(CheckpointError) -> (tokens: Set<Int>, file: String)?

  /// Remarks about the files; complete when all weights are loaded.
  ///
  /// - Parameter imageToken: The text of the tokenizer's image token.
  func notes(imageToken: String) throws(CheckpointError) -> [LoadNote]
}

/// The search for the files of a model at a path, recognized by their content.
package enum ModelSearch {
  /// Opens a model directory, a directory with a pair of GGUF files, or the GGUF file of a language model.
  ///
  /// - Parameters:
  ///   - visionTower: The CLIP directory of an original checkpoint; `nil` to search for it.
  ///   - mmproj: The GGUF file of the vision encoder; `nil` for the only one next to the model. Without one the model
  ///     takes no images.
  /// - Throws: `CheckpointError` with the file, the expected and the found value.
  package static func open(
    _ path: String, visionTower: String? = nil, mmproj: String? = nil
  ) throws(CheckpointError) -> any ModelFiles {
    let found = try Found(path)
    guard let found else {
      var isDirectory = false
      let exists = FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory)
      guard isDirectory else { throw .notADirectory(path: path, isFile: exists) }
      if let mmproj { throw .unneededMMProj(directory: path, given: mmproj) }
      return try ModelDirectory(path, visionTower: visionTower)
    }
    if let visionTower { throw .visionTowerOfGGUF(path: path, given: visionTower) }
    guard !found.model.isVisionEncoder else { throw .swappedGGUF(file: found.model.path, isVisionEncoder: true) }
    let encoder: GGUFFile?
    if let mmproj { encoder = try GGUFFile(mmproj) } else { encoder = try found.visionEncoder() }
    return try GGUFModel(path, model: found.model, mmproj: encoder)
  }

  /// The metadata of the language model's GGUF file at a path; `nil` for a path without one.
  package static func metadata(_ path: String) throws(CheckpointError) -> GGUFMetadata? {
    guard let found = try Found(path) else { return nil }
    guard !found.model.isVisionEncoder else { throw .swappedGGUF(file: found.model.path, isVisionEncoder: true) }
    return found.model.metadata
  }
}

/// The GGUF files at a path.
private struct Found {
  let model: GGUFFile
  private let directory: String
  /// The files of vision encoders in the directory.
  private let encoders: [GGUFFile]

  /// - Returns: `nil` for a path without GGUF files, or with a `config.json`.
  init?(_ path: String) throws(CheckpointError) {
    var isDirectory = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else { return nil }
    if !isDirectory {
      guard GGUFFile.isFound(at: path) else { return nil }
      model = try GGUFFile(path)
      let parent = URL(filePath: path).deletingLastPathComponent().path(percentEncoded: false)
      directory = parent.count > 1 && parent.hasSuffix("/") ? String(parent.dropLast()) : parent
      encoders =
        model.isVisionEncoder
        ? []
        : Self.files(in: parent).compactMap { try? GGUFFile($0) }
          .filter { $0.isVisionEncoder }
      return
    }
    guard !FileManager.default.fileExists(atPath: path + "/config.json") else { return nil }
    var files: [GGUFFile] = []
    for file in Self.files(in: path) { files.append(try GGUFFile(file)) }
    guard !files.isEmpty else { return nil }
    directory = path
    encoders = files.filter(\.isVisionEncoder)
    let models = files.filter { !$0.isVisionEncoder }
    guard let first = models.first else { throw .noLanguageModel(directory: path, found: Self.names(files)) }
    guard models.count == 1 else {
      throw .ambiguousGGUF(directory: path, isVisionEncoder: false, found: Self.names(models))
    }
    model = first
  }

  /// The only vision encoder of the directory; `nil` if there is none.
  func visionEncoder() throws(CheckpointError) -> GGUFFile? {
    guard encoders.count <= 1 else {
      throw .ambiguousGGUF(directory: directory, isVisionEncoder: true, found: Self.names(encoders))
    }
    return encoders.first
  }

  private static func files(in directory: String) -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
    let prefix = directory.hasSuffix("/") ? directory : directory + "/"
    return names.sorted().map { prefix + $0 }.filter(GGUFFile.isFound)
  }

  private static func names(_ files: [GGUFFile]) -> [String] {
    files.map { URL(filePath: $0.path).lastPathComponent }
  }
}
