import ArgumentParser
import BatchInference
import CommandLineSupport
import Foundation
import PDrop

/// A batch from its open files to its summary; a record that fails gets an error record and the rest goes on.
struct BatchRun {
  var batch: Batch
  /// What is asked about every image of a folder; `nil` where records bring their questions.
  var prompt: Request.Prompt?
  var options: BatchOptions

  /// Answers all records.
  ///
  /// - Throws: `ExitCode` 1 when some could not be answered, `BatchError` for files. Does not return from a run that was
  ///   stopped by a signal.
  func answer(with model: VisionLanguageModel, like base: Request, threads: Int) throws {
    var base = base
    if let prompt { base.prompt = prompt }
    let engine = options.engineArguments.engine(threads: threads)
    if options.dryRun { return try plan(model, like: base, engine) }
    let display = ProgressDisplay(
      options.engineArguments.progress, recordName: options.input == nil ? "image" : "line")
    // An answer too long for the longest file allowed is an error like a full disk.
    _ = signal(SIGXFSZ, SIG_IGN)
    StopSignal.install()
    let report: BatchReport
    do {
      report = try batch.run(
        like: base, by: BatchRunDescription(model, base, threads: threads), isStopped: { StopSignal.isWanted },
        observer: display, engine: model.batchEngine(engine))
      display.end()
    } catch {
      display.end()
      throw error
    }
    for line in BatchSummary.lines(report) { Log.write(line) }
    if let path = options.report { try write(report, to: path) }
    if report.stopped {
      Log.write(remedy)
      StopSignal.endProgram()
    }
    if report.answered < report.records || report.failed_before > 0 { throw ExitCode(ExitStatus.someFailed.rawValue) }
  }

  /// Prints what the batch would take.
  private func plan(_ model: VisionLanguageModel, like base: Request, _ engine: EngineOptions) throws {
    let (requests, count) = try batch.preview(like: base)
    let output = Output()
    guard let estimate = try model.estimate(requests, recordCount: count, engine) else {
      try output.write("\(BatchSummary.count(count, "record")), of which none of the first can be answered\n")
      return
    }
    for line in EstimateText.lines(estimate, recordCount: count) { try output.write(line + "\n") }
  }

  /// How to go on after a stop.
  private var remedy: String {
    guard let output = options.output, output != "-" else {
      return "stopped; a run with --output FILE can be stopped and gone on with by --resume"
    }
    let change = options.overwrite ? "with --resume in place of --overwrite" : "with --resume"
    return "stopped; to go on after the answers in \(output), run the same command \(change)"
  }

  private func write(_ report: BatchReport, to path: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    do { try (encoder.encode(report) + Data("\n".utf8)).write(to: URL(filePath: path), options: .atomic) } catch {
      throw FileArgumentError("\(path): the report cannot be written (\(error.localizedDescription))")
    }
  }
}

/// What a batch would take, for people.
enum EstimateText {
  static func lines(_ estimate: BatchEstimate, recordCount: Int) -> [String] {
    var lines = [
      "memory, of \(gibibytes(estimate.limitBytes)) allowed, for records like the first:",
      "  weights            \(gibibytes(estimate.weightBytes))",
      "  program            \(gibibytes(estimate.programBytes))",
      "  known images     \(gibibytes(estimate.imageBytes))",
      "  to compute         \(gibibytes(estimate.workingBytes))",
      "  keys and values    \(gibibytes(estimate.cacheBytes)) a record of \(estimate.promptTokens) tokens and "
        + "\(estimate.maxNewTokens) more",
    ]
    for stage in estimate.stages {
      lines.append(
        "    layers \(stage.layers.lowerBound) to \(stage.layers.upperBound): \(gibibytes(stage.bytes)), "
          + "\(stage.positions) positions after the prompt")
    }
    lines.append("  at its peak        \(gibibytes(estimate.peakBytes)), \(estimate.recordsAtATime) records at a time")
    lines.append(
      String(
        format: "time, measured: images %.2f s, prompt %.2f s, a token of %d records %.3f s",
        estimate.imageSeconds, estimate.prefillSeconds, estimate.recordsAtATime, estimate.stepSeconds))
    lines.append(
      String(
        format: "  at most %.1f s a record, %.0f s for %@; less where answers are short or images come again",
        estimate.secondsPerRecord, Double(recordCount) * estimate.secondsPerRecord,
        BatchSummary.count(recordCount, "record")))
    return lines
  }

  private static func gibibytes(_ bytes: Int) -> String { String(format: "%7.3f GiB", Double(bytes) / 0x1p30) }
}
