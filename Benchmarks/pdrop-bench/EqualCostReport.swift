import Evaluation
import PDrop
import Reports

/// The report of a comparison at equal cost.
struct EqualCostReport {
  let comparison: AccuracyComparison
  let shares: [Double]
  /// The benchmark of the questions; `nil` for labelled questions.
  var benchmark: (any Benchmark)?

  func report(seconds: Double) -> Report {
    let questions = "\(comparison.questionCount) questions" + (benchmark.map { " of \($0.name)" } ?? "")
    return Report(
      "Selection and dropping at the same cost",
      summary:
        "\(questions) to \(comparison.model.name). Without dropping, \(quality(.none)). "
        + "The cost is that of the prefill, selection and ranking included, counted in the kernels and "
        + "relative to no dropping. For each method, the number of tokens is the largest within the cost.",
      sections: [chart] + shares.map(section) + (comparison.isScored ? [] : [families]),
      metadata: Report.Metadata.measured() + [Report.Metadata("duration", "\(seconds.formatted(0)) s")])
  }

  /// Such as `94.3% are answered correctly` or `TextVQA accuracy is 58.2`.
  private func quality(_ schedule: PaperSchedule) -> String {
    guard let quality = comparison.quality(schedule) else { return "the quality is unknown, as there are no labels" }
    return comparison.isScored
      ? "\(comparison.qualityName) is \(quality.value.formatted(1))"
      : "\(percent(quality.value)) are answered correctly"
  }

  private var chart: Report.Section {
    let unit: Axis.Unit = comparison.isScored ? .plain : .percent
    let series = CostMethod.all.map { method in
      Plot.Series(
        method.title,
        shares.compactMap { share -> Plot.Point? in
          let schedule = PaperSchedule.method(method, share: share)
          guard let quality = comparison.quality(schedule), let flops = comparison.flopsOfBaseline(schedule) else {
            return nil
          }
          return Plot.Point(flops, quality.value, low: quality.low, high: quality.high)
        })
    }
    return Report.Section(
      "Accuracy by cost",
      [
        .plot(
          Plot(
            "Accuracy by prefill FLOPs", x: Axis("prefill FLOPs (% of baseline)", unit: .percent),
            y: Axis(comparison.qualityName, unit: unit), series: series))
      ])
  }

  private func section(_ share: Double) -> Report.Section {
    let schedules = CostMethod.all.map { PaperSchedule.method($0, share: share) }.filter { comparison[$0] != nil }
    return Report.Section(
      "At \(percent(share)) of the prefill FLOPs",
      [.text(verdict(schedules, share)), .table(Table(comparison.tableRows([.none] + schedules)))])
  }

  private func text(_ quality: Double) -> String {
    comparison.isScored ? quality.formatted(1) : percent(quality)
  }

  /// The best method, and its difference from PyramidDrop at the same cost.
  private func verdict(_ schedules: [PaperSchedule], _ share: Double) -> String {
    // Without labels, agreement with no dropping takes the place of accuracy.
    func accuracy(_ schedule: PaperSchedule) -> Double {
      comparison.quality(schedule)?.value ?? comparison[schedule]?.agreement.firstTokenAgreement?.share ?? 0
    }
    func title(_ schedule: PaperSchedule) -> String {
      if case .method(let method, _) = schedule { method.title } else { schedule.words }
    }
    guard let best = schedules.max(by: { accuracy($0) < accuracy($1) }) else {
      return "No method costs as little with these prompts."
    }
    let isLabelled = comparison.quality(best) != nil
    let verdict =
      "\(isLabelled ? "Most accurate" : "Highest first-token agreement"): \(title(best)), \(text(accuracy(best)))."
    let pyramids = CostMethod.drops.dropFirst().map { PaperSchedule.method($0, share: share) }
      .filter { comparison[$0] != nil }
    guard let pyramid = pyramids.max(by: { accuracy($0) < accuracy($1) }) else {
      return verdict + " PyramidDrop alone cannot cost as little."
    }
    guard pyramid != best, !comparison.isScored, isLabelled else {
      return pyramid == best
        ? verdict : verdict + " The best drop inside the decoder: \(title(pyramid)), \(text(accuracy(pyramid)))."
    }
    guard let difference = comparison.difference(best, from: pyramid),
      let interval = difference.interval
    else { return verdict }
    let (low, high) = (interval.low, interval.high)
    return verdict + " Paired difference from \(title(pyramid)), the best drop inside the decoder: "
      + "\(points(interval.difference, low, high)), 95% CI, "
      + (difference.isSignificant ? "significant." : "not significant.")
  }

  private var families: Report.Section {
    let share = shares.min { abs($0 - 0.25) < abs($1 - 0.25) } ?? 0.25
    let schedules = CostMethod.all.map { PaperSchedule.method($0, share: share) }.filter { comparison[$0] != nil }
    return Report.Section(
      "Accuracy by question family at \(percent(share))",
      [.table(Table(comparison.familyRows([.none] + schedules), title: "Accuracy (95% CI)"))])
  }
}
