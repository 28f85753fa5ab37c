/// Speculative decoding: tokens are drafted from text that the job has seen, and verified in one step.
///
/// Answers do not depend on it: the rows of a decode step have the same bits whatever their number, and each drafted
/// token is kept only if it is the one that would have been chosen.
public enum Speculation: Sendable, Hashable {
  /// Drafts as long as they pay by the acceptance and the step times so far.
  case auto
  case off
  /// Drafts of up to this number of tokens.
  case fixed(Int)

  /// Maximum length of a draft: with the token before it, the rows of a decode step.
  public static let maxDraftLength = 15
}

/// Drafted tokens of one answer.
package struct Draft: Sendable {
  package var tokens: ArraySlice<Int> = []
  /// The length of the n-gram that they followed.
  fileprivate var length = 0
  package init() {}
}

/// Drafts tokens for the answers of a session or a batch, and learns from their acceptance.
package struct Drafter {
  private let mode: Speculation
  /// Earlier answers of the batch.
  private var answers = NGramIndex()
  /// The probability that a drafted token is accepted, by the length of its n-gram.
  private var acceptance: [Int: Double] = Dictionary(uniqueKeysWithValues: NGramIndex.lengths.map { ($0, 0.5) })
  private var stepTimes = StepTimes()
  package private(set) var statistics = SpeculationStatistics()

  package init(_ mode: Speculation) { self.mode = mode }

  package var isOff: Bool { mode == .off }

  /// Drafts for the next decode step, each for the answer whose tokens it follows.
  ///
  /// - Parameters:
  ///   - texts: Prompt and answer of each sequence, and the maximum length of its draft.
  ///   - rowLimit: Maximum number of rows of the step: one per sequence, and the drafts.
  package mutating func drafts(for texts: [(text: NGramText, limit: Int)], rowLimit: Int) -> [Draft] {
    var drafts = texts.map { _ in Draft() }
    guard mode != .off else { return drafts }
    for (index, (text, limit)) in texts.enumerated() {
      let limit = min(limit, maxLength, rowLimit - texts.count)
      guard limit > 0, let found = continuation(of: text, limit: limit) else { continue }
      (drafts[index].tokens, drafts[index].length) = (found.tokens, found.length)
    }
    shorten(&drafts, rowLimit: rowLimit)
    return drafts
  }

  /// What followed the longest n-gram, in the sequence itself or in other answers.
  private func continuation(of text: NGramText, limit: Int) -> (tokens: ArraySlice<Int>, length: Int)? {
    let own = text.index.continuation(of: text.tokens[...], limit: limit)
    let other = answers.continuation(of: text.tokens[...], limit: limit)
    guard let own, let other else { return own ?? other }
    return other.length > own.length ? other : own
  }

  private var maxLength: Int {
    switch mode {
    case .auto: Speculation.maxDraftLength
    case .off: 0
    case .fixed(let length): min(length, Speculation.maxDraftLength)
    }
  }

  /// Cuts drafts to the rows that a step has room for, and with `auto` to those that are expected to pay.
  private mutating func shorten(_ drafts: inout [Draft], rowLimit: Int) {
    // Each drafted token with the probability that it and all before it are accepted.
    var rows: [(draft: Int, probability: Double)] = []
    for (index, draft) in drafts.enumerated() {
      var probability = 1.0
      for _ in draft.tokens {
        probability *= acceptance[draft.length] ?? 0
        rows.append((index, probability))
      }
    }
    // Stable, so that a draft's tokens stay in order.
    rows.sort { $0.probability > $1.probability }
    rows = Array(rows.prefix(max(0, rowLimit - drafts.count)))
    if mode == .auto {
      rows = Array(rows.prefix(stepTimes.bestCount(sequences: drafts.count, rows.map(\.probability))))
    }
    var counts = drafts.map { _ in 0 }
    for row in rows { counts[row.draft] += 1 }
    for index in drafts.indices {
      // Texts change, so n-grams that are not tried get another chance after a while.
      if counts[index] == 0, let probability = acceptance[drafts[index].length] {
        acceptance[drafts[index].length] = probability + (0.5 - probability) / 256
      }
      drafts[index].tokens = drafts[index].tokens.prefix(counts[index])
    }
  }

  /// Learns from a verified draft.
  package mutating func record(_ draft: Draft, accepted: Int) {
    guard !draft.tokens.isEmpty else { return }
    statistics.drafted += draft.tokens.count
    statistics.accepted += accepted
    // One observation for each accepted token and for the first that is not.
    var probability = acceptance[draft.length] ?? 0
    for position in 0..<min(accepted + 1, draft.tokens.count) {
      probability += ((position < accepted ? 1 : 0) - probability) / 16
    }
    acceptance[draft.length] = probability
  }

  /// Learns from the time of a step.
  package mutating func record(rows: Int, milliseconds: Double) {
    statistics.steps += 1
    stepTimes.record(rows: rows, milliseconds)
  }

  /// Adds a complete answer for later drafts.
  package mutating func add(answer: [Int]) {
    if mode != .off { answers.add(answer) }
  }
}

/// Prompt and answer of a sequence with their index.
package struct NGramText {
  package private(set) var tokens: [Int] = []
  fileprivate private(set) var index = NGramIndex()

  package init(_ tokens: [Int]) {
    for token in tokens { append(token) }
  }

  package mutating func append(_ token: Int) {
    tokens.append(token)
    index.append(token)
  }
}

/// Counts of speculative decoding.
public struct SpeculationStatistics: Codable, Sendable, Equatable {
  /// Decode steps.
  public var steps = 0
  /// Drafted tokens that were verified.
  public var drafted = 0
  /// Drafted tokens that were accepted.
  public var accepted = 0

  public init() {}
}

/// Times of decode steps by their number of rows.
private struct StepTimes {
  /// Moving averages in milliseconds; index `i` for `i + 1` rows.
  private var averages: [Double?] = Array(repeating: nil, count: Speculation.maxDraftLength + 1)
  /// Steps since the last measurement of each number of rows.
  private var ages = Array(repeating: 0, count: Speculation.maxDraftLength + 1)
  /// The age at which a measurement is given up, as it may have been disturbed.
  private static let maxAge = 256
  /// The growth per row, relative to the last measured time, that is assumed until more rows are measured.
  private static let assumedGrowth = 0.1

  mutating func record(rows: Int, _ milliseconds: Double) {
    guard averages.indices.contains(rows - 1) else { return }
    averages[rows - 1] = averages[rows - 1].map { $0 + (milliseconds - $0) / 8 } ?? milliseconds
    for index in ages.indices {
      ages[index] = index == rows - 1 ? 0 : ages[index] + 1
      if ages[index] > Self.maxAge { averages[index] = nil }
    }
  }

  /// The measured or estimated time of a step; `nil` before the first measurement of fewer rows.
  private func time(_ rows: Int) -> Double? {
    if let time = averages[rows - 1] { return time }
    guard let below = (1..<rows).last(where: { averages[$0 - 1] != nil }), let time = averages[below - 1] else {
      return nil
    }
    guard let above = (rows...averages.count).first(where: { averages[$0 - 1] != nil }),
      let upper = averages[above - 1]
    else { return time * (1 + Self.assumedGrowth * Double(rows - below)) }
    return time + (upper - time) * Double(rows - below) / Double(above - below)
  }

  /// The number of drafted tokens with the most expected tokens per time.
  ///
  /// - Parameter probabilities: That each drafted token is accepted, highest first.
  func bestCount(sequences: Int, _ probabilities: [Double]) -> Int {
    guard let base = time(sequences) else { return 0 }
    var (best, bestRate, expected) = (0, Double(sequences) / base, Double(sequences))
    for (index, probability) in probabilities.enumerated() {
      expected += probability
      guard let time = time(sequences + index + 1) else { break }
      // A little better than without is not worth the risk of a wrong estimate.
      if expected / time > bestRate * (best == 0 ? 1.05 : 1) { (best, bestRate) = (index + 1, expected / time) }
    }
    return best
  }
}
