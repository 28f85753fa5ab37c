/// The rule by which a drop chooses tokens by their scores.
public enum ChoiceRule: Sendable, Hashable {
  /// The largest scores.
  case top
  /// Greedily by score, diversity and coverage of the hidden states at the drop, with weights of the last two.
  ///
  /// Scores are shifted so that none is negative. Each of the three is divided by its mean.
  ///
  /// Source: TOPS (arXiv 2606.27161), algorithm 1.
  case coverage(alpha: Double = 0.5, lambda: Double = 0.5)

  /// The name on the command line and in reports.
  public var name: String {
    switch self {
    case .top: "top"
    case .coverage: "coverage"
    }
  }
}
