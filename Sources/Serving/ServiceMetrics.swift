package import BatchInference
import LLaVA
import PDrop
package import Synchronization

/// The counters and histograms of a service.
package final class ServiceMetrics: Sendable {
  package let promptTokens = Counter()
  package let cachedTokens = Counter()
  package let generatedTokens = Counter()
  package let imageTokens = Counter()
  /// Visual tokens that remained after the last drop.
  package let keptImageTokens = Counter()
  package let cancelled = Counter()
  package let savedFlops = Counter()
  package let prefillFlops = Counter()
  /// Visual tokens by stage, from the first.
  package let stageTokens = Mutex<[Int]>([])
  /// Requests by the reason for the end of their first answer, or `error`.
  package let finished = Mutex<[String: Int]>([:])
  /// Seconds of the vision encoder, of prefills and of decoding.
  package let phaseSeconds = Mutex<PhaseSeconds>(PhaseSeconds())
  /// Counts of the engine.
  package let engine = Mutex(EngineStatistics())

  package let firstTokenSeconds = Histogram(Histogram.requestSeconds)
  package let interTokenSeconds = Histogram(Histogram.tokenSeconds)
  package let requestSeconds = Histogram(Histogram.requestSeconds)
  package let queueSeconds = Histogram(Histogram.requestSeconds)
  package let prefillSeconds = Histogram(Histogram.requestSeconds)
  package let decodeSeconds = Histogram(Histogram.requestSeconds)
  package let requestPromptTokens = Histogram(Histogram.tokens)
  package let requestGeneratedTokens = Histogram(Histogram.tokens)

  package struct PhaseSeconds: Sendable {
    package var visionEncoder = 0.0
    package var prefill = 0.0
    package var decode = 0.0
  }

  func add(_ prefill: FinishedPrefill) {
    let report = prefill.request.report
    promptTokens.add(report.sequenceLength)
    cachedTokens.add(prefill.cachedTokens)
    let images = prefill.request.images.reduce(0) { $0 + $1.tokenCount }
    imageTokens.add(images)
    let entering = prefill.request.visualTokenCounts.reduce(0, +)
    let kept = [entering] + prefill.drops.map { $0.images.reduce(0) { $0 + $1.kept.count } }
    keptImageTokens.add(kept[kept.count - 1])
    guard images > 0 else { return }
    stageTokens.withLock { tokens in
      while tokens.count < kept.count { tokens.append(0) }
      for (stage, count) in kept.enumerated() { tokens[stage] += count }
    }
  }

  func add(_ result: Result<RunReport, RecordFailure>, seconds: Double) {
    requestSeconds.observe(seconds)
    guard case .success(let report) = result else {
      finished.withLock { $0["error", default: 0] += 1 }
      return
    }
    finished.withLock { $0[report.finishReason?.rawValue ?? "error", default: 0] += 1 }
    requestPromptTokens.observe(Double(report.sequenceLength))
    requestGeneratedTokens.observe(Double(report.generatedTokenCount))
    decodeSeconds.observe(report.timings.decode / 1e3)
    let prefill = report.flops.prefill + report.flops.rank
    prefillFlops.add(prefill)
    savedFlops.add(max(0, report.baselineFlops - prefill))
    phaseSeconds.withLock {
      $0.visionEncoder += (report.timings.encode + report.timings.project) / 1e3
      $0.prefill += (report.timings.prefill + report.timings.rank) / 1e3
      $0.decode += report.timings.decode / 1e3
    }
  }
}

/// A number that only grows.
package final class Counter: Sendable {
  private let count = Atomic(0)

  package func add(_ number: Int) { count.wrappingAdd(number, ordering: .relaxed) }
  package var value: Int { count.load(ordering: .relaxed) }
}

/// A histogram of Prometheus: cumulative counts of values up to each bound.
package final class Histogram: Sendable {
  package struct Values: Sendable {
    /// Counts of the values up to each bound, and of all.
    package var counts: [Int]
    package var sum = 0.0
  }

  package let bounds: [Double]
  private let values: Mutex<Values>

  static let requestSeconds = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640]
  static let tokenSeconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
  static let tokens = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].map(Double.init)

  /// - Parameter bounds: Ascending.
  init(_ bounds: [Double]) {
    self.bounds = bounds
    values = Mutex(Values(counts: Array(repeating: 0, count: bounds.count + 1)))
  }

  func observe(_ value: Double) {
    values.withLock { values in
      for (index, bound) in bounds.enumerated() where value <= bound { values.counts[index] += 1 }
      values.counts[bounds.count] += 1
      values.sum += value
    }
  }

  package var snapshot: Values { values.withLock { $0 } }
}
