import ArgumentParser
import CommandLineSupport
import Evaluation
import Foundation
import PDrop
import Reports
import TokenDropping

/// `pdrop-bench tune`: the schedule that agrees best with no dropping on the user's own questions.
struct TuneCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tune",
    abstract: "Searches the schedule within a cost whose answers to your questions agree best with no dropping.",
    discussion: """
      Tries selections before the decoder, drops inside it, and both, at the target and at three quarters and half of \
      it. The schedules that no other beats in cost and agreement are printed, and the options of the best.
      """)

  @OptionGroup var arguments: QuestionArguments

  @Option(
    name: .customLong("target-flops"), help: "Maximum prefill FLOPs relative to no dropping, such as 25%.")
  var target: Fraction

  @Flag(name: .customLong("all"), help: "Print all schedules that were tried.")
  var printsAll = false

  @Option(name: [.short, .long], help: "Output format.")
  var output = TableFormat.md

  func validate() throws {
    guard target.value > 0 else { throw ValidationError("--target-flops must be more than 0") }
  }

  func run() throws {
    let model = try arguments.loadModel()
    let (questions, folder) = try arguments.questions()
    let textTokens = try arguments.longestText(questions, model)
    var schedules = [PaperSchedule.none]
    for method in CostMethod.all {
      for part in [1, 0.75, 0.5] {
        if let schedule = try method.schedule(part * target.value, for: model, textTokens: textTokens) {
          schedules.append(schedule)
        }
      }
    }
    guard schedules.count > 1 else {
      throw ValidationError("--target-flops \(percent(target.value)): no schedule costs as little with these prompts")
    }
    let comparison = try AccuracyComparison(
      model, schedules, questions, images: folder, generatedTokens: arguments.answerTokens,
      threads: arguments.threadCount)
    let tried = Array(schedules.dropFirst())
    let shown = printsAll ? tried : front(of: tried, comparison)
    try Output().write(output.rendered(comparison.tableRows(shown), name: "pdrop_tune"))
    guard let best = tried.max(by: { isWorse($0, than: $1, comparison) }), let subject = comparison[best] else {
      return
    }
    let agreement = subject.agreement.firstTokenAgreement.map(intervalText) ?? ""
    Log.write("best: --policy \(best.words), first-token agreement \(agreement) (95% CI)")
  }

  /// The order of schedules: by agreement of the first token, then by Kullback-Leibler divergence.
  private func isWorse(_ one: PaperSchedule, than other: PaperSchedule, _ comparison: AccuracyComparison) -> Bool {
    let (one, other) = (quality(one, comparison), quality(other, comparison))
    return one.agreement == other.agreement ? one.divergence > other.divergence : one.agreement < other.agreement
  }

  private func quality(
    _ schedule: PaperSchedule, _ comparison: AccuracyComparison
  ) -> (agreement: Double, divergence: Double) {
    let agreement = comparison[schedule]?.agreement
    return (agreement?.firstTokenAgreement?.share ?? 0, agreement?.meanDivergence ?? .infinity)
  }

  /// The schedules that no cheaper one agrees better than, from the most expensive.
  private func front(of schedules: [PaperSchedule], _ comparison: AccuracyComparison) -> [PaperSchedule] {
    func cost(_ schedule: PaperSchedule) -> Double { comparison.flopsOfBaseline(schedule) ?? .infinity }
    let onFront = schedules.filter { schedule in
      !schedules.contains {
        $0 != schedule && cost($0) <= cost(schedule) && isWorse(schedule, than: $0, comparison)
      }
    }
    return onFront.sorted { cost($0) > cost($1) }
  }
}
