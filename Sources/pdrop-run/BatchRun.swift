import ArgumentParser
import CommandLineOptions
import Foundation
import PDrop

/// A batch from its open files to its summary; a record that fails gets an error record and the rest goes on.
struct BatchRun {
  var batch: Batch
  /// What is asked about every picture of a folder; `nil` where records bring their questions.
  var prompt: Request.Prompt?
  var options: BatchOptions

  /// Answers all records.
  ///
  /// - Throws: `ExitCode` 1 when some could not be answered, `BatchError` for files. Does not return from a run that was
  ///   stopped by a signal.
  func answer(with model: VisionLanguageModel, like base: Request, threads: Int) throws {
    var base = base
    if let prompt { base.prompt = prompt }
    let engine = options.engine(threads: threads)
    if options.dryRun { return try plan(model, like: base, engine) }
    let display = ProgressDisplay(options.progress, recordName: options.input == nil ? "picture" : "line")
    // An answer too long for the longest file allowed is an error like a full disk.
    _ = signal(SIGXFSZ, SIG_IGN)
    StopSignal.install()
    let report: BatchReport
    do {
      report = try batch.run(
        like: base, by: BatchRunDescription(model, base, threads: threads), isStopped: { StopSignal.isWanted },
        observer: display, engine: model.answeringTogether(engine))
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
    let (requests, count) = try batch.survey(like: base)
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
    return "stopped; to go on behind the answers in \(output), run the same command \(change)"
  }

  private func write(_ report: BatchReport, to path: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    do { try (encoder.encode(report) + Data("\n".utf8)).write(to: URL(filePath: path), options: .atomic) } catch {
      throw FileProblem("\(path): the report cannot be written (\(error.localizedDescription))")
    }
  }
}

/// What a batch did, for people.
enum BatchSummary {
  static func lines(_ report: BatchReport) -> [String] {
    var lines = ["\(report.answered) of \(count(report.records, "record")) answered"]
    if report.answered_before > 0 { lines[0] += ", \(report.answered_before) were answered before" }
    if report.failed_before > 0 { lines[0] += ", \(report.failed_before) of them with an error" }
    if !report.failed.isEmpty {
      let classes = report.failed.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.value) \($0.key)" }
      lines.append("\(report.records - report.answered) failed: \(classes.joined(separator: ", "))")
    }
    guard report.answered > 0 else { return lines }
    let (time, flops) = (report.seconds, report.flops)
    lines.append(
      String(
        format: "%d tokens generated, %.1f tokens/s, %.0f records an hour", report.tokens.generated,
        report.tokens_per_second, report.records_per_hour))
    lines.append(
      String(
        format: "seconds: load %.1f, pictures %.1f, tower %.1f, prompts %.1f, ranking %.1f, decoding %.1f, all %.1f",
        time.load, time.decode_image + time.preprocess, time.encode + time.project, time.prefill, time.rank,
        time.decode, time.load + time.wall))
    lines.append(
      String(
        format: "FLOPs counted: prompts %.3f G (%.1f%% less than without dropping), tower %.3f G, decoding %.3f G",
        Double(flops.prefill + flops.rank) / 1e9, 100 * report.flops_prefill_saved,
        Double(flops.encode + flops.project) / 1e9, Double(flops.decode + flops.head) / 1e9))
    if report.flops_shared > 0 {
      lines.append(
        String(
          format: "shared: %d of %d pictures encoded, %d prompts continued, %.3f G of these FLOPs not done again",
          report.pictures.encoded, report.pictures.asked, report.prompts_continued, Double(report.flops_shared) / 1e9))
    }
    if let cache = report.feature_cache { lines.append(line(cache)) }
    return lines
  }

  static func line(_ cache: FeatureCacheReport) -> String {
    let damaged = cache.damaged > 0 ? ", \(cache.damaged) damaged" : ""
    return String(
      format: "feature cache: %d pictures known, %d not%@, %d kept, %d removed, %.3f G of these FLOPs not done",
      cache.hits, cache.misses, damaged, cache.written, cache.removed, Double(cache.flops_saved) / 1e9)
  }

  static func count(_ number: Int, _ noun: String) -> String { number == 1 ? "1 \(noun)" : "\(number) \(noun)s" }
}
