public import Storage

/// An input that no tokens can be selected from.
public enum SelectionError: UserFacingError, Equatable {
  /// An input has a value that is infinite or not a number.
  case notFinite(input: String, row: Int)
  /// A weight is below zero.
  case negative(input: String, row: Int)
  /// An input has another number of rows than there are tokens.
  case differentCounts(input: String, found: Int, expected: Int)

  public var category: ErrorCategory { .input }

  public var problem: String {
    switch self {
    case .notFinite(let input, let row):
      "\(input), row \(row): expected finite numbers, found infinity or NaN; is the model damaged?"
    case .negative(let input, let row): "\(input), row \(row): expected a number of 0 or more, found a negative one"
    case .differentCounts(let input, let found, let expected):
      "\(input): expected \(expected) rows, one for each token, found \(found)"
    }
  }
}

/// Checks that all values are finite.
func requireFinite(_ values: Span<Float>, columns: Int = 1, _ input: String) throws(SelectionError) {
  for i in values.indices where !values[i].isFinite { throw .notFinite(input: input, row: i / columns) }
}

/// Checks the attention to each token: one finite number of 0 or more.
func requireWeights(_ weights: [Float], count: Int, _ input: String) throws(SelectionError) {
  guard weights.count == count else {
    throw .differentCounts(input: input, found: weights.count, expected: count)
  }
  try requireFinite(weights.span, input)
  if let row = weights.firstIndex(where: { $0 < 0 }) { throw .negative(input: input, row: row) }
}
