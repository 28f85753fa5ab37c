import Foundation
import Storage

/// A LLaVA directory of either published layout, opened: what its files say, and where its weights lie.
package struct ModelDirectory {
  package let path: String
  package let configuration: LLaVAConfiguration
  package let checkpoint: Checkpoint
  package let visionTower: VisionTower

  /// - Parameters:
  ///   - path: The model's directory.
  ///   - visionTower: A CLIP directory for an original checkpoint that does not bring its vision encoder along; `nil` to look for it.
  /// - Throws: `CheckpointError` naming the file and key, what was expected and what was found.
  package init(_ path: String, visionTower given: String? = nil) throws(CheckpointError) {
    self.path = path
    let configurationPath = path + "/config.json"
    let original = try JSONFile.read(OriginalConfigurationFile.self, at: configurationPath)
    if original.isOriginal {
      let check = ValueCheck(file: configurationPath)
      // A kind of model that is not LLaVA's is named before its weights are looked for.
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

  /// How images are prepared, where the model's directory or its vision encoder's says.
  package func preprocessor() throws(CheckpointError) -> PreprocessorConfiguration? {
    if let own = try Self.preprocessor(in: path) { return own }
    return try visionTower.directory.map(Self.preprocessor(in:)) ?? nil
  }

  /// What `preprocessor_config.json` says, or else the part of `processor_config.json` in which the reference library
  /// keeps it since version 5.
  private static func preprocessor(in directory: String) throws(CheckpointError) -> PreprocessorConfiguration? {
    struct File: Decodable {
      var image_processor: PreprocessorConfiguration?
    }
    let own = try JSONFile.readIfPresent(PreprocessorConfiguration.self, at: directory + "/preprocessor_config.json")
    if let own { return own }
    return try JSONFile.readIfPresent(File.self, at: directory + "/processor_config.json")?.image_processor
  }

  /// The tokens that end an answer, where a file says.
  package func eosTokens() throws(CheckpointError) -> Set<Int>? {
    struct File: Decodable {
      var eos_token_id: TokenList?
    }
    let file = try JSONFile.readIfPresent(File.self, at: path + "/generation_config.json")
    return file?.eos_token_id?.tokens ?? configuration.eosTokens
  }
}

extension LLaVAConfiguration {
  /// Reads and checks `config.json` of a directory in the Hugging Face layout.
  ///
  /// - Throws: `CheckpointError` naming the key, what was expected and what was found.
  package init(directory: String) throws(CheckpointError) {
    let path = directory + "/config.json"
    self = try JSONFile.read(ConfigurationFile.self, at: path).checked(path)
  }
}

/// Which weights a model's vision encoder has.
///
/// A converted checkpoint brings its vision encoder along. An original one may name a CLIP directory instead: LLaVA-1.5 runs on stock
/// CLIP, while LLaVA-1.6 trained the vision encoder, so that stock CLIP would be a wrong one.
package struct VisionTower {
  package var configuration: VisionConfiguration
  /// The CLIP directory with the weights; `nil` where the model's own files hold them.
  package var checkpoint: Checkpoint?
  /// Where the vision encoder's files are, weights or not; `nil` where the model's directory has all.
  package var directory: String?

  /// The vision encoder of an original checkpoint.
  ///
  /// - Parameters:
  ///   - file: The model's `config.json`.
  ///   - model: The model's own weights.
  ///   - given: A CLIP directory named by the user; the model's own weights go before it only if the configuration says that
  ///     the vision encoder was trained.
  /// - Throws: `CheckpointError` when the vision encoder is nowhere, or only a wrong one is.
  init(
    of file: OriginalConfigurationFile, in model: Checkpoint, given: String?, _ check: ValueCheck
  ) throws(CheckpointError) {
    let name = file.mm_vision_tower ?? "openai/clip-vit-large-patch14-336"
    let candidates = given.map { [$0] } ?? Self.candidates(name, beside: model.directory)
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
      let section = file.vision_config ?? .published(name.split(separator: "/").last.map(String.init) ?? name)
      guard let section else { throw .missingVisionTower(directory: model.directory, name: name, looked: candidates) }
      configuration = try section.checked(check.section("vision_config"))
    } else {
      throw .missingVisionTower(directory: model.directory, name: name, looked: candidates)
    }
  }

  /// The vision encoder of a converted checkpoint.
  init(ownWeights configuration: VisionConfiguration) { self.configuration = configuration }

  /// Where a named CLIP directory may be: at the path itself, in the model's directory, beside it, and one folder further up.
  private static func candidates(_ name: String, beside model: String) -> [String] {
    let short = name.split(separator: "/").last.map(String.init) ?? name
    if name.hasPrefix("/") { return [name, model + "/" + short] }
    return ([name, short, "vision_tower"].map { "\(model)/\($0)" })
      + ["..", "../.."].flatMap { up in [name, short].map { "\(model)/\(up)/\($0)" } }
  }
}

/// `config.json` of a CLIP directory: the vision encoder alone, or both of CLIP's vision encoders with a section for each.
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

/// A JSON file read into a value, with errors that name the file and the key.
package enum JSONFile {
  /// The largest file read, in bytes; tokenizers are a few megabytes.
  static let sizeLimit = 256 << 20

  /// - Throws: `CheckpointError` when the file is missing, too large, not JSON or not of the type's form.
  package static func read<Value: Decodable>(_ type: Value.Type, at path: String) throws(CheckpointError) -> Value {
    let bytes: SharedBytes
    do { bytes = try SharedBytes(mapping: path) } catch { throw .file(error) }
    guard bytes.count <= sizeLimit else {
      throw .malformed(file: path, reason: "\(bytes.count) bytes of JSON, expected at most \(sizeLimit)")
    }
    return try decode(type, from: bytes.copy(0..<bytes.count), file: path)
  }

  /// As `read`, or `nil` when there is no such file.
  package static func readIfPresent<Value: Decodable>(
    _ type: Value.Type, at path: String
  ) throws(CheckpointError) -> Value? {
    do { return try read(type, at: path) } catch .file(.notFound) { return nil } catch { throw error }
  }

  /// The value that JSON text describes.
  package static func decode<Value: Decodable>(
    _ type: Value.Type, from bytes: [UInt8], file: String
  ) throws(CheckpointError) -> Value {
    do { return try JSONDecoder().decode(type, from: Data(bytes)) } catch let error as CheckpointError {
      throw error
    } catch PreprocessorConfigurationError.invalidValue(let key, let expected, let found) {
      throw .badValue(file: file, key: key, expected: expected, found: found)
    } catch let error as DecodingError {
      throw .malformed(file: file, reason: error.oneLine)
    } catch PreprocessorConfigurationError.invalidValue(let key, let expected, let found) {
      throw .badValue(file: file, key: key, expected: expected, found: found)
    } catch {
      throw .malformed(file: file, reason: "not JSON")
    }
  }
}

extension DecodingError {
  /// What was wrong, and at which key, in one line.
  fileprivate var oneLine: String {
    switch self {
    case .keyNotFound(let key, let context):
      "missing key '\((context.codingPath + [key]).dotted)'"
    case .typeMismatch(let type, let context):
      "'\(context.codingPath.dotted)': expected \(type), found something else"
    case .valueNotFound(let type, let context):
      "'\(context.codingPath.dotted)': expected \(type), found null"
    case .dataCorrupted(let context) where context.codingPath.isEmpty:
      "not valid JSON"
    case .dataCorrupted(let context):
      "'\(context.codingPath.dotted)': \(context.debugDescription)"
    @unknown default:
      "not of the expected form"
    }
  }
}

extension [any CodingKey] {
  fileprivate var dotted: String { map(\.stringValue).joined(separator: ".") }
}
