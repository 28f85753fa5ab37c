/// An answer by likelihood: the probability of its choice, and whether it is correct.
struct Outcome: Sendable, Equatable {
  /// Probability of the choice among the choices of the question, 0 to 1.
  var confidence: Double
  var isCorrect: Bool

  /// `nil` for an answer that is not by likelihood.
  init?(_ answer: Answer, isCorrect: Bool) {
    guard let confidence = answer.confidence else { return nil }
    (self.confidence, self.isCorrect) = (confidence, isCorrect)
  }

  init(confidence: Double, isCorrect: Bool) { (self.confidence, self.isCorrect) = (confidence, isCorrect) }
}

/// Expected calibration error: the mean over answers of the difference between confidence and accuracy in their bin.
///
/// - Parameter binCount: Number of bins of equal width from 0 to 1.
///
/// Source: Guo et al. 2017, On Calibration of Modern Neural Networks, equation 3, with 15 bins.
func expectedCalibrationError(_ outcomes: [Outcome], binCount: Int = 15) -> Double {
  guard !outcomes.isEmpty else { return 0 }
  // A bin includes its upper end.
  let bins = Dictionary(grouping: outcomes) { max(0, Int(($0.confidence * Double(binCount)).rounded(.up)) - 1) }
  return bins.values.reduce(0) { sum, bin in
    sum + abs(bin.reduce(0) { $0 + $1.confidence - ($1.isCorrect ? 1 : 0) })
  } / Double(outcomes.count)
}

extension Benchmark {
  /// The metrics of the most likely choices, reported beside those of generated answers, and their calibration.
  ///
  /// - Returns: No metrics if the answers have no scored choices.
  /// - Throws: As `score`.
  package func likelihoodMetrics(_ answers: AnswerSet, in data: DataFolder) throws -> [Metric] {
    guard let answers = answers.byLikelihood else { return [] }
    let score = try score(answers, in: data)
    let metrics = score.metrics.map { metric in
      var metric = metric
      metric.name += " by likelihood"
      return metric
    }
    guard !score.outcomes.isEmpty else { return metrics }
    return metrics + [
      Metric(
        "calibration error (ECE)", 100 * expectedCalibrationError(score.outcomes), nil, count: score.outcomes.count)
    ]
  }
}
