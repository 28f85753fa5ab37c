internal import ModelFormats

/// What became of the cache of converted weights while a model was loaded.
public struct WeightsCacheReport: Sendable, Equatable, CustomStringConvertible {
  /// Whether all converted weights came from the cache.
  public let wasUsed: Bool
  /// Whether the cache could not be kept, so that the next load is no faster.
  public let hasFailed: Bool
  /// One line: which file was used, or written and why, or what is in the way.
  public let description: String

  init(_ outcome: WeightsCache.Outcome) {
    (wasUsed, hasFailed) =
      switch outcome {
      case .used: (true, false)
      case .failed: (false, true)
      case .notNeeded, .written, .leftToAnother: (false, false)
      }
    description = "\(outcome)"
  }
}
