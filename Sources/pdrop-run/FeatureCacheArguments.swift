import ArgumentParser
import CommandLineOptions
import PDrop

/// Where encoded pictures are kept for later runs.
struct FeatureCacheArguments: ParsableArguments {
  @Option(
    name: .customLong("feature-cache"),
    help: "Folder that keeps encoded pictures, so that one asked about again is not encoded again; runs may share it.")
  var directory: String?

  @Option(
    name: .customLong("feature-cache-size"),
    help: "Most that --feature-cache may take; what was not used for the longest time goes. (default: 10GiB)")
  var size: ByteCount?

  func validate() throws {
    guard directory.map({ !$0.isEmpty }) ?? true else { throw ValidationError("--feature-cache names no folder") }
    guard size == nil || directory != nil else {
      throw ValidationError("--feature-cache-size goes with --feature-cache; give its folder")
    }
  }

  /// `nil` where no folder is given.
  var options: FeatureCacheOptions? {
    directory.map {
      FeatureCacheOptions(
        directory: $0, byteLimit: size?.bytes ?? FeatureCacheOptions.defaultByteLimit, warn: Log.warning)
    }
  }
}
