package import ArgumentParser
package import PDrop

/// How many records are answered together, in how much memory, and how their progress is shown.
package struct EngineArguments: ParsableArguments {
  @Option(help: "Progress on stderr: auto, a bar on a terminal; plain, a line every 30 seconds; none.")
  package var progress = ProgressStyle.auto

  @Option(
    name: [.customShort("b"), .customLong("batch-size")],
    help: "Most records to answer together, 1 to 16; answers do not depend on it. (default: as many as fit)")
  package var batchSize: Int?

  @Option(help: "Memory for all that the program holds, such as 16GiB. (default: most of what is free)")
  package var ram: ByteCount?

  package init() {}

  package func validate() throws {
    guard batchSize.map({ (1...EngineOptions.largestBatchSize).contains($0) }) ?? true else {
      throw ValidationError("--batch-size must be 1 to \(EngineOptions.largestBatchSize), found \(batchSize ?? 0)")
    }
  }

  /// How the records are answered.
  package func engine(threads: Int) -> EngineOptions {
    var options = EngineOptions(threads: threads)
    if let batchSize { options.batchSize = batchSize }
    options.memoryLimit = ram?.bytes
    return options
  }
}
