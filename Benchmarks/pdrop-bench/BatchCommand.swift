import ArgumentParser
import BatchInference
import CommandLineSupport
import Foundation
import PDrop
import Reports
import TokenDropping

/// `pdrop-bench batch`: throughput and memory of batch inference by policy and batch size.
struct BatchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "batch",
    abstract: "Measures throughput and memory of batch inference over a file of questions, by policy and batch size.")

  @OptionGroup(title: "Model") var modelOptions: ModelSourceOptions

  @Option(help: "Questions as for pdrop-run, one JSON object per line.")
  var input: String

  @Option(name: .customLong("image-folder"), help: "Folder of the images.")
  var imageFolder: String?

  @Option(help: "Policies to compare.")
  var policy = NameList<PolicyName>([.none, .pyramiddrop])

  @OptionGroup(title: "Dropping") var policyOptions: PolicyOptions

  @Option(name: [.customShort("b"), .customLong("batch-size")], help: "Maximum batch sizes to compare, 1 to 16.")
  var batchSizes = NumberList<Int>([1, 4, 16])

  @Option(name: [.customShort("n"), .customLong("n-gen")], help: "Number of tokens of each answer.")
  var generatedTokens = 64

  @Option(name: [.short, .long], help: "Threads to compute on. (default: all cores)")
  var threads: Int?

  @Option(name: [.short, .long], help: "Output format.")
  var output = TableFormat.md

  func validate() throws {
    try checkRange("--n-gen", generatedTokens, 1...1 << 20)
    guard batchSizes.numbers.allSatisfy((1...EngineOptions.maxBatchSize).contains) else {
      throw ValidationError("--batch-size must be 1 to \(EngineOptions.maxBatchSize), found \(batchSizes.numbers)")
    }
  }

  func run() throws {
    let threads = ThreadCount(requested: threads).count
    var rows: [TableRow] = []
    var someFailed = false
    for source in try modelOptions.sources() {
      for precision in modelOptions.precision.names {
        let model = try modelOptions.load(source, precision, threads: threads)
        for policy in try policyOptions.policies(policy.names, seed: 0).map(\.policy) {
          let policy = model.timed(policy, threads: threads)
          for batchSize in batchSizes.numbers {
            let options = EngineOptions(threads: threads, batchSize: batchSize)
            // The same records fail in each run; they are named once.
            let observer = rows.isEmpty ? ProgressDisplay(.none, recordName: "line") : nil
            let (row, isComplete) = try measure(model, policy, options, observer)
            someFailed = someFailed || !isComplete
            rows.append(row)
          }
        }
      }
    }
    try Output().write(output.rendered(rows, name: "pdrop_bench_batch"))
    if someFailed { throw ExitCode(ExitStatus.someFailed.rawValue) }
  }

  /// Runs the batch once. Without an answer to each record, it is not complete.
  private func measure(
    _ model: VisionLanguageModel, _ policy: any TokenDroppingPolicy, _ options: EngineOptions,
    _ observer: (any BatchObserver)?
  ) throws -> (row: TableRow, isComplete: Bool) {
    var base = Request(prompt: .messages([]), policy: policy)
    base.options.maxTokens = generatedTokens
    base.options.ignoresEOS = true
    var batchOptions = Batch.Options(input: .lines(path: input, folder: imageFolder))
    batchOptions.output = "/dev/null"
    let batch = try Batch(batchOptions)
    let preview = try batch.preview(like: base)
    let planned = try model.estimate(
      preview.requests, recordCount: preview.recordCount, options, measures: false)?.peakBytes
    resetPeakMemory()
    let report = try Batch(batchOptions).run(model, like: base, engine: options, observer: observer)
    let row = TableRow([
      Field("model", .text(model.name), heading: "model"),
      Field("precision", .text(model.precision.name), heading: "precision"),
      Field("policy", .text(policy.name), heading: "policy"),
      Field("batch_size", .integer(options.batchSize), heading: "batch size"),
      Field("records", .integer(report.answered), heading: "records"),
      Field("seconds", report.seconds.wall, heading: "s", decimals: 1),
      Field(
        "seconds_vision_encoder", report.seconds.encode + report.seconds.project, heading: "vision encoder s",
        decimals: 1),
      Field("seconds_prefill", report.seconds.prefill + report.seconds.rank, heading: "prefill s", decimals: 1),
      Field("seconds_decode", report.seconds.decode, heading: "decode s", decimals: 1),
      Field("tokens_per_second", report.tokensPerSecond, heading: "tokens/s", decimals: 2),
      Field("records_per_hour", report.recordsPerHour, heading: "records/h", decimals: 0),
      Field("peak_rss_gib", Double(report.peakResidentBytes) / 0x1p30, heading: "peak RSS GiB", decimals: 2),
      Field("planned_gib", planned.map { Double($0) / 0x1p30 }, heading: "planned GiB", decimals: 2),
      Field("images_encoded", .integer(report.images.encoded), heading: "images encoded"),
      Field("prefix_cache_hits", .integer(report.prefixCacheHits), heading: "prefix cache hits"),
    ])
    return (row, report.answered == report.records)
  }
}
