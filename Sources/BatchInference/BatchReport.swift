public import PDrop

/// Results and costs of a batch; its JSON form is the file of `--report`.
public struct BatchReport: Encodable, Sendable {
  /// Seconds by phase, summed over the records; `wall` is from the first record to the last.
  public struct Seconds: Encodable, Sendable {
    public var load: Double
    public var wall: Double
    public var decodeImage: Double
    public var preprocess: Double
    public var encode: Double
    public var project: Double
    public var prefill: Double
    public var rank: Double
    public var decode: Double

    enum CodingKeys: String, CodingKey {
      case load, wall, preprocess, encode, project, prefill, rank, decode
      case decodeImage = "decode_image"
    }
  }

  /// Images of all records, and those of them that had to be encoded.
  public struct Images: Encodable, Sendable {
    public var requested: Int
    public var encoded: Int
  }

  public struct Tokens: Encodable, Sendable {
    public var prompt: Int
    public var generated: Int
  }

  public var model: String
  public var policy: RunReport.Policy
  public var precision: String
  public var threads: Int
  public var records: Int
  public var answered: Int
  /// Counts by class.
  public var failed: [String: Int]
  /// Records that an earlier run had answered, those with an error included.
  public var resumed: Int
  /// Errors among the answers of earlier runs.
  public var failedBefore: Int
  /// Whether the run was stopped before the end of its input.
  public var stopped: Bool
  public var seconds: Seconds
  public var tokens: Tokens
  /// Generated tokens.
  public var tokensPerSecond: Double
  public var recordsPerHour: Double
  /// Summed over the records, each as if it had been alone.
  public var flops: RunReport.Flops
  /// Of these operations, those that were not done again, as records share images and how their prompts begin, or as a
  /// feature cache knew an image.
  public var flopsShared: Int
  public var images: Images
  /// Use of the feature cache; left out without one.
  public var featureCache: FeatureCacheStatistics?
  /// Records whose prompt began as another's.
  public var prefixCacheHits: Int
  public var paperFlops: Double
  public var baselineFlops: Int
  /// Of the operations of the prompts in the language model, which share dropping has saved.
  public var flopsPrefillSaved: Double
  public var peakResidentBytes: Int

  enum CodingKeys: String, CodingKey {
    case model, policy, precision, threads, records, answered, failed, stopped, seconds, tokens, flops, images
    case resumed
    case failedBefore = "failed_before"
    case tokensPerSecond = "tokens_per_second"
    case recordsPerHour = "records_per_hour"
    case flopsShared = "flops_shared"
    case featureCache = "feature_cache"
    case prefixCacheHits = "prefix_cache_hits"
    case paperFlops = "flops_paper"
    case baselineFlops = "flops_prefill_without_dropping"
    case flopsPrefillSaved = "flops_prefill_saved"
    case peakResidentBytes = "peak_rss_bytes"
  }
}

extension BatchReport {
  init(_ tally: BatchTally, _ run: BatchRunDescription, wall: Duration, stopped: Bool, peakResidentBytes: Int) {
    let (time, wall) = (tally.timings, wall.milliseconds / 1e3)
    func rate(_ count: Int) -> Double { wall > 0 ? Double(count) / wall : 0 }
    self.init(
      model: run.model, policy: run.policy, precision: run.precision, threads: run.threads,
      records: tally.recordCount, answered: tally.answered,
      failed: Dictionary(uniqueKeysWithValues: tally.failed.map { ($0.key.rawValue, $0.value) }),
      resumed: tally.resumedCount, failedBefore: tally.failedBefore, stopped: stopped,
      seconds: Seconds(
        load: run.load.milliseconds / 1e3, wall: wall, decodeImage: time.decodeImage / 1e3,
        preprocess: time.preprocess / 1e3, encode: time.encode / 1e3, project: time.project / 1e3,
        prefill: time.prefill / 1e3, rank: time.rank / 1e3, decode: time.decode / 1e3),
      tokens: Tokens(prompt: tally.promptTokens, generated: tally.generatedTokens),
      tokensPerSecond: rate(tally.generatedTokens), recordsPerHour: 3600 * rate(tally.recordCount),
      flops: tally.flops, flopsShared: tally.reuse.flops,
      images: Images(requested: tally.reuse.imagesRequested, encoded: tally.reuse.imagesEncoded),
      featureCache: run.featureCache(), prefixCacheHits: tally.reuse.prefixCacheHits,
      paperFlops: tally.paperFlops,
      baselineFlops: tally.baselineFlops,
      flopsPrefillSaved: tally.savedFraction, peakResidentBytes: peakResidentBytes)
  }
}

/// The model, policy and settings of a batch, for its report.
package struct BatchRunDescription: Sendable {
  package var model: String
  package var policy: RunReport.Policy
  package var precision: String
  package var threads: Int
  package var load = Duration.zero
  /// Use of the model's feature cache so far.
  package var featureCache: @Sendable () -> FeatureCacheStatistics? = { nil }

  package init(model: String, policy: RunReport.Policy, precision: String, threads: Int) {
    self.model = model
    self.policy = policy
    self.precision = precision
    self.threads = threads
  }

  /// A model that answers by a policy.
  package init(_ model: VisionLanguageModel, _ base: Request, threads: Int) throws {
    self.init(
      model: model.name, policy: try RunReport.Policy(base.policy, layerCount: model.layerCount),
      precision: model.precision.name, threads: threads)
    load = model.loadTime
    featureCache = { [cache = model.featureCache] in cache?.report }
  }
}

/// Counts and costs of a batch so far.
public struct BatchTally: Sendable {
  public private(set) var answered = 0
  public private(set) var failed: [RecordFailure.Reason: Int] = [:]
  /// Records that an earlier run has answered.
  public internal(set) var resumedCount = 0
  /// Errors among the answers of earlier runs.
  public internal(set) var failedBefore = 0
  public private(set) var promptTokens = 0
  public private(set) var generatedTokens = 0
  /// Summed over the records; loading is none's.
  public private(set) var timings = RunReport.Timings()
  public private(set) var flops = RunReport.Flops()
  public private(set) var paperFlops = 0.0
  public private(set) var baselineFlops = 0

  /// Work that records shared.
  package internal(set) var reuse = ReuseStatistics()

  public var failedCount: Int { failed.values.reduce(0, +) }
  public var recordCount: Int { answered + failedCount }

  /// The share of the prompts' operations in the language model that dropping has saved, ranking paid.
  public var savedFraction: Double {
    baselineFlops == 0 ? 0 : 1 - Double(flops.prefill + flops.rank) / Double(baselineFlops)
  }

  public init() {}

  mutating func add(_ outcome: Result<RunReport, RecordFailure>) {
    switch outcome {
    case .failure(let failure): failed[failure.reason, default: 0] += 1
    case .success(let report):
      answered += 1
      promptTokens += report.sequenceLength
      generatedTokens += report.tokens.count
      timings += report.timings
      flops += report.flops
      paperFlops += report.paperFlops
      baselineFlops += report.baselineFlops
    }
  }
}
