import ArgumentParser
import BatchInference
import CommandLineSupport
import Foundation
import PDrop

/// A batch run, from open files to the summary; a record that fails results in an error record.
struct BatchRun {
  var batch: Batch
  var options: BatchOptions

  /// Answers all records.
  ///
  /// Does not return after a stop signal.
  ///
  /// - Throws: `ExitCode` 1 if some records failed, `BatchError` for files.
  func answer(with model: VisionLanguageModel, like base: Request, threads: Int) throws {
    let engine = options.engineArguments.engine(threads: threads)
    if options.dryRun { return try plan(model, like: base, engine) }
    let display = ProgressDisplay(
      options.progressArguments.progress, recordName: options.input == nil ? "image" : "line")
    // Makes an answer file above the file size limit an error, like a full disk.
    _ = signal(SIGXFSZ, SIG_IGN)
    StopSignal.install()
    let report: BatchReport
    do {
      report = try batch.run(
        model, like: base, engine: engine, isStopped: { StopSignal.isRequested }, observer: display)
      display.end()
    } catch {
      display.end()
      throw error
    }
    for line in BatchSummary.lines(report) { Log.write(line) }
    if let path = options.report { try write(report, to: path) }
    if report.stopped {
      Log.write(remedy)
      StopSignal.endProcess()
    }
    if report.answered < report.records || report.failedBefore > 0 { throw ExitCode(ExitStatus.someFailed.rawValue) }
  }

  /// Prints the estimated memory and time of the batch.
  private func plan(_ model: VisionLanguageModel, like base: Request, _ engine: EngineOptions) throws {
    let (requests, count) = try batch.preview(like: base)
    let output = Output()
    guard let estimate = try model.estimate(requests, recordCount: count, engine) else {
      try output.write("\(BatchSummary.count(count, "record")); none of the first can be answered\n")
      return
    }
    for line in EstimateText.lines(estimate, recordCount: count) { try output.write(line + "\n") }
  }

  /// The hint for resuming after a stop.
  private var remedy: String {
    guard let output = options.output, output != "-" else {
      return "stopped; only a run with --output FILE can be resumed, with --resume"
    }
    let change = options.overwrite ? "with --resume instead of --overwrite" : "with --resume"
    return "stopped; to resume after the answers in \(output), run the same command \(change)"
  }

  private func write(_ report: BatchReport, to path: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    try Output.write(encoder.encode(report) + Data("\n".utf8), toFile: path)
  }
}

/// The output of `--dry-run`.
enum EstimateText {
  static func lines(_ estimate: BatchEstimate, recordCount: Int) -> [String] {
    var lines = [
      "memory for records like the first, with a limit of \(gibibytes(estimate.limitBytes)):",
      "  weights         \(padded(estimate.weightBytes))",
      "  program         \(padded(estimate.programBytes))",
      "  image cache     \(padded(estimate.imageBytes))",
      "  working memory  \(padded(estimate.workingBytes))",
      "  KV cache        \(padded(estimate.cacheBytes)) per record, \(estimate.promptTokens) prompt tokens and up to "
        + "\(estimate.maxNewTokens) new tokens",
    ]
    for stage in estimate.stages {
      lines.append(
        "    layers \(stage.layers.lowerBound) to \(stage.layers.upperBound): \(gibibytes(stage.bytes)), "
          + "\(stage.positions) tokens after prefill")
    }
    lines.append("  peak            \(padded(estimate.peakBytes)) at batch size \(estimate.recordsAtATime)")
    lines.append(
      String(
        format: "measured time: images %.2f s, prefill %.2f s, decode step of %d records %.3f s",
        estimate.imageSeconds, estimate.prefillSeconds, estimate.recordsAtATime, estimate.stepSeconds))
    lines.append(
      String(
        format: "  at most %.1f s per record, %.0f s for %@; less with short answers or repeated images",
        estimate.secondsPerRecord, Double(recordCount) * estimate.secondsPerRecord,
        BatchSummary.count(recordCount, "record")))
    return lines
  }

  private static func gibibytes(_ bytes: Int) -> String { String(format: "%.3f GiB", Double(bytes) / 0x1p30) }

  /// Aligned in a column of up to 999 GiB.
  private static func padded(_ bytes: Int) -> String { String(format: "%7.3f GiB", Double(bytes) / 0x1p30) }
}
