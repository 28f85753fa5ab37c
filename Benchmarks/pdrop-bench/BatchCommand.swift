import ArgumentParser
import BatchInference
import CommandLineSupport
import Foundation
import PDrop
import Reports
import TokenDropping

/// `pdrop-bench batch`: a file of questions, answered so many at a time.
struct BatchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "batch",
    abstract: "Measures a file of questions by policy and by how many are answered at a time: throughput and memory.")

  @OptionGroup(title: "Model") var modelOptions: ModelSourceOptions

  @Option(help: "Questions, a JSON object a line, as of pdrop-run.")
  var input: String

  @Option(name: .customLong("image-folder"), help: "Folder of the images that the questions name.")
  var imageFolder: String?

  @Option(help: "Policies to compare.")
  var policy = NameList<PolicyName>([.none, .pyramiddrop])

  @OptionGroup(title: "Dropping") var policyOptions: PolicyOptions

  @Option(name: [.customShort("b"), .customLong("batch-size")], help: "How many records at a time, one or several.")
  var batchSizes = NumberList<Int>([1, 4, 16])

  @Option(name: [.customShort("n"), .customLong("n-gen")], help: "Tokens of each answer.")
  var generatedTokens = 64

  @Option(name: [.short, .long], help: "Threads to compute on. (default: all cores)")
  var threads: Int?

  @Option(name: [.short, .long], help: "Form of the table.")
  var output = TableFormat.md

  func validate() throws {
    guard generatedTokens >= 1 else { throw ValidationError("--n-gen must be at least 1, found \(generatedTokens)") }
    guard batchSizes.numbers.allSatisfy((1...EngineOptions.maxBatchSize).contains) else {
      throw ValidationError("--batch-size must be 1 to \(EngineOptions.maxBatchSize), found \(batchSizes.numbers)")
    }
  }

  func run() throws {
    let threads = threads ?? ProcessInfo.processInfo.activeProcessorCount
    var records: [TableRow] = []
    for source in try modelOptions.sources() {
      for precision in modelOptions.precision.names {
        let model = try modelOptions.load(source, precision, threads: threads)
        for name in policy.names {
          let policy = model.timed(try policyOptions.forPolicy(name).policy(name, seed: 0), threads: threads)
          for batchSize in batchSizes.numbers {
            let options = EngineOptions(threads: threads, batchSize: batchSize)
            records.append(try measure(model, policy, options))
          }
        }
      }
    }
    try Output().write(output.rendered(records, name: "pdrop_bench_batch"))
  }

  /// Answers all questions once.
  private func measure(
    _ model: VisionLanguageModel, _ policy: any TokenDroppingPolicy, _ options: EngineOptions
  ) throws -> TableRow {
    var base = Request(prompt: .messages([]), policy: policy)
    base.options.maxTokens = generatedTokens
    base.options.ignoresEOS = true
    var batchOptions = Batch.Options(input: .lines(path: input, folder: imageFolder))
    batchOptions.output = "/dev/null"
    let batch = try Batch(batchOptions)
    let preview = try batch.preview(like: base)
    let planned = try model.estimate(
      preview.requests, recordCount: preview.recordCount, options, measures: false)?.peakBytes
    PeakResident.reset()
    let description = try BatchRunDescription(model, base, threads: options.threads)
    let report = try Batch(batchOptions).run(like: base, by: description, engine: model.batchEngine(options))
    let peak = PeakResident.bytes ?? report.peakResidentBytes
    return TableRow([
      Field("model", .text(model.name), heading: "model"),
      Field("precision", .text(model.precision.name), heading: "precision"),
      Field("policy", .text(policy.name), heading: "policy"),
      Field("batch_size", .integer(options.batchSize), heading: "at a time"),
      Field("records", .integer(report.answered), heading: "records"),
      Field("seconds", report.seconds.wall, heading: "s", decimals: 1),
      Field("seconds_tower", report.seconds.encode + report.seconds.project, heading: "vision encoder s", decimals: 1),
      Field("seconds_prompts", report.seconds.prefill + report.seconds.rank, heading: "prompts s", decimals: 1),
      Field("seconds_decoding", report.seconds.decode, heading: "decoding s", decimals: 1),
      Field("tokens_per_second", report.tokensPerSecond, heading: "tokens/s", decimals: 2),
      Field("records_per_hour", report.recordsPerHour, heading: "records/h", decimals: 0),
      Field("peak_rss_gib", Double(peak) / 0x1p30, heading: "peak GiB", decimals: 2),
      Field("planned_gib", planned.map { Double($0) / 0x1p30 }, heading: "planned GiB", decimals: 2),
      Field("pictures_encoded", .integer(report.images.encoded), heading: "images encoded"),
      Field("prefix_cache_hits", .integer(report.prefixCacheHits), heading: "prefix cache hits"),
    ])
  }
}

/// The most memory since the last reset, where the system keeps count of it by that.
private enum PeakResident {
  static func reset() { try? Data("5".utf8).write(to: URL(filePath: "/proc/self/clear_refs")) }

  static var bytes: Int? {
    let text = FileManager.default.contents(atPath: "/proc/self/status").map { String(decoding: $0, as: UTF8.self) }
    let line = text?.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
    return line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) }.map { $0 << 10 }
  }
}
