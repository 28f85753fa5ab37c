package import ArgumentParser
package import PDrop

/// Options of the caches between runs: of encoded images and of prefilled prompts.
package struct CacheArguments: ParsableArguments {
  @Option(
    name: .customLong("feature-cache"),
    help: "Folder that caches encoded images between runs; concurrent runs may share it.")
  package var features: String?

  @Option(
    name: .customLong("feature-cache-size"),
    help: "Maximum size of --feature-cache; least recently used images are removed. (default: 10GiB)")
  package var featuresSize: ByteCount?

  @Option(
    name: .customLong("prompt-cache"),
    help: "Folder that caches prefilled prompts between runs; concurrent runs may share it.")
  package var prompts: String?

  @Option(
    name: .customLong("prompt-cache-size"),
    help: "Maximum size of --prompt-cache; least recently used prompts are removed. (default: 10GiB)")
  package var promptsSize: ByteCount?

  package init() {}

  package func validate() throws {
    for (name, folder, size) in [
      ("--feature-cache", features, featuresSize), ("--prompt-cache", prompts, promptsSize),
    ] {
      guard folder.map({ !$0.isEmpty }) ?? true else { throw ValidationError("\(name) is empty; give a folder") }
      guard size == nil || folder != nil else { throw ValidationError("\(name)-size requires \(name)") }
    }
  }

  /// The options of the feature cache; `nil` without a folder.
  package var featureCache: FeatureCacheOptions? {
    features.map {
      FeatureCacheOptions(
        directory: $0, byteLimit: featuresSize?.bytes ?? FeatureCacheOptions.defaultByteLimit, warn: Log.warning)
    }
  }

  /// The options of the prompt cache; `nil` without a folder.
  package var promptCache: PromptCacheOptions? {
    prompts.map {
      PromptCacheOptions(
        directory: $0, byteLimit: promptsSize?.bytes ?? PromptCacheOptions.defaultByteLimit, warn: Log.warning)
    }
  }
}
