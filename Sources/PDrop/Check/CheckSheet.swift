/// The comparisons of a case, stage by stage in the order of the pipeline.
struct CheckSheet {
  private(set) var results: [StageResult] = []

  var hasDeparted: Bool { results.contains { !$0.agrees } }

  /// Compares numbers, unless the reference has none.
  mutating func add(
    _ stage: CheckStage, _ found: [Float], _ expected: [Float]?, _ allowance: Allowance, _ axes: Comparison.Axes
  ) {
    guard let expected else { return }
    add(stage, allowance, .numbers(found, expected, allowance, axes))
  }

  /// Compares entries that must be equal, unless the reference has none.
  mutating func add<Entry: Equatable>(_ stage: CheckStage, _ found: [Entry], _ expected: [Entry]?, _ axis: String) {
    guard let expected else { return }
    add(stage, .none, .entries(found, expected, .list(axis)))
  }

  /// Compares texts.
  mutating func add(_ stage: CheckStage, text found: String, _ expected: String) {
    add(stage, .none, .texts(found, expected))
  }

  /// Takes down a comparison.
  mutating func add(_ stage: CheckStage, _ allowance: Allowance, _ comparison: Comparison) {
    results.append(
      StageResult(stage: stage, allowance: allowance, difference: comparison.difference, place: comparison.place))
  }
}
