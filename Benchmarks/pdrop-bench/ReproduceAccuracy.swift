import CommandLineSupport
import Evaluation
import PDrop
import Reports
import TokenDropping

/// The accuracy of a model under the paper's schedules.
struct AccuracyComparison {
  private let fidelity: Fidelity
  private let indices: [PaperSchedule: Int]
  let model: VisionLanguageModel
  /// The score of each schedule by the metric of a benchmark; empty for labelled questions.
  private var scores: [PaperSchedule: Metric] = [:]

  /// Answers all questions under all schedules.
  ///
  /// - Parameters:
  ///   - schedules: Distinct schedules, no dropping first.
  ///   - folder: The folder of the images.
  init(
    _ model: VisionLanguageModel, _ schedules: [PaperSchedule], _ questions: [LabelledQuestion],
    images folder: String,
    generatedTokens: Int, threads: Int
  ) throws {
    self.model = model
    var fidelity = Fidelity(
      models: [model], schedules: try schedules.map { try NamedSchedule($0.words) }, generatedTokens: generatedTokens,
      threads: threads)
    for (number, question) in questions.enumerated() {
      try fidelity.ask(question, images: folder)
      if (number + 1).isMultiple(of: 50) {
        Log.write("\(number + 1) of \(questions.count) questions, \(schedules.count) schedules each")
      }
    }
    self.fidelity = fidelity
    indices = Dictionary(uniqueKeysWithValues: schedules.enumerated().map { ($1, $0) })
  }

  /// Scores the answers of each schedule by the metric of their benchmark.
  ///
  /// - Parameter score: The metric of answers in the order of the questions; `nil` without labels.
  mutating func score(_ score: ([String]) throws -> Metric?) throws {
    for (schedule, index) in indices { scores[schedule] = try score(fidelity.subjects[index].texts) }
  }

  /// Whether quality is the metric of a benchmark, in its own unit.
  var isScored: Bool { !scores.isEmpty }

  /// The name of the quality: that of the benchmark's metric, or accuracy.
  var qualityName: String { scores[.none]?.name ?? "accuracy" }

  /// The metric of the benchmark, or accuracy from 0 to 1, with its 95% confidence interval; `nil` without labels.
  func quality(_ schedule: PaperSchedule) -> (value: Double, low: Double?, high: Double?)? {
    if let score = scores[schedule] { return (score.value, score.interval?.low, score.interval?.high) }
    return self[schedule]?.agreement.accuracy.map { ($0.share, $0.low, $0.high) }
  }

  subscript(schedule: PaperSchedule) -> Fidelity.Subject? { indices[schedule].map { fidelity.subjects[$0] } }

  var questionCount: Int { fidelity.subjects.first?.agreement.questions ?? 0 }

  /// All schedules.
  var schedules: [NamedSchedule] { fidelity.subjects.map(\.schedule) }

  /// The mean prefill FLOPs of a schedule relative to no dropping.
  func flopsOfBaseline(_ schedule: PaperSchedule) -> Double? {
    guard let subject = self[schedule], let none = self[.none] else { return nil }
    return subject.prefillFlops.mean / none.prefillFlops.mean
  }

  /// The accuracy of a schedule relative to no dropping; `nil` if that is 0 or unknown.
  func accuracyOfBaseline(_ schedule: PaperSchedule) -> Double? {
    guard let share = self[schedule]?.agreement.accuracy?.share, let baseline = self[.none]?.agreement.accuracy?.share,
      baseline > 0
    else { return nil }
    return share / baseline
  }

  /// The paired difference in accuracy of two schedules.
  func difference(_ schedule: PaperSchedule, from other: PaperSchedule) -> PairedDifference? {
    guard let subject = self[schedule], let other = self[other] else { return nil }
    return PairedDifference(subject.correct, other.correct)
  }

  /// A row for each schedule of a list.
  func tableRows(_ schedules: [PaperSchedule]) -> [TableRow] {
    schedules.compactMap { schedule in
      guard let subject = self[schedule], let flops = flopsOfBaseline(schedule) else { return nil }
      let agreement = subject.agreement
      return TableRow(
        [
          Field("schedule", .text(subject.schedule.title), heading: "schedule"),
          Field("cost_share", .number(flops), heading: "prefill FLOPs (% of baseline)", text: percent(flops)),
        ] + (isScored ? scoreFields(schedule) : accuracyFields(schedule, subject)) + [
          Field(
            "first_token_agreement", agreement.firstTokenAgreement.map { .number($0.share) } ?? .none,
            heading: "first-token agreement", text: agreement.firstTokenAgreement.map { percent($0.share) } ?? ""),
          Field("mean_kl", agreement.meanDivergence, heading: "KL (nats)", decimals: 4),
          Field("milliseconds", subject.milliseconds.median, heading: "ms/question", decimals: 1),
        ])
    }
  }

  private func scoreFields(_ schedule: PaperSchedule) -> [Field] {
    let score = scores[schedule]
    let interval = score?.interval
    let text = score.map { score in
      score.value.formatted(1)
        + (interval.map { " (\($0.low.formatted(1)) to \($0.high.formatted(1)))" } ?? "")
    }
    return [
      Field(
        "score", score.map { .number($0.value) } ?? .none, heading: "\(qualityName) (95% CI)", text: text ?? ""),
      Field("score_low", interval.map { .number($0.low) } ?? .none),
      Field("score_high", interval.map { .number($0.high) } ?? .none),
    ]
  }

  private func accuracyFields(_ schedule: PaperSchedule, _ subject: Fidelity.Subject) -> [Field] {
    let accuracy = subject.agreement.accuracy
    let difference = difference(schedule, from: .none)?.interval
    return [
      Field(
        "accuracy", accuracy.map { .number($0.share) } ?? .none, heading: "accuracy (95% CI)",
        text: accuracy.map(intervalText) ?? ""),
      Field("accuracy_low", accuracy.map { .number($0.low) } ?? .none),
      Field("accuracy_high", accuracy.map { .number($0.high) } ?? .none),
      Field(
        "accuracy_of_baseline", accuracyOfBaseline(schedule).map(Value.number) ?? .none,
        heading: "accuracy (% of baseline)", text: accuracyOfBaseline(schedule).map(percent) ?? ""),
      Field(
        "difference", difference.map { .number($0.difference) } ?? .none,
        heading: "points from baseline (95% CI, paired)",
        text: schedule == .none ? "" : difference.map { pointsText($0.difference, $0.low, $0.high) } ?? ""),
    ]
  }

  /// A row for each question family, a column for each schedule.
  func familyRows(_ schedules: [PaperSchedule]) -> [TableRow] {
    let subjects = schedules.compactMap { self[$0] }
    let families = Set(subjects.flatMap(\.families.keys)).sorted()
    return families.map { family in
      let count = subjects.first?.families[family]?.questions ?? 0
      let fields = subjects.map { subject in
        let accuracy = subject.families[family]?.accuracy
        return Field(
          subject.schedule.policy.name, accuracy.map { .number($0.share) } ?? .none,
          heading: subject.schedule.title, text: accuracy.map(intervalText) ?? "")
      }
      return TableRow(
        [
          Field("family", .text(family), heading: "family"), Field("questions", .integer(count), heading: "questions"),
        ] + fields)
    }
  }
}

/// `-0.2 points (-1.9 to 1.5)`.
func points(_ difference: Double, _ low: Double, _ high: Double) -> String {
  let numbers = [difference, low, high].map { (100 * $0).formatted(1) }
  return "\(numbers[0]) points (\(numbers[1]) to \(numbers[2]))"
}

/// `-0.2 (-1.9 to 1.5)`, for a column in points.
private func pointsText(_ difference: Double, _ low: Double, _ high: Double) -> String {
  points(difference, low, high).replacing(" points", with: "")
}

/// The accuracy of the paper's schedules as sections of a report.
struct AccuracyReport {
  let comparison: AccuracyComparison

  var sections: [Report.Section] { [methods, families, single, operatingPoints] }

  /// Tables 5 and 4.
  private var methods: Report.Section {
    let schedules = PaperSchedule.methods + PaperSchedule.lambdas
    return Report.Section(
      "Accuracy of \(comparison.model.name) (the paper's tables 4 and 5)",
      [
        .text(
          "\(comparison.questionCount) questions, exact match. In the paper, 7B models without dropping in training "
            + "keep nearly their baseline scores with PyramidDrop, and score higher than with FastV at lower cost. "
            + "This model is a thousand times smaller, and was trained with PyramidDrop λ=0.5."),
        .text(verdict(Array(schedules.dropFirst()), against: .none)),
        .text(verdict([.pyramidDrop], against: .fastV)),
        .table(Table(comparison.tableRows(schedules))),
      ])
  }

  private var families: Report.Section {
    Report.Section(
      "Accuracy by question family",
      [.table(Table(comparison.familyRows(PaperSchedule.methods), title: "Accuracy (95% CI)"))])
  }

  /// Figure 1.
  private var single: Report.Section {
    let layers = [2, 8, 16, 24]
    let series = layers.map { layer in
      let points = PaperSchedule.single.compactMap { schedule -> Plot.Point? in
        guard case .single(layer, let kept) = schedule else { return nil }
        return point(schedule, x: kept)
      }
      return Plot.Series(
        "after layer \(layer)", ([point(.none, x: 1)].compactMap(\.self) + points).sorted { $0.x < $1.x })
    }
    let smallest = layers.map { PaperSchedule.single(layer: $0, kept: 0.1) }
    return Report.Section(
      "One drop after an early or a late layer (the paper's figure 1)",
      [
        .text(
          "In the paper, a 7B model loses much accuracy if tokens are dropped after layer 2, and almost none after "
            + "layer 24."),
        .text("With 10% of the tokens kept. \(verdict(smallest, against: .none))"),
        .plot(
          Plot(
            "Accuracy by keep ratio", x: Axis("visual tokens kept", unit: .percent),
            y: Axis("accuracy", unit: .percent), series: series)),
        .table(Table(comparison.tableRows([.none] + PaperSchedule.single))),
      ])
  }

  /// Figure 4, with random and evenly spaced ranking as controls.
  private var operatingPoints: Report.Section {
    let policies = ["fastv", "pyramiddrop", "random", "uniform"]
    let series = policies.map { policy in
      let schedules = PaperSchedule.operatingPoints([policy])
      let name = schedules.first.flatMap { comparison[$0]?.schedule.policy.method } ?? policy
      return Plot.Series(
        name,
        (schedules + [.none]).compactMap { schedule in
          comparison.flopsOfBaseline(schedule).flatMap { point(schedule, x: $0) }
        })
    }
    let pairs = PaperSchedule.shares.map { share in
      let points = ["pyramiddrop", "fastv"].map { PaperSchedule.share(.init(policy: $0, share: share)) }
      return verdict([points[0]], against: points[1])
    }
    return Report.Section(
      "Accuracy at equal FLOPs (the paper's figure 4)",
      [
        .text(
          "In the paper, PyramidDrop scores higher than FastV at each cost: 3 points of DocVQA at 12 TFLOPs, and 6 at "
            + "8 TFLOPs. "
            + "Random and evenly spaced ranking with the schedule of PyramidDrop are the controls."),
        .plot(
          Plot(
            "Accuracy by prefill FLOPs", x: Axis("prefill FLOPs (% of baseline)", unit: .percent),
            y: Axis("accuracy", unit: .percent), series: series)),
      ] + pairs.map(Report.Block.text) + [
        .table(Table(comparison.tableRows([.none] + PaperSchedule.operatingPoints(policies))))
      ])
  }

  private func point(_ schedule: PaperSchedule, x: Double) -> Plot.Point? {
    comparison[schedule]?.agreement.accuracy.map { Plot.Point(x, $0.share, low: $0.low, high: $0.high) }
  }

  /// The significant differences in accuracy from another schedule; all differences if none is significant.
  private func verdict(_ schedules: [PaperSchedule], against other: PaperSchedule) -> String {
    func title(_ schedule: PaperSchedule) -> String { comparison[schedule]?.schedule.title ?? schedule.words }
    let differences = schedules.compactMap { schedule in
      comparison.difference(schedule, from: other).map { (title: title(schedule), paired: $0) }
    }
    func list(_ differences: [(title: String, paired: PairedDifference)]) -> String {
      differences.compactMap { title, paired in
        paired.interval.map { "\(title) \(points($0.difference, $0.low, $0.high))" }
      }.joined(separator: "; ")
    }
    let significant = differences.filter(\.paired.isSignificant)
    return significant.isEmpty
      ? "No significant difference from \(title(other)) (95% CI): \(list(differences))."
      : "Significant differences from \(title(other)) (95% CI): \(list(significant))."
  }
}
