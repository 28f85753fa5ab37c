import BenchSupport
import CommandLineOptions
import PDrop
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
  ///   - folder: Of the questions' pictures.
  init(
    _ model: VisionLanguageModel, _ schedules: [PaperSchedule], _ questions: [LabelledQuestion],
    pictures folder: String,
    generatedTokens: Int, threads: Int
  ) throws {
    self.model = model
    var fidelity = Fidelity(
      models: [model], schedules: try schedules.map { try NamedSchedule($0.words) }, generatedTokens: generatedTokens,
      threads: threads)
    for (number, question) in questions.enumerated() {
      try fidelity.ask(question, pictures: folder)
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
    return subject.promptFlops.mean / none.promptFlops.mean
  }

  /// How a schedule's right answers differ from another's.
  func difference(_ schedule: PaperSchedule, from other: PaperSchedule) -> PairedDifference? {
    guard let subject = self[schedule], let other = self[other] else { return nil }
    return PairedDifference(subject.right, other.right)
  }

  /// A row for each of these schedules.
  func records(_ schedules: [PaperSchedule]) -> [Record] {
    schedules.compactMap { schedule in
      guard let subject = self[schedule], let cost = costShare(schedule) else { return nil }
      let (agreement, accuracy) = (subject.agreement, subject.agreement.accuracy)
      let difference = difference(schedule, from: .none)?.interval
      return Record([
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
  func familyRecords(_ schedules: [PaperSchedule]) -> [Record] {
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
      return Record(
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
