/// How far the annotators of a VQA question agree with an answer.
package struct SoftScore: Sendable {
  private let values: [String: Double]

  /// An answer's value is the mean over the annotators of `min(1, m / 3)`, where `m` of the others gave that answer.
  ///
  /// - Parameter annotations: What the annotators answered, ten of them in the published data.
  ///
  /// Source: Antol et al. 2015, VQA; `TextVQAAccuracyEvaluator` in LLaVA's `llava/eval/m4c_evaluator.py`.
  package init(annotations: [String]) {
    let answers = annotations.map(AnswerNormalizer.normalized)
    let counts = Dictionary(answers.map { ($0, 1) }, uniquingKeysWith: +)
    values = counts.mapValues { count in
      // Of the annotators, `count` see one of their own fewer.
      let own = Double(count) * min(1, Double(count - 1) / 3)
      let others = Double(answers.count - count) * min(1, Double(count) / 3)
      return (own + others) / Double(answers.count)
    }
  }

  /// The value of an answer, 0 to 1.
  package func value(of answer: String) -> Double { values[AnswerNormalizer.normalized(answer)] ?? 0 }
}
