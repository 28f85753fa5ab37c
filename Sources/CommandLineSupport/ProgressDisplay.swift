import ArgumentParser
package import BatchInference
import Foundation
package import PDrop
import Synchronization

/// How progress is shown.
package enum ProgressStyle: String, CaseIterable, ExpressibleByArgument { case auto, plain, none }

/// Progress of a batch on stderr: a bar on a terminal, a line every 30 seconds in a log.
package final class ProgressDisplay: BatchObserver, Sendable {
  private enum Form { case bar, lines, none }

  private struct State {
    var progress = BatchProgress()
    var lastLine = ContinuousClock.now
    var hasBar = false
    var hasSaidStop = false
    /// `nil` when no more is shown.
    var timer: (any DispatchSourceTimer)?
  }

  private static let secondsBetweenLines = 30

  private let form: Form
  private let recordName: String
  private let state = Mutex(State())

  /// - Parameter recordName: What the number of a record counts, such as lines.
  package init(_ style: ProgressStyle, recordName: String) {
    form =
      switch style {
      case .auto: isatty(STDERR_FILENO) != 0 ? .bar : .lines
      case .plain: .lines
      case .none: .none
      }
    self.recordName = recordName
    state.withLock { state in
      let timer = DispatchSource.makeTimerSource()
      timer.schedule(deadline: .now(), repeating: .milliseconds(200))
      timer.setEventHandler { [weak self] in self?.tick() }
      timer.resume()
      state.timer = timer
    }
  }

  /// Shows no more.
  package func end() {
    state.withLock { state in
      state.timer?.cancel()
      state.timer = nil
      Self.clearBar(&state)
    }
  }

  package func didFind(answered: Int, failed: Int) {
    guard answered > 0 else { return }
    let failures = failed > 0 ? ", \(failed) of them with an error, which --retry-failed answers again" : ""
    log("going on after \(BatchSummary.count(answered, "answer"))\(failures)")
  }

  package func didWrite(_ tally: BatchTally, share: Double?) {
    state.withLock { $0.progress.update(tally, share: share, at: .now) }
  }

  package func didFail(_ record: BatchRecord, _ failure: RecordFailure) {
    log("error: \(recordName) \(record.number): \(errorText(failure))")
  }

  /// A line that the bar makes way for.
  private func log(_ line: String) {
    state.withLock { state in
      Self.clearBar(&state)
      Log.write(line)
    }
  }

  private func tick() {
    state.withLock { state in
      guard state.timer != nil else { return }
      if StopSignal.isWanted, !state.hasSaidStop {
        state.hasSaidStop = true
        Self.clearBar(&state)
        Log.write("finishing what is running; a second signal stops at once")
      }
      let now = ContinuousClock.now
      switch form {
      case .none: break
      case .bar:
        Self.write("\r\u{1B}[K" + state.progress.bar(at: now))
        state.hasBar = true
      case .lines:
        guard state.lastLine.duration(to: now) >= .seconds(Self.secondsBetweenLines) else { return }
        state.lastLine = now
        Log.write(state.progress.line(at: now))
      }
    }
  }

  private static func clearBar(_ state: inout State) {
    if state.hasBar { write("\r\u{1B}[K") }
    state.hasBar = false
  }

  private static func write(_ text: String) { try? FileHandle.standardError.write(contentsOf: Data(text.utf8)) }
}

/// How far a batch is, and when it will be done.
struct BatchProgress {
  private static let barWidth = 24

  private var tally = BatchTally()
  private var share: Double?
  private let start = ContinuousClock.now
  /// When the first record was done, and the share then: what an earlier run has done passes in no time.
  private var first: (time: ContinuousClock.Instant, share: Double)?

  mutating func update(_ tally: BatchTally, share: Double?, at time: ContinuousClock.Instant) {
    (self.tally, self.share) = (tally, share)
    if first == nil, let share { first = (time, share) }
  }

  /// `120 records, 6%, 34.1 tokens/s, 12:40 left, 3 failed`.
  func line(at time: ContinuousClock.Instant) -> String {
    let seconds = seconds(from: start, to: time)
    var parts = [BatchSummary.count(tally.recordCount, "record")]
    if let share { parts.append(String(format: "%.0f%%", 100 * share)) }
    parts.append(String(format: "%.1f tokens/s", Double(tally.generatedTokens) / max(seconds, 1e-3)))
    if let left = secondsLeft(at: time) { parts.append(Self.clock(left) + " left") }
    if tally.failedCount > 0 { parts.append("\(tally.failedCount) failed") }
    return parts.joined(separator: ", ")
  }

  /// `[=====>      ] ` before the line, where the input's length is known.
  func bar(at time: ContinuousClock.Instant) -> String {
    guard let share else { return line(at: time) }
    let filled = Int(share * Double(Self.barWidth))
    let bar = String(repeating: "=", count: filled) + (filled < Self.barWidth ? ">" : "")
    return "[" + bar.padding(toLength: Self.barWidth, withPad: " ", startingAt: 0) + "] " + line(at: time)
  }

  private func secondsLeft(at time: ContinuousClock.Instant) -> Double? {
    guard let first, let share, share > first.share else { return nil }
    return (1 - share) / (share - first.share) * seconds(from: first.time, to: time)
  }

  private func seconds(from start: ContinuousClock.Instant, to end: ContinuousClock.Instant) -> Double {
    let parts = start.duration(to: end).components
    return Double(parts.seconds) + Double(parts.attoseconds) * 1e-18
  }

  /// `1:02:03`, or `2:03` below an hour.
  private static func clock(_ seconds: Double) -> String {
    let seconds = Int(min(seconds, 1e9).rounded())
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60)
    return hours > 0
      ? String(format: "%d:%02d:%02d", hours, minutes, seconds % 60) : String(format: "%d:%02d", minutes, seconds % 60)
  }
}

/// What a batch did, for people.
package enum BatchSummary {
  package static func lines(_ report: BatchReport) -> [String] {
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
        format:
          "seconds: load %.1f, images %.1f, vision encoder %.1f, prompts %.1f, ranking %.1f, decoding %.1f, all %.1f",
        time.load, time.decode_image + time.preprocess, time.encode + time.project, time.prefill, time.rank,
        time.decode, time.load + time.wall))
    lines.append(
      String(
        format:
          "FLOPs counted: prompts %.3f G (%.1f%% less than without dropping), vision encoder %.3f G, decoding %.3f G",
        Double(flops.prefill + flops.rank) / 1e9, 100 * report.flops_prefill_saved,
        Double(flops.encode + flops.project) / 1e9, Double(flops.decode + flops.head) / 1e9))
    if report.flops_shared > 0 {
      lines.append(
        String(
          format: "shared: %d of %d images encoded, %d prompts continued, %.3f G of these FLOPs not done again",
          report.images.encoded, report.images.asked, report.prompts_continued, Double(report.flops_shared) / 1e9))
    }
    if let cache = report.feature_cache { lines.append(line(cache)) }
    return lines
  }

  package static func line(_ cache: FeatureCacheStatistics) -> String {
    let damaged = cache.damaged > 0 ? ", \(cache.damaged) damaged" : ""
    return String(
      format: "feature cache: %d images known, %d not%@, %d kept, %d removed, %.3f G of these FLOPs not done",
      cache.hits, cache.misses, damaged, cache.written, cache.removed, Double(cache.flops_saved) / 1e9)
  }

  package static func count(_ number: Int, _ noun: String) -> String {
    number == 1 ? "1 \(noun)" : "\(number) \(noun)s"
  }
}
