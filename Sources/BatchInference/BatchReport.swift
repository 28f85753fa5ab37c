public import PDrop
package import TokenDropping

/// Results and costs of a batch run: the JSON of `pdrop-run --report`.
public struct BatchReport: Encodable, Sendable {
  /// Seconds by phase, summed over the records; `wall` is the time from the first record to the last.
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

  /// Counts of images.
  public struct Images: Encodable, Sendable {
    /// Images of all records.
    public var requested: Int
    /// Images that were encoded; the others were shared by records, or in the feature cache or the prompt cache.
    public var encoded: Int
  }

  /// Counts of tokens, summed over the records.
  public struct Tokens: Encodable, Sendable {
    /// Tokens of the prompts, images included.
    public var prompt: Int
    /// Generated tokens, without EOS tokens.
    public var generated: Int
  }

  public var model: String
  public var policy: RunReport.Policy
  /// Compute type of the decoder.
  public var precision: String
  public var threads: Int
  /// Records of this run, failed ones included.
  public var records: Int
  /// Records without an error.
  public var answered: Int
  /// Failed records by `RecordFailure.Reason`.
  public var failed: [String: Int]
  /// Records that earlier runs had answered, those with an error included.
  public var resumed: Int
  /// Answers of earlier runs with an error.
  public var failedBefore: Int
  /// Whether the run was stopped before the end of its input.
  public var stopped: Bool
  public var seconds: Seconds
  public var tokens: Tokens
  /// Generated tokens per second of wall time.
  public var tokensPerSecond: Double
  /// Records per hour of wall time.
  public var recordsPerHour: Double
  /// Operations summed over the records, each as if it were alone.
  public var flops: RunReport.Flops
  /// Operations of these that were not repeated, because of shared images and the caches.
  public var flopsShared: Int
  public var images: Images
  /// Counts of the feature cache; `nil` without one.
  public var featureCache: FeatureCacheStatistics?
  /// Counts of the prompt cache; `nil` without one.
  public var promptCache: PromptCacheStatistics?
  /// Records whose prompt prefix was in the prefix cache.
  public var prefixCacheHits: Int
  /// Counts of speculative decoding; `nil` if no token was drafted.
  public var speculation: SpeculationStatistics?
  /// Cost of the visual tokens by the paper's formula, which counts a multiply-add as one, summed over the records.
  public var paperFlops: Double
  /// Operations of the decoder's prefill without dropping, by the closed formula, summed over the records.
  public var baselineFlops: Int
  /// Fraction of `baselineFlops` that dropping saved, with ranking counted as a cost.
  public var flopsPrefillSaved: Double
  /// Peak RSS of the process.
  public var peakResidentBytes: Int

  enum CodingKeys: String, CodingKey {
    case model, policy, precision, threads, records, answered, failed, stopped, seconds, tokens, flops, images
    case resumed, speculation
    case failedBefore = "failed_before"
    case tokensPerSecond = "tokens_per_second"
    case recordsPerHour = "records_per_hour"
    case flopsShared = "flops_shared"
    case featureCache = "feature_cache"
    case promptCache = "prompt_cache"
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
      featureCache: run.featureCache(), promptCache: run.promptCache(),
      prefixCacheHits: tally.reuse.prefixCacheHits,
      speculation: tally.speculation.drafted > 0 ? tally.speculation : nil,
      paperFlops: tally.paperFlops,
      baselineFlops: tally.baselineFlops,
      flopsPrefillSaved: tally.savedFraction, peakResidentBytes: peakResidentBytes)
  }
}

/// The description of a run in its report: model, policy, precision and threads.
package struct BatchRunDescription: Sendable {
  package var model: String
  package var policy: RunReport.Policy
  package var precision: String
  package var threads: Int
  package var load = Duration.zero
  /// The current counts of the model's feature cache.
  package var featureCache: @Sendable () -> FeatureCacheStatistics? = { nil }
  /// The current counts of the model's prompt cache.
  package var promptCache: @Sendable () -> PromptCacheStatistics? = { nil }

  package init(model: String, policy: RunReport.Policy, precision: String, threads: Int) {
    self.model = model
    self.policy = policy
    self.precision = precision
    self.threads = threads
  }

  /// A run of a model with the policy of a request.
  ///
  /// - Throws: `DropPolicyError` for a policy that does not fit the model.
  package init(_ model: VisionLanguageModel, _ base: Request, threads: Int) throws(DropPolicyError) {
    self.init(
      model: model.name, policy: try RunReport.Policy(base.policy, layerCount: model.layerCount),
      precision: model.precision.name, threads: threads)
    load = model.loadTime
    featureCache = { [cache = model.featureCache] in cache?.report }
    promptCache = { [cache = model.promptCache] in cache?.report }
  }
}

/// Counts and costs of a batch so far.
public struct BatchTally: Sendable {
  /// Records without an error.
  public private(set) var answered = 0
  /// Failed records by reason.
  public private(set) var failed: [RecordFailure.Reason: Int] = [:]
  /// Records that earlier runs had answered.
  public internal(set) var resumedCount = 0
  /// Answers of earlier runs with an error.
  public internal(set) var failedBefore = 0
  /// Tokens of the prompts, images included.
  public private(set) var promptTokens = 0
  /// Generated tokens, without EOS tokens.
  public private(set) var generatedTokens = 0
  /// Milliseconds summed over the records, without loading.
  public private(set) var timings = RunReport.Timings()
  /// Operations summed over the records, each as if it were alone.
  public private(set) var flops = RunReport.Flops()
  /// Cost of the visual tokens by the paper's formula, summed over the records.
  public private(set) var paperFlops = 0.0
  /// Operations of the decoder's prefill without dropping, summed over the records.
  public private(set) var baselineFlops = 0

  /// Work that records shared.
  var statistics = EngineStatistics()
  package var reuse: ReuseStatistics { statistics.reuse }
  /// Counts of speculative decoding.
  public var speculation: SpeculationStatistics { statistics.speculation }

  /// Failed records.
  public var failedCount: Int { failed.values.reduce(0, +) }
  /// Answered and failed records of this run.
  public var recordCount: Int { answered + failedCount }

  /// Fraction of `baselineFlops` that dropping saved, 0 to 1, with ranking counted as a cost.
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
      generatedTokens += report.generatedTokenCount
      timings += report.timings
      flops += report.flops
      paperFlops += report.paperFlops
      baselineFlops += report.baselineFlops
    }
  }
}
