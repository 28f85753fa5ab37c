import CommandLineOptions
import Foundation
import PDrop

/// What a batch would take, for people.
enum EstimateText {
  static func lines(_ estimate: BatchEstimate, recordCount: Int) -> [String] {
    var lines = [
      "memory, of \(gibibytes(estimate.limitBytes)) allowed, for records like the first:",
      "  weights            \(gibibytes(estimate.weightBytes))",
      "  program            \(gibibytes(estimate.programBytes))",
      "  known pictures     \(gibibytes(estimate.pictureBytes))",
      "  to compute         \(gibibytes(estimate.workingBytes))",
      "  keys and values    \(gibibytes(estimate.cacheBytes)) a record of \(estimate.promptTokens) tokens and "
        + "\(estimate.tokenLimit) more",
    ]
    for stage in estimate.stages {
      lines.append(
        "    layers \(stage.layers.lowerBound) to \(stage.layers.upperBound): \(gibibytes(stage.bytes)), "
          + "\(stage.positions) positions behind the prompt")
    }
    lines.append("  at its peak        \(gibibytes(estimate.peakBytes)), \(estimate.recordsAtATime) records at a time")
    lines.append(
      String(
        format: "time, measured: pictures %.2f s, prompt %.2f s, a token of %d records %.3f s",
        estimate.pictureSeconds, estimate.promptSeconds, estimate.recordsAtATime, estimate.stepSeconds))
    lines.append(
      String(
        format: "  at most %.1f s a record, %.0f s for %@; less where answers are short or pictures come again",
        estimate.secondsPerRecord, Double(recordCount) * estimate.secondsPerRecord,
        BatchSummary.count(recordCount, "record")))
    return lines
  }

  private static func gibibytes(_ bytes: Int) -> String { String(format: "%7.3f GiB", Double(bytes) / 0x1p30) }
}
