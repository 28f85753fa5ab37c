/// What a batch has done so far, and what it cost.
public struct BatchTally: Sendable {
  public private(set) var answered = 0
  public private(set) var failed: [RecordFailure.Reason: Int] = [:]
  /// Records that an earlier run has answered.
  public internal(set) var answeredBefore = 0
  /// Those among the answers of earlier runs that are errors.
  public internal(set) var failedBefore = 0
  public private(set) var promptTokens = 0
  public private(set) var generatedTokens = 0
  /// Summed over the records; loading is none's.
  public private(set) var milliseconds = RunReport.Timings()
  public private(set) var flops = RunReport.Flops()
  public private(set) var paperFlops = 0.0
  public private(set) var flopsWithoutDropping = 0

  /// What was asked for more than once and computed once.
  package internal(set) var sharing = BatchSharing()

  public var failedCount: Int { failed.values.reduce(0, +) }
  public var recordCount: Int { answered + failedCount }

  /// The share of the prompts' operations in the language model that dropping has saved, ranking paid.
  public var savedShare: Double {
    flopsWithoutDropping == 0 ? 0 : 1 - Double(flops.prefill + flops.rank) / Double(flopsWithoutDropping)
  }

  public init() {}

  mutating func add(_ outcome: Result<RunReport, RecordFailure>) {
    switch outcome {
    case .failure(let failure): failed[failure.reason, default: 0] += 1
    case .success(let report):
      answered += 1
      promptTokens += report.sequenceLength
      generatedTokens += report.tokens.count
      milliseconds += report.milliseconds
      flops += report.flops
      paperFlops += report.paperFlops
      flopsWithoutDropping += report.flopsWithoutDropping
    }
  }
}

extension RunReport.Timings {
  static func += (sum: inout Self, time: Self) {
    sum.decodeImage += time.decodeImage
    sum.preprocess += time.preprocess
    sum.encode += time.encode
    sum.project += time.project
    sum.prefill += time.prefill
    sum.rank += time.rank
    sum.decode += time.decode
    sum.total += time.total
  }
}

extension RunReport.Flops {
  static func += (sum: inout Self, flops: Self) {
    sum.encode += flops.encode
    sum.project += flops.project
    sum.prefill += flops.prefill
    sum.rank += flops.rank
    sum.decode += flops.decode
    sum.head += flops.head
  }
}

extension RunReport.Flops {
  static func - (left: Self, right: Self) -> Self {
    Self(
      encode: left.encode - right.encode, project: left.project - right.project, prefill: left.prefill - right.prefill,
      rank: left.rank - right.rank, decode: left.decode - right.decode, head: left.head - right.head)
  }
}
