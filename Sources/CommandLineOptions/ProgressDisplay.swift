internal import ArgumentParser
internal import Foundation
package import PDrop
internal import Synchronization

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
    log("going on behind \(BatchSummary.count(answered, "answer"))\(failures)")
  }

  package func didWrite(_ tally: BatchTally, share: Double?) {
    state.withLock { $0.progress.update(tally, share: share, at: .now) }
  }

  package func didFail(_ record: BatchRecord, _ failure: RecordFailure) {
    log("error: \(recordName) \(record.number): \(failure.message)")
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
