import Foundation
import Storage

/// An open LLaVA model directory of either published layout: configuration and weights.
package struct ModelDirectory {
  package let path: String
  package let configuration: LLaVAConfiguration
  package let checkpoint: Checkpoint
  package let visionTower: VisionTower

  /// - Parameters:
  ///   - path: The model's directory.
  ///   - visionTower: The CLIP directory of an original checkpoint without its vision encoder; `nil` to search for it.
  /// - Throws: `CheckpointError` with the file and key, the expected and the found value.
  package init(_ path: String, visionTower given: String? = nil) throws(CheckpointError) {
    self.path = path
    let configurationPath = path + "/config.json"
    let original = try JSONFile.read(OriginalConfigurationFile.self, at: configurationPath)
    if original.isOriginal {
      let check = ValueCheck(file: configurationPath)
      // The model type is checked before the weights, so that other models are refused by their type.
      _ = try original.languageModelFamily(check)
      checkpoint = try Checkpoint(directory: path)
      visionTower = try VisionTower(of: original, in: checkpoint, given: given, check)
      configuration = try original.checked(
        JSONFile.read(TextSection.self, at: configurationPath), vision: visionTower.configuration, check)
    } else {
      configuration = try LLaVAConfiguration(directory: path)
      if let given { throw .unneededVisionTower(directory: path, given: given) }
      checkpoint = try Checkpoint(directory: path)
      visionTower = VisionTower(ownWeights: configuration.vision)
    }
  }

  /// The preprocessor configuration of the model's directory or of its vision encoder's; nil if neither has one.
  package func preprocessor() throws(CheckpointError) -> PreprocessorConfiguration? {
    if let own = try Self.preprocessor(in: path) { return own }
    return try visionTower.directory.map(Self.preprocessor(in:)) ?? nil
  }

  /// The content of `preprocessor_config.json`, or of the section of `processor_config.json` where version 5 of the
  /// reference library keeps it.
  private static func preprocessor(in directory: String) throws(CheckpointError) -> PreprocessorConfiguration? {
    struct File: Decodable {
      var imageProcessor: PreprocessorConfiguration?

      enum CodingKeys: String, CodingKey {
        case imageProcessor = "image_processor"
      }
    }
    let own = try JSONFile.readIfPresent(PreprocessorConfiguration.self, at: directory + "/preprocessor_config.json")
    if let own { return own }
    return try JSONFile.readIfPresent(File.self, at: directory + "/processor_config.json")?.imageProcessor
  }

  /// The EOS tokens of `generation_config.json` or of the configuration, and that file; nil if neither defines them.
  package func eosTokens() throws(CheckpointError) -> (tokens: Set<Int>, file: String)? {
    struct File: Decodable {
      var eosTokenID: TokenList?

      enum CodingKeys: String, CodingKey {
        case eosTokenID = "eos_token_id"
      }
    }
    let file = try JSONFile.readIfPresent(File.self, at: path + "/generation_config.json")
    if let tokens = file?.eosTokenID?.tokens { return (tokens, "generation_config.json") }
    return configuration.eosTokens.map { ($0, "config.json") }
  }
}

extension LLaVAConfiguration {
  /// Reads and checks `config.json` of a directory in the Hugging Face layout.
  ///
  /// - Throws: `CheckpointError` with the key, the expected and the found value.
  package init(directory: String) throws(CheckpointError) {
    let path = directory + "/config.json"
    self = try JSONFile.read(ConfigurationFile.self, at: path).checked(path)
  }
}

/// The configuration of a model's vision encoder and the location of its weights.
///
/// A converted checkpoint contains its vision encoder. An original checkpoint may name a CLIP directory instead:
/// LLaVA-1.5 uses stock CLIP. LLaVA-1.6 trained the vision encoder, so stock CLIP weights would be wrong for it.
package struct VisionTower {
  package var configuration: VisionConfiguration
  /// The weights of a CLIP directory; `nil` if the model's own checkpoint contains them.
  package var checkpoint: Checkpoint?
  /// The directory of the vision encoder's files, with or without weights; `nil` if it is the model's directory.
  package var directory: String?

  /// The vision encoder of an original checkpoint.
  ///
  /// - Parameters:
  ///   - file: The model's `config.json`.
  ///   - model: The model's own weights.
  ///   - given: The user's CLIP directory; the model's own weights have precedence only if the configuration declares
  ///     that the vision encoder was trained.
  /// - Throws: `CheckpointError` if no vision encoder is found, or only one with other weights.
  init(
    of file: OriginalConfigurationFile, in model: Checkpoint, given: String?, _ check: ValueCheck
  ) throws(CheckpointError) {
    let name = file.mmVisionTower ?? "openai/clip-vit-large-patch14-336"
    let candidates = given.map { [$0] } ?? Self.candidates(name, nearTo: model.directory)
    directory = candidates.first { FileManager.default.fileExists(atPath: $0 + "/config.json") }
    if let given, directory == nil { throw .file(.notFound(path: given + "/config.json")) }

    let isInside = model.contains("vision_tower.vision_model.embeddings.class_embedding")
    if file.trainsVisionTower == true, !isInside { throw .missingTrainedVisionTower(directory: model.directory) }
    let usesOwnWeights = file.trainsVisionTower == true || (isInside && given == nil && file.trainsVisionTower == nil)
    if let directory {
      configuration = try ClipFile.configuration(directory)
      if !usesOwnWeights {
        do { checkpoint = try Checkpoint(directory: directory) } catch .noWeights where isInside {}
      }
    } else if isInside {
      let section = file.visionConfig ?? .published(name.split(separator: "/").last.map(String.init) ?? name)
      guard let section else { throw .missingVisionTower(directory: model.directory, name: name, looked: candidates) }
      configuration = try section.checked(check.section("vision_config"))
    } else {
      throw .missingVisionTower(directory: model.directory, name: name, looked: candidates)
    }
  }

  /// The vision encoder of a converted checkpoint.
  init(ownWeights configuration: VisionConfiguration) { self.configuration = configuration }

  /// The candidate paths of a named CLIP directory: the path itself, in the model's directory, next to it, and one
  /// folder above.
  private static func candidates(_ name: String, nearTo model: String) -> [String] {
    let short = name.split(separator: "/").last.map(String.init) ?? name
    if name.hasPrefix("/") { return [name, model + "/" + short] }
    return ([name, short, "vision_tower"].map { "\(model)/\($0)" })
      + ["..", "../.."].flatMap { up in [name, short].map { "\(model)/\(up)/\($0)" } }
  }
}

/// `config.json` of a CLIP directory: the vision encoder alone, or a section for each of CLIP's two encoders.
private struct ClipFile: Decodable {
  var modelType: String?
  var visionConfig: VisionSection?

  static func configuration(_ directory: String) throws(CheckpointError) -> VisionConfiguration {
    let path = directory + "/config.json"
    let (file, check) = (try JSONFile.read(ClipFile.self, at: path), ValueCheck(file: path))
    switch file.modelType {
    case "clip_vision_model": return try JSONFile.read(VisionSection.self, at: path).checked(check)
    case "clip":
      var section = file.visionConfig ?? VisionSection()
      section.modelType = "clip_vision_model"
      return try section.checked(check.section("vision_config"))
    default:
      let found = file.modelType.map { "'\($0)'" } ?? "nothing"
      throw check.error("model_type", "'clip' or 'clip_vision_model', a CLIP directory", found)
    }
  }

  enum CodingKeys: String, CodingKey {
    case modelType = "model_type"
    case visionConfig = "vision_config"
  }
}

/// Decodes JSON files, with errors that name the file and the key.
package enum JSONFile {
  /// The maximum file size in bytes; tokenizers are a few megabytes.
  static let sizeLimit = 256 << 20

  /// Reads a JSON file.
  ///
  /// - Throws: `CheckpointError` if the file is missing, too large, not JSON, or does not match the type.
  package static func read<Value: Decodable>(_ type: Value.Type, at path: String) throws(CheckpointError) -> Value {
    let bytes: SharedBytes
    do { bytes = try SharedBytes(mapping: path) } catch { throw .file(error) }
    guard bytes.count <= sizeLimit else {
      throw .malformed(file: path, reason: "\(bytes.count) bytes of JSON, expected at most \(sizeLimit)")
    }
    return try decode(type, from: bytes.copy(0..<bytes.count), file: path)
  }

  /// Like `read`, or `nil` if there is no such file.
  package static func readIfPresent<Value: Decodable>(
    _ type: Value.Type, at path: String
  ) throws(CheckpointError) -> Value? {
    do { return try read(type, at: path) } catch .file(.notFound) { return nil } catch { throw error }
  }

  /// The value of a JSON text.
  package static func decode<Value: Decodable>(
    _ type: Value.Type, from bytes: [UInt8], file: String
  ) throws(CheckpointError) -> Value {
    do { return try JSONDecoder().decode(type, from: Data(bytes)) } catch let error as CheckpointError {
      throw error
    } catch PreprocessorConfigurationError.invalidValue(let key, let expected, let found) {
      throw .badValue(file: file, key: key, expected: expected, found: found)
    } catch let error as DecodingError {
      throw .malformed(file: file, reason: error.oneLine)
    } catch {
      throw .malformed(file: file, reason: "not JSON")
    }
  }
}

extension DecodingError {
  /// The reason and the key, in one line.
  fileprivate var oneLine: String {
    switch self {
    case .keyNotFound(let key, let context):
      "missing key '\((context.codingPath + [key]).dotted)'"
    case .typeMismatch(let type, let context):
      "'\(context.codingPath.dotted)': expected \(type), found another type"
    case .valueNotFound(let type, let context):
      "'\(context.codingPath.dotted)': expected \(type), found null"
    case .dataCorrupted(let context) where context.codingPath.isEmpty:
      "not valid JSON"
    case .dataCorrupted(let context):
      "'\(context.codingPath.dotted)': \(context.debugDescription)"
    @unknown default:
      "does not have the expected structure"
    }
  }
}

extension [any CodingKey] {
  fileprivate var dotted: String { map(\.stringValue).joined(separator: ".") }
}
