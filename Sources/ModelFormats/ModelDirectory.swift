/// A LLaVA directory of either published layout, opened: what its files say, and where its weights lie.
package struct ModelDirectory {
  package let path: String
  package let configuration: LLaVAConfiguration
  package let checkpoint: Checkpoint
  package let tower: VisionTower

  /// - Parameters:
  ///   - path: The model's directory.
  ///   - visionTower: A CLIP directory for an original checkpoint that does not bring its tower along; `nil` to look for it.
  /// - Throws: `CheckpointError` naming the file and key, what was expected and what was found.
  package init(_ path: String, visionTower: String? = nil) throws(CheckpointError) {
    self.path = path
    let configurationPath = path + "/config.json"
    let original = try JSONFile.read(OriginalConfigurationFile.self, at: configurationPath)
    if original.isOriginal {
      let check = ValueCheck(file: configurationPath)
      // A kind of model that is not LLaVA's is named before its weights are looked for.
      _ = try original.textKind(check)
      checkpoint = try Checkpoint(directory: path)
      tower = try VisionTower(of: original, in: checkpoint, given: visionTower, check)
      configuration = try original.checked(
        JSONFile.read(TextSection.self, at: configurationPath), vision: tower.configuration, check)
    } else {
      configuration = try LLaVAConfiguration(directory: path)
      if let visionTower { throw .unneededTower(directory: path, given: visionTower) }
      checkpoint = try Checkpoint(directory: path)
      tower = VisionTower(ownWeights: configuration.vision)
    }
  }

  /// How pictures are prepared, where the model's directory or its tower's says.
  package func preprocessor() throws(CheckpointError) -> PreprocessorConfiguration? {
    if let own = try Self.preprocessor(in: path) { return own }
    return try tower.directory.map(Self.preprocessor(in:)) ?? nil
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
  package func endTokens() throws(CheckpointError) -> Set<Int>? {
    struct File: Decodable {
      var eos_token_id: TokenList?
    }
    let file = try JSONFile.readIfPresent(File.self, at: path + "/generation_config.json")
    return file?.eos_token_id?.tokens ?? configuration.endTokens
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
