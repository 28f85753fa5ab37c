import CommandLineSupport
import Evaluation
import PDrop
import Reports
import TokenDropping

/// How many questions a model answers rightly under the paper's schedules.
struct AccuracyComparison {
  private let fidelity: Fidelity
  private let indices: [PaperSchedule: Int]
  let model: VisionLanguageModel

  /// Asks all questions under all schedules.
  ///
  /// - Parameters:
  ///   - schedules: Different ones, no dropping first.
  ///   - folder: Of the questions' images.
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

  subscript(schedule: PaperSchedule) -> Fidelity.Subject? { indices[schedule].map { fidelity.subjects[$0] } }

  var questionCount: Int { fidelity.subjects.first?.agreement.questions ?? 0 }

  /// Operations of a schedule's prompts over those without dropping.
  func costShare(_ schedule: PaperSchedule) -> Double? {
    guard let subject = self[schedule], let none = self[.none] else { return nil }
    return subject.prefillFlops.mean / none.prefillFlops.mean
  }

  /// How a schedule's right answers differ from another's.
  func difference(_ schedule: PaperSchedule, from other: PaperSchedule) -> PairedDifference? {
    guard let subject = self[schedule], let other = self[other] else { return nil }
    return PairedDifference(subject.right, other.right)
  }

  /// A row for each of these schedules.
  func records(_ schedules: [PaperSchedule]) -> [TableRow] {
    schedules.compactMap { schedule in
      guard let subject = self[schedule], let cost = costShare(schedule) else { return nil }
      let (agreement, accuracy) = (subject.agreement, subject.agreement.accuracy)
      let difference = difference(schedule, from: .none)?.interval
      return TableRow([
        Field("schedule", .text(subject.schedule.name), heading: "schedule"),
        Field("cost_share", .number(cost), heading: "prompt's operations, of none", text: percent(cost)),
        Field(
          "accuracy", accuracy.map { .number($0.share) } ?? .none, heading: "right (95% interval)",
          text: accuracy.map(interval) ?? ""),
        Field("accuracy_low", accuracy.map { .number($0.low) } ?? .none),
        Field("accuracy_high", accuracy.map { .number($0.high) } ?? .none),
        Field(
          "difference", difference.map { .number($0.difference) } ?? .none, heading: "more than none (95%, paired)",
          text: schedule == .none ? "" : difference.map { points($0.difference, $0.low, $0.high) } ?? ""),
        Field(
          "same_first_token", agreement.firstTokenAgreement.map { .number($0.share) } ?? .none,
          heading: "same first token", text: agreement.firstTokenAgreement.map { percent($0.share) } ?? ""),
        Field("mean_kl", agreement.meanDivergence, heading: "KL, nats", decimals: 4),
        Field("milliseconds", subject.milliseconds.median, heading: "ms a question", decimals: 1),
      ])
    }
  }

  /// A row for each question family, a column for each schedule.
  func familyRecords(_ schedules: [PaperSchedule]) -> [TableRow] {
    let subjects = schedules.compactMap { self[$0] }
    let families = Set(subjects.flatMap(\.families.keys)).sorted()
    return families.map { family in
      let count = subjects.first?.families[family]?.questions ?? 0
      let fields = subjects.map { subject in
        let accuracy = subject.families[family]?.accuracy
        return Field(
          subject.schedule.policy.name, accuracy.map { .number($0.share) } ?? .none,
          heading: subject.schedule.policy.name, text: accuracy.map(interval) ?? "")
      }
      return TableRow(
        [
          Field("family", .text(family), heading: "family"), Field("questions", .integer(count), heading: "questions"),
        ] + fields)
    }
  }
}

/// `44.0% (40.1 to 48.0)`.
private func interval(_ proportion: (share: Double, low: Double, high: Double)) -> String {
  "\(percent(proportion.share)) (\((100 * proportion.low).formatted(1)) to \((100 * proportion.high).formatted(1)))"
}

/// `-0.2 points (-1.9 to 1.5)`.
func points(_ difference: Double, _ low: Double, _ high: Double) -> String {
  let numbers = [difference, low, high].map { (100 * $0).formatted(1) }
  return "\(numbers[0]) points (\(numbers[1]) to \(numbers[2]))"
}

/// How many answers are right under the paper's schedules, as sections of a page.
struct AccuracyReport {
  let comparison: AccuracyComparison

  var sections: [Report.Section] { [methods, families, single, operatingPoints] }

  private var name: String { comparison.model.name }

  /// Tables 5 and 4.
  private var methods: Report.Section {
    let schedules = PaperSchedule.methods + PaperSchedule.lambdas
    return Report.Section(
      "Right answers of \(name) (the paper's tables 4 and 5)",
      [
        .text(
          "\(comparison.questionCount) questions, exact match. The paper shows, for 7B models that were not trained with dropping, "
            + "scores with PyramidDrop near those without dropping, and above FastV's at less cost. This model is a thousand times "
            + "smaller, and was trained with PyramidDrop (lambda 0.5)."),
        .text(verdict(Array(schedules.dropFirst()), against: .none)),
        .text(verdict([.pyramidDrop], against: .fastV)),
        .table(Table(comparison.records(schedules))),
      ])
  }

  private var families: Report.Section {
    Report.Section(
      "By question family",
      [.table(Table(comparison.familyRecords(PaperSchedule.methods), title: "Right answers (95% interval)"))])
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
    return Report.Section(
      "One drop after an early or a late layer (the paper's figure 1)",
      [
        .text(
          "The paper's curves say that a 7B model loses much when tokens are dropped after layer 2 and next to nothing after layer 24. "
            + singleVerdict),
        .plot(
          Plot(
            "Right answers by the share of visual tokens that is kept",
            x: Axis("visual tokens kept", unit: .percent), y: Axis("right", unit: .percent), series: series)),
        .table(Table(comparison.records([.none] + PaperSchedule.single))),
      ])
  }

  /// Figure 4, with what any ranking has to beat.
  private var operatingPoints: Report.Section {
    let policies = ["pyramiddrop", "fastv", "random", "uniform"]
    let series = policies.map { policy in
      Plot.Series(
        policy,
        (PaperSchedule.operatingPoints([policy]) + [.none]).compactMap { schedule in
          comparison.costShare(schedule).flatMap { point(schedule, x: $0) }
        })
    }
    let pairs = PaperSchedule.shares.map { share in
      let points = ["pyramiddrop", "fastv"].map { PaperSchedule.share(.init(policy: $0, share: share)) }
      return verdict([points[0]], against: points[1])
    }
    return Report.Section(
      "Right answers at equal operations (the paper's figure 4)",
      [
        .text(
          "The paper's figure has PyramidDrop above FastV at every cost, by 3 points of DocVQA at 12 TFLOPs and by 6 at 8. Random and "
            + "evenly spaced dropping by PyramidDrop's schedule are the controls."),
        .plot(
          Plot(
            "Right answers by cost", x: Axis("prompt's operations, of none", unit: .percent),
            y: Axis("right", unit: .percent), series: series)),
      ] + pairs.map(Report.Block.text) + [
        .table(Table(comparison.records([.none] + PaperSchedule.operatingPoints(policies))))
      ])
  }

  private func point(_ schedule: PaperSchedule, x: Double) -> Plot.Point? {
    comparison[schedule]?.agreement.accuracy.map { Plot.Point(x, $0.share, low: $0.low, high: $0.high) }
  }

  // MARK: - In words

  /// Which of these schedules answer more or fewer questions rightly than another, beyond chance.
  private func verdict(_ schedules: [PaperSchedule], against other: PaperSchedule) -> String {
    let differences = schedules.compactMap { schedule in
      comparison.difference(schedule, from: other).map { (words: schedule.words, paired: $0) }
    }
    let sentences = differences.filter(\.paired.isSignificant).compactMap { words, paired in
      paired.interval.map { "\(words): \(points($0.difference, $0.low, $0.high))" }
    }
    guard sentences.isEmpty else {
      return "Against \(other.words), beyond chance (95%): " + sentences.joined(separator: "; ") + "."
    }
    let all = differences.compactMap { words, paired in
      paired.interval.map { "\(words) \(points($0.difference, $0.low, $0.high))" }
    }
    return "Against \(other.words), no difference beyond chance (95%): \(all.joined(separator: "; "))."
  }

  /// The same for one drop to the smallest share, by layer.
  private var singleVerdict: String {
    let smallest = [2, 8, 16, 24].map { PaperSchedule.single(layer: $0, kept: 0.1) }
    return "Here: " + verdict(smallest, against: .none)
  }
}
