internal import Kernels

#if canImport(FoundationEssentials)
  internal import FoundationEssentials
#else
  internal import Foundation
#endif

/// Which weights a model's vision tower has.
///
/// A converted checkpoint brings its tower along. An original one may name a CLIP directory instead: LLaVA-1.5 runs on stock
/// CLIP, while LLaVA-1.6 trained the tower, so that stock CLIP would be a wrong one.
package struct VisionTower {
  package var configuration: VisionConfiguration
  /// The CLIP directory with the weights; `nil` where the model's own files hold them.
  package var checkpoint: Checkpoint?
  /// Where the tower's files are, weights or not; `nil` where the model's directory has all.
  package var directory: String?

  /// The tower of an original checkpoint.
  ///
  /// - Parameters:
  ///   - file: The model's `config.json`.
  ///   - model: The model's own weights.
  ///   - given: A CLIP directory named by the user; the model's own weights go before it only if the configuration says that
  ///     the tower was trained.
  /// - Throws: `CheckpointError` when the tower is nowhere, or only a wrong one is.
  init(
    of file: OriginalConfigurationFile, in model: Checkpoint, given: String?, _ check: ValueCheck
  ) throws(CheckpointError) {
    let name = file.mm_vision_tower ?? "openai/clip-vit-large-patch14-336"
    let candidates = given.map { [$0] } ?? Self.candidates(name, beside: model.directory)
    directory = candidates.first { FileManager.default.fileExists(atPath: $0 + "/config.json") }
    if let given, directory == nil { throw .file(.notFound(path: given + "/config.json")) }

    let isInside = model.contains("vision_tower.vision_model.embeddings.class_embedding")
    if file.trainsTower == true, !isInside { throw .missingTrainedTower(directory: model.directory) }
    let usesOwnWeights = file.trainsTower == true || (isInside && given == nil && file.trainsTower == nil)
    if let directory {
      configuration = try ClipFile.configuration(directory)
      if !usesOwnWeights {
        do { checkpoint = try Checkpoint(directory: directory) } catch .noWeights where isInside {}
      }
    } else if isInside {
      let section = file.vision_config ?? .published(name.split(separator: "/").last.map(String.init) ?? name)
      guard let section else { throw .missingTower(directory: model.directory, name: name, looked: candidates) }
      configuration = try section.checked(check.section("vision_config"))
    } else {
      throw .missingTower(directory: model.directory, name: name, looked: candidates)
    }
  }

  /// The tower of a converted checkpoint.
  init(ownWeights configuration: VisionConfiguration) { self.configuration = configuration }

  /// Where a named CLIP directory may be: at the path itself, in the model's directory, beside it, and one folder further up.
  private static func candidates(_ name: String, beside model: String) -> [String] {
    let short = name.split(separator: "/").last.map(String.init) ?? name
    if name.hasPrefix("/") { return [name, model + "/" + short] }
    return ([name, short, "vision_tower"].map { "\(model)/\($0)" })
      + ["..", "../.."].flatMap { up in [name, short].map { "\(model)/\(up)/\($0)" } }
  }
}

/// `config.json` of a CLIP directory: the tower alone, or both of CLIP's towers with a section for each.
private struct ClipFile: Decodable {
  var model_type: String?
  var vision_config: VisionSection?

  static func configuration(_ directory: String) throws(CheckpointError) -> VisionConfiguration {
    let path = directory + "/config.json"
    let (file, check) = (try JSONFile.read(ClipFile.self, at: path), ValueCheck(file: path))
    switch file.model_type {
    case "clip_vision_model": return try JSONFile.read(VisionSection.self, at: path).checked(check)
    case "clip":
      var section = file.vision_config ?? VisionSection()
      section.model_type = "clip_vision_model"
      return try section.checked(check.section("vision_config"))
    default:
      let found = file.model_type.map { "'\($0)'" } ?? "nothing"
      throw check.fault("model_type", "'clip' or 'clip_vision_model', a CLIP directory", found)
    }
  }
}
