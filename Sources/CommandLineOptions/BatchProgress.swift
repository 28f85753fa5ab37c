internal import Foundation
internal import PDrop

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

  /// `[=====>      ] ` in front of the line, where the input's length is known.
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
