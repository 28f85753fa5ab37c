import ArgumentParser
package import BatchInference
import Foundation
package import PDrop
import Storage
import Synchronization

/// The form of the progress display.
package enum ProgressStyle: String, CaseIterable, ExpressibleByArgument { case auto, plain, none }

/// Progress of a batch on stderr: a bar on a terminal, a line every 30 seconds in a log.
package final class ProgressDisplay: BatchObserver, Sendable {
  private enum Form { case bar, lines, none }

  private struct State {
    var progress = BatchProgress()
    var lastLine = ContinuousClock.now
    var hasBar = false
    var hasAnnouncedStop = false
    var hasEnded = false
  }

  private static let secondsBetweenLines = 30

  private let form: Form
  private let recordName: String
  private let state = Mutex(State())

  /// - Parameter recordName: The noun before the number of a record, such as `line`.
  package init(_ style: ProgressStyle, recordName: String) {
    form =
      switch style {
      case .auto: isatty(STDERR_FILENO) != 0 ? .bar : .lines
      case .plain: .lines
      case .none: .none
      }
    self.recordName = recordName
    // Without a thread there is no display.
    _ = BackgroundThread.start { [weak self] in
      while self?.tick() == true { usleep(200_000) }
    }
  }

  /// Ends the display and clears the bar.
  package func end() {
    state.withLock { state in
      state.hasEnded = true
      Self.clearBar(&state)
    }
  }

  package func didFind(answered: Int, failed: Int) {
    guard answered > 0 else { return }
    let failures = failed > 0 ? ", \(failed) of them with an error (--retry-failed answers these again)" : ""
    log("resuming after \(BatchSummary.count(answered, "answer"))\(failures)")
  }

  package func didWarn(_ message: String) { log("warning: " + message) }

  package func didWrite(_ tally: BatchTally, fractionRead: Double?) {
    state.withLock { $0.progress.update(tally, fraction: fractionRead, at: .now) }
  }

  package func didFail(_ record: BatchRecord, _ failure: RecordFailure) {
    log("error: \(recordName) \(record.number): \(errorText(failure))")
  }

  /// Writes a line in place of the bar, which the next tick draws again.
  private func log(_ line: String) {
    state.withLock { state in
      Self.clearBar(&state)
      Log.write(line)
    }
  }

  /// Draws the display; returns whether it goes on.
  private func tick() -> Bool {
    state.withLock { state in
      guard !state.hasEnded else { return false }
      if StopSignal.isRequested, !state.hasAnnouncedStop {
        state.hasAnnouncedStop = true
        Self.clearBar(&state)
        Log.write("finishing the running records; a second signal stops at once")
      }
      let now = ContinuousClock.now
      switch form {
      case .none: break
      case .bar:
        Self.write("\r\u{1B}[K" + state.progress.bar(at: now))
        state.hasBar = true
      case .lines:
        guard state.lastLine.duration(to: now) >= .seconds(Self.secondsBetweenLines) else { return true }
        state.lastLine = now
        Log.write(state.progress.line(at: now))
      }
      return true
    }
  }

  private static func clearBar(_ state: inout State) {
    if state.hasBar { write("\r\u{1B}[K") }
    state.hasBar = false
  }

  private static func write(_ text: String) { try? FileHandle.standardError.write(contentsOf: Data(text.utf8)) }
}

/// Progress of a batch and an estimate of the time left.
struct BatchProgress {
  private static let barWidth = 24

  private var tally = BatchTally()
  /// The fraction of the input that is done; `nil` for an input of unknown length.
  private var fraction: Double?
  private let start = ContinuousClock.now
  /// The time and fraction at the first update; records of an earlier run are skipped too fast to count.
  private var first: (time: ContinuousClock.Instant, fraction: Double)?

  mutating func update(_ tally: BatchTally, fraction: Double?, at time: ContinuousClock.Instant) {
    (self.tally, self.fraction) = (tally, fraction)
    if first == nil, let fraction { first = (time, fraction) }
  }

  /// The progress line, such as `120 records, 6%, 34.1 tokens/s, 12:40 left, 3 failed`.
  func line(at time: ContinuousClock.Instant) -> String {
    let seconds = seconds(from: start, to: time)
    var parts = [BatchSummary.count(tally.recordCount, "record")]
    if let fraction { parts.append(String(format: "%.0f%%", 100 * fraction)) }
    parts.append(String(format: "%.1f tokens/s", Double(tally.generatedTokens) / max(seconds, 1e-3)))
    if let left = secondsLeft(at: time) { parts.append(Self.clock(left) + " left") }
    if tally.failedCount > 0 { parts.append("\(tally.failedCount) failed") }
    return parts.joined(separator: ", ")
  }

  /// The line after a bar `[=====>      ] `; without the bar for an input of unknown length.
  func bar(at time: ContinuousClock.Instant) -> String {
    guard let fraction else { return line(at: time) }
    let filled = Int(fraction * Double(Self.barWidth))
    let bar = String(repeating: "=", count: filled) + (filled < Self.barWidth ? ">" : "")
    return "[" + bar.padding(toLength: Self.barWidth, withPad: " ", startingAt: 0) + "] " + line(at: time)
  }

  private func secondsLeft(at time: ContinuousClock.Instant) -> Double? {
    guard let first, let fraction, fraction > first.fraction else { return nil }
    return (1 - fraction) / (fraction - first.fraction) * seconds(from: first.time, to: time)
  }

  private func seconds(from start: ContinuousClock.Instant, to end: ContinuousClock.Instant) -> Double {
    let parts = start.duration(to: end).components
    return Double(parts.seconds) + Double(parts.attoseconds) * 1e-18
  }

  /// A duration as `1:02:03`, or `2:03` below an hour.
  private static func clock(_ seconds: Double) -> String {
    let seconds = Int(min(seconds, 1e9).rounded())
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60)
    return hours > 0
      ? String(format: "%d:%02d:%02d", hours, minutes, seconds % 60) : String(format: "%d:%02d", minutes, seconds % 60)
  }
}

/// The summary of a batch in log lines.
package enum BatchSummary {
  package static func lines(_ report: BatchReport) -> [String] {
    var lines = ["\(report.answered) of \(count(report.records, "record")) answered"]
    if report.resumed > 0 { lines[0] += "; \(report.resumed) answered by earlier runs" }
    if report.failedBefore > 0 { lines[0] += ", \(report.failedBefore) of them with an error" }
    if !report.failed.isEmpty {
      let classes = report.failed.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.value) \($0.key)" }
      lines.append("\(report.records - report.answered) failed: \(classes.joined(separator: ", "))")
    }
    guard report.answered > 0 else { return lines }
    let time = report.seconds
    lines.append(
      String(
        format: "%d tokens generated, %.1f tokens/s, %.0f records/hour", report.tokens.generated,
        report.tokensPerSecond, report.recordsPerHour))
    lines.append(
      String(
        format: "timings (s): load %.1f, image preprocessing %.1f, vision encoder %.1f, prefill %.1f, ranking %.1f, "
          + "decode %.1f, total %.1f",
        time.load, time.decodeImage + time.preprocess, time.encode + time.project, time.prefill, time.rank,
        time.decode, time.load + time.wall))
    lines.append(line(report.flops, baseline: report.baselineFlops))
    if report.flopsShared > 0 {
      lines.append(
        String(
          format: "reuse: %d of %d images encoded, %d prefix cache hits, %.2f G of these FLOPs not computed",
          report.images.encoded, report.images.requested, report.prefixCacheHits, Double(report.flopsShared) / 1e9))
    }
    if let cache = report.featureCache { lines.append(line(cache)) }
    if let cache = report.promptCache { lines.append(line(cache)) }
    return lines
  }

  /// The FLOPs of a run or a batch by phase.
  ///
  /// - Parameter baseline: The prefill FLOPs without dropping.
  package static func line(_ flops: RunReport.Flops, baseline: Int) -> String {
    let prefill = flops.prefill + flops.rank
    return String(
      format: "FLOPs: prefill %.2f G%@, vision encoder %.2f G, decode %.2f G", Double(prefill) / 1e9,
      change(from: baseline, to: prefill), Double(flops.encode + flops.project) / 1e9,
      Double(flops.decode + flops.head) / 1e9)
  }

  /// The change relative to no dropping, such as ` (−55.5% vs. no dropping)`; empty for none.
  private static func change(from baseline: Int, to flops: Int) -> String {
    guard baseline > 0, flops != baseline else { return "" }
    let percent = 100 * (Double(flops) / Double(baseline) - 1)
    return " (\(percent < 0 ? "−" : "+")\(String(format: "%.1f", abs(percent)))% vs. no dropping)"
  }

  package static func line(_ cache: FeatureCacheStatistics) -> String {
    let damaged = cache.damaged > 0 ? ", \(cache.damaged) damaged" : ""
    return String(
      format: "feature cache: %d hits, %d misses%@, %d written, %d removed, %.2f G of these FLOPs not computed",
      cache.hits, cache.misses, damaged, cache.written, cache.removed, Double(cache.flopsSaved) / 1e9)
  }

  package static func line(_ cache: PromptCacheStatistics) -> String {
    let damaged = cache.damaged > 0 ? ", \(cache.damaged) damaged" : ""
    return String(
      format: "prompt cache: %d hits, %d misses, %d prefix hits%@, %d written (%.1f MB), %d removed, %.1f MB read, "
        + "%.2f G of these FLOPs not computed",
      cache.hits, cache.misses, cache.prefixHits, damaged, cache.written, Double(cache.bytesWritten) / 1e6,
      cache.removed, Double(cache.bytesRead) / 1e6, Double(cache.flopsSaved) / 1e9)
  }

  package static func count(_ number: Int, _ noun: String) -> String {
    number == 1 ? "1 \(noun)" : "\(number) \(noun)s"
  }
}
