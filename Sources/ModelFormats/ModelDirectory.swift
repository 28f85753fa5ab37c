import Foundation
import Storage

/// An open LLaVA model directory of either published layout: configuration and weights.
package struct ModelDirectory: ModelFiles {
  package let path: String
  package let configuration: LLaVAConfiguration
  package let checkpoint: Checkpoint
  package let visionTower: VisionTower
  package var visionCheckpoint: Checkpoint? { visionTower.checkpoint }
  package var visionDirectory: String? { visionTower.directory }
  package var ggufFiles: [String] { [] }
  package var metadata: GGUFMetadata? { nil }

  /// - Parameters:
  ///   - path: The model's directory.
  ///   - visionTower: The CLIP directory of an original checkpoint without its vision encoder; `nil` to search for it.
  /// - Throws: `CheckpointError` with the file and key, the expected and the found value.
  package init(_ path: String, visionTower given: String? = nil) throws(CheckpointError) {
    self.path = path
    let file: ConfigurationSection
    do { file = try JSONFile.section(at: path + "/config.json") } catch .file(.notFound) {
      try Adapter.refuse(path)
      throw .file(.notFound(path: path + "/config.json"))
    } catch { throw error }
    // Model type and quantization are checked before the weights, so that they are the reason of the error.
    if OriginalConfiguration.matches(file) {
      let original = try OriginalConfiguration(file)
      try ForeignTensors.refuseQuantization(in: file, directory: path)
      checkpoint = try Checkpoint(directory: path)
      visionTower = try VisionTower(of: original, in: checkpoint, given: given)
      configuration = try original.configuration(vision: visionTower.configuration)
    } else {
      let vision = try VisionConfiguration(ofHuggingFace: file, ModelType(file))
      var configuration = try LLaVAConfiguration(huggingFace: file, vision: vision)
      try ForeignTensors.refuseQuantization(in: file, directory: path)
      if let given { throw .unneededVisionTower(directory: path, given: given) }
      checkpoint = try Checkpoint(directory: path)
      if configuration.tiesWordEmbeddingsAtTop, !configuration.tiesWordEmbeddings {
        let hasHead = checkpoint.contains("language_model.lm_head.weight")
        configuration.tiesWordEmbeddings = !hasHead
        configuration.notes.append(.tiedAtTop(hasHead: hasHead))
      }
      visionTower = VisionTower(ownWeights: vision)
      if configuration.imageSplitting != nil,
        let file = try Self.preprocessor(in: path, for: vision, splitsImages: true)
      {
        configuration.imageSplitting = try file.imageSplitting(for: vision)
      }
      self.configuration = configuration
    }
  }

  /// The preprocessor configuration of the model's directory or of its vision encoder's; nil if neither has one.
  package func preprocessor() throws(CheckpointError) -> PreprocessorConfiguration? {
    let splitsImages = configuration.imageSplitting != nil
    if let own = try Self.preprocessor(in: path, for: visionTower.configuration, splitsImages: splitsImages) {
      return own
    }
    guard let directory = visionTower.directory else { return nil }
    return try Self.preprocessor(in: directory, for: visionTower.configuration)
  }

  /// The content of `preprocessor_config.json`, or of the section of `processor_config.json` where version 5 of the
  /// reference library keeps it.
  private static func preprocessor(
    in directory: String, for vision: VisionConfiguration, splitsImages: Bool = false
  ) throws(CheckpointError) -> PreprocessorConfiguration? {
    if let own = try JSONFile.sectionIfPresent(at: directory + "/preprocessor_config.json") {
      return try PreprocessorConfiguration(own, for: vision, splitsImages: splitsImages)
    }
    let processor = try JSONFile.sectionIfPresent(at: directory + "/processor_config.json")
    guard let section = try processor?.section("image_processor") else { return nil }
    return try PreprocessorConfiguration(section, for: vision, splitsImages: splitsImages)
  }

  /// The EOS tokens of `generation_config.json` or of the configuration, and that file; nil if neither defines them.
  package func eosTokens() throws(CheckpointError) -> (tokens: Set<Int>, file: String)? {
    let file = "generation_config.json"
    if let tokens = try JSONFile.sectionIfPresent(at: path + "/" + file)?.eosTokens() { return (tokens, file) }
    return configuration.eosTokens.map { ($0, "config.json") }
  }

  /// Remarks about the directory's files; complete when all weights are loaded.
  ///
  /// - Parameter imageToken: The text of the tokenizer's image token.
  package func notes(imageToken: String) throws(CheckpointError) -> [LoadNote] {
    configuration.notes + checkpoint.notes + (visionTower.checkpoint?.notes ?? [])
      + (try contradictions(imageToken: imageToken)) + (try generationOptions())
  }

  /// The options of `generation_config.json` that change greedy answers of transformers.
  private func generationOptions() throws(CheckpointError) -> [LoadNote] {
    guard let file = try JSONFile.sectionIfPresent(at: path + "/generation_config.json") else { return [] }
    // The options, and the number that has no effect; `nil` if every value has one.
    let options: [(key: String, neutral: Double?)] = [
      ("repetition_penalty", 1), ("no_repeat_ngram_size", 0), ("min_length", 0), ("min_new_tokens", 0),
      ("num_beams", 1), ("bad_words_ids", nil), ("suppress_tokens", nil), ("begin_suppress_tokens", nil),
      ("sequence_bias", nil), ("forced_bos_token_id", nil), ("forced_eos_token_id", nil), ("guidance_scale", 1),
      ("encoder_repetition_penalty", 1), ("encoder_no_repeat_ngram_size", 0), ("exponential_decay_length_penalty", nil),
      ("force_words_ids", nil), ("stop_strings", nil),
    ]
    return options.compactMap { key, neutral in
      let value = file[key]
      guard !value.isNull, value.array?.isEmpty != true, value.double == nil || value.double != neutral else {
        return nil
      }
      return .generationOption(key: key, value: value.double.map { _ in value.text } ?? value.kind)
    }
  }

  /// The values of other files that `config.json` contradicts.
  private func contradictions(imageToken: String) throws(CheckpointError) -> [LoadNote] {
    var notes: [LoadNote] = []
    let vision = visionTower.configuration
    let strategy = configuration.dropsClassToken ? "default" : "full"
    func preprocessor(_ section: ConfigurationSection) throws(CheckpointError) -> PreprocessorConfiguration {
      try PreprocessorConfiguration(section, for: vision, splitsImages: configuration.imageSplitting != nil)
    }
    for name in ["processor_config.json", "preprocessor_config.json"] {
      guard let file = try JSONFile.sectionIfPresent(at: path + "/" + name) else { continue }
      func compare(_ key: String, _ agrees: (JSONValue) -> Bool, _ used: String) {
        let value = file[key]
        guard !value.isNull, !agrees(value) else { return }
        notes.append(.contradiction(file: name, key: key, found: value.excerpt, used: used))
      }
      compare("patch_size", { $0.wholeValue == vision.patchSize }, "\(vision.patchSize) of config.json")
      compare("vision_feature_select_strategy", { $0.string == strategy }, "'\(strategy)' of config.json")
      compare(
        "image_token", { ($0.string ?? $0["content"].string) == imageToken },
        "\(imageToken.excerpt) of the tokenizer")
      if configuration.imageSplitting != nil {
        let count = configuration.visualTokensPerView
        compare("image_seq_len", { $0.wholeValue == count }, "\(count), the visual tokens of a view by config.json")
      }
      let classTokens = vision.hasClassToken ? 1 : 0
      compare(
        "num_additional_image_tokens", { $0.wholeValue == classTokens },
        "\(classTokens), the number of class tokens of the vision encoder")
    }
    if let section = try JSONFile.sectionIfPresent(at: path + "/processor_config.json")?.section("image_processor"),
      let used = try JSONFile.sectionIfPresent(at: path + "/preprocessor_config.json"),
      // A section that is not used may have any values.
      let followed = try? preprocessor(used), (try? preprocessor(section)) != followed
    {
      notes.append(
        .contradiction(
          file: "processor_config.json", key: "image_processor", found: "an object", used: "preprocessor_config.json"))
    }
    let generation = try JSONFile.sectionIfPresent(at: path + "/generation_config.json")?.eosTokens()
    if let generation, let tokens = configuration.eosTokens, tokens != generation {
      notes.append(
        .contradiction(
          file: "config.json", key: "eos_token_id", found: Self.list(tokens),
          used: "\(Self.list(generation)) of generation_config.json"))
    }
    return notes
  }

  private static func list(_ tokens: Set<Int>) -> String {
    tokens.sorted().prefix(8).map(String.init).joined(separator: ", ") + (tokens.count > 8 ? ", …" : "")
  }
}

extension LLaVAConfiguration {
  /// Reads and checks `config.json` of a directory in the Hugging Face layout.
  ///
  /// - Throws: `CheckpointError` with the key, the expected and the found value.
  package init(directory: String) throws(CheckpointError) {
    let file = try JSONFile.section(at: directory + "/config.json")
    try self.init(huggingFace: file, vision: VisionConfiguration(ofHuggingFace: file, ModelType(file)))
  }
}

/// The configuration of a model's vision encoder and the location of its weights.
///
/// A converted checkpoint contains its vision encoder. An original checkpoint may name a CLIP directory instead:
/// LLaVA-1.5 uses stock CLIP. LLaVA-1.6 and LLaVA-OneVision trained the vision encoder, so stock weights would be wrong
/// for them.
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
  init(of file: OriginalConfiguration, in model: Checkpoint, given: String?) throws(CheckpointError) {
    let name = file.visionTower
    let candidates = given.map { [$0] } ?? Self.candidates(name, nearTo: model.directory)
    directory = candidates.first { FileManager.default.fileExists(atPath: $0 + "/config.json") }
    if let given, directory == nil { throw .file(.notFound(path: given + "/config.json")) }

    let isInside = model.contains("vision_tower.vision_model.embeddings.position_embedding.weight")
    if file.trainsVisionTower == true, !isInside { throw .missingTrainedVisionTower(directory: model.directory) }
    let usesOwnWeights = file.trainsVisionTower == true || (isInside && given == nil && file.trainsVisionTower == nil)
    if let directory {
      configuration = try Self.configuration(directory)
      if !usesOwnWeights {
        do { checkpoint = try Checkpoint(directory: directory) } catch .noWeights where isInside {}
      }
    } else if isInside {
      // Not a key of the original code; some converted directories have it.
      if let section = try file.file.section("vision_config") {
        configuration = try VisionConfiguration(section)
      } else if let published = VisionConfiguration.published(Self.lastPart(of: name)) {
        configuration = published
      } else {
        throw .missingVisionTower(directory: model.directory, name: name, looked: candidates)
      }
    } else {
      throw .missingVisionTower(directory: model.directory, name: name, looked: candidates)
    }
  }

  /// The vision encoder of a converted checkpoint.
  init(ownWeights configuration: VisionConfiguration) { self.configuration = configuration }

  /// `config.json` of a CLIP or SigLIP directory: the vision encoder alone, or a section for each of two encoders.
  private static func configuration(_ directory: String) throws(CheckpointError) -> VisionConfiguration {
    let file = try JSONFile.section(at: directory + "/config.json")
    switch file["model_type"].string {
    case "clip_vision_model", "siglip_vision_model": return try VisionConfiguration(file)
    case let type where type == "clip" || type == "siglip":
      let empty = ConfigurationSection(file: file.file, prefix: "vision_config.")
      return try VisionConfiguration(
        file.section("vision_config") ?? empty, family: type == "clip" ? .clip : .siglip)
    default:
      throw file.error(
        "model_type", "'clip', 'clip_vision_model', 'siglip' or 'siglip_vision_model', a CLIP or SigLIP directory")
    }
  }

  /// The candidate paths of a CLIP directory: the path itself, in the model's directory, next to it and one folder
  /// above, also next to a link to the model's directory, and in the cache of the hub.
  ///
  /// An absolute path may be one of the machine that trained the model, so its last part is searched for as well.
  private static func candidates(_ name: String, nearTo model: String) -> [String] {
    let short = lastPart(of: name)
    let isAbsolute = name.hasPrefix("/") || name.contains("\\")
    let names = (isAbsolute ? [short] : [name, short]).filter { !["", "/", ".", ".."].contains($0) }
    var paths = name.hasPrefix("/") ? [name] : []
    paths += (names + ["vision_tower"]).map { "\(model)/\($0)" }
    paths += ["..", "../.."].flatMap { up in names.map { "\(model)/\(up)/\($0)" } }
    // `..` is the parent of the directory that a link leads to; a parent by name is that of the link.
    let link = URL(filePath: model, directoryHint: .isDirectory).standardizedFileURL
    if link.resolvingSymlinksInPath().path != link.path {
      let parents = [link.deletingLastPathComponent(), link.deletingLastPathComponent().deletingLastPathComponent()]
      paths += parents.flatMap { parent in names.map { parent.appending(path: $0).path(percentEncoded: false) } }
    }
    if !isAbsolute {
      let snapshots = "\(model)/../../../models--\(name.replacing("/", with: "--"))/snapshots"
      let revisions = (try? FileManager.default.contentsOfDirectory(atPath: snapshots)) ?? []
      paths += revisions.sorted().prefix(4).map { "\(snapshots)/\($0)" }
    }
    return paths
  }

  /// The last part of a name or path; that of a snapshot in the cache of the hub is the model's name.
  private static func lastPart(of name: String) -> String {
    let parts = name.split { $0 == "/" || $0 == "\\" }.map(String.init)
    if let cached = parts.last(where: { $0.hasPrefix("models--") }) {
      return cached.components(separatedBy: "--").last ?? cached
    }
    return parts.last ?? name
  }
}
