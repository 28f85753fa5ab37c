import CommandLineSupport
import Evaluation
import PDrop
import Reports
import TokenDropping

/// The result of a comparison: a row for each subject, and the cheapest subject within a tolerance.
struct FidelityResult {
  let comparison: Fidelity
  /// The minimum first-token agreement.
  let tolerance: Double

  /// The mean prefill FLOPs of a subject relative to the baseline.
  func fractionOfBaseline(_ subject: Fidelity.Subject) -> Double {
    subject.prefillFlops.mean / (comparison.subjects.first?.prefillFlops.mean ?? .nan)
  }

  /// The subject with the fewest prefill FLOPs within the tolerance. The baseline is always within it.
  var cheapest: Fidelity.Subject? {
    comparison.subjects
      .filter { ($0.agreement.firstTokenAgreement?.share ?? 0) >= tolerance }
      .min { $0.prefillFlops.mean < $1.prefillFlops.mean }
  }

  /// Such as `pyramiddrop --lambda 0.6, prefill FLOPs 58.1% of baseline, first-token agreement 97.0% (95% CI …)`.
  var cheapestText: String {
    guard let cheapest, let agreement = cheapest.agreement.firstTokenAgreement else { return "none" }
    let (low, high) = (percent(agreement.low), percent(agreement.high))
    let caveat = agreement.low < tolerance ? "; the 95% CI extends below the tolerance, use more questions" : ""
    return "\(cheapest.schedule.name), prefill FLOPs \(percent(fractionOfBaseline(cheapest))) of baseline, "
      + "first-token agreement \(percent(agreement.share)) (95% CI \(low) to \(high))\(caveat)"
  }

  func model(_ subject: Fidelity.Subject) -> VisionLanguageModel { comparison.models[subject.model] }

  /// A row for each subject.
  var tableRows: [TableRow] {
    let cheapest = cheapestText
    return comparison.subjects.map { subject in
      let (agreement, model) = (subject.agreement, model(subject))
      return TableRow(
        [
          Field("model", .text(model.name), heading: "model"),
          Field("precision", .text(model.precision.name), heading: "precision"),
          Field("policy", .text(subject.schedule.policy.name), heading: "schedule", text: subject.schedule.title),
          Field("schedule", .text(subject.schedule.name)),
          Field("questions", .integer(agreement.questions), heading: "questions"),
        ] + agreementFields(agreement) + costFields(subject) + [
          Field("threads", .integer(comparison.threads)),
          Field("backend_reason", .text(model.precision.reason), .note(heading: "backend")),
          Field(
            "cheapest", .text(cheapest),
            .note(heading: "cheapest with first-token agreement of at least \(percent(tolerance))")),
        ])
    }
  }

  private func agreementFields(_ agreement: Agreement) -> [Field] {
    let (first, accuracy) = (agreement.firstTokenAgreement, agreement.accuracy)
    let differences = agreement.firstDifferences
    let answers = Double(agreement.sameAnswers) / Double(max(1, agreement.questions))
    return [
      Field(
        "first_token_agreement", first.map { .number($0.share) } ?? .none, heading: "first-token agreement",
        text: first.map { percent($0.share) } ?? ""),
      Field("first_token_agreement_low", first.map { .number($0.low) } ?? .none),
      Field("first_token_agreement_high", first.map { .number($0.high) } ?? .none),
      Field("mean_kl", agreement.meanDivergence, heading: "KL (nats)", decimals: 5),
      Field("same_answer", .number(answers), heading: "same answer", text: percent(answers)),
      Field(
        "first_differing_token", differences.isEmpty ? nil : Sample(differences.map(Double.init)).median,
        heading: "first differing token (median)", decimals: 0),
      Field("first_differing_tokens", .integers(differences)),
      Field(
        "accuracy", accuracy.map { .number($0.share) } ?? .none, heading: "accuracy (95% CI)",
        text: accuracy.map(intervalText) ?? ""),
    ]
  }

  private func costFields(_ subject: Fidelity.Subject) -> [Field] {
    let fraction = fractionOfBaseline(subject)
    return [
      Field("prompt_gflop", subject.prefillFlops.mean / 1e9, heading: "prefill GFLOPs", decimals: 2),
      Field(
        "prompt_share", .number(fraction), heading: "prefill FLOPs (% of baseline)", text: percent(fraction)),
      Field("kv_bytes", .number(subject.cacheBytes.mean)),
      Field("milliseconds", subject.milliseconds.median, heading: "ms/question", decimals: 1),
    ]
  }
}

/// `0.123` as `12.3%`.
func percent(_ fraction: Double) -> String { (100 * fraction).formatted(1) + "%" }

/// `44.0% (40.1 to 48.0)`.
func intervalText(_ proportion: (share: Double, low: Double, high: Double)) -> String {
  "\(percent(proportion.share)) (\((100 * proportion.low).formatted(1)) to \((100 * proportion.high).formatted(1)))"
}

/// The cost of schedules and the agreement of their answers as a report.
struct FidelityReport {
  let result: FidelityResult

  var report: Report {
    let subjects = result.comparison.subjects
    let count = subjects.first?.agreement.questions ?? 0
    let baseline = subjects.first.map { "\($0.schedule.title), \(result.model($0).precision.name)" } ?? "none"
    return Report(
      "Cost and agreement of schedules",
      summary:
        "Cheapest schedule with at least \(percent(result.tolerance)) first-token agreement: \(result.cheapestText).",
      sections: [
        Report.Section(
          "Agreement against cost",
          [
            .text(
              "\(count) questions. The baseline is \(baseline). Prefill FLOPs are those of the decoder's layers, "
                + "ranking included, counted in the kernels. Error bars are 95% confidence intervals."
            ),
            .plot(agreementPlot), .plot(divergencePlot),
          ]),
        Report.Section("All numbers", [.table(Table(result.tableRows))]),
      ],
      metadata: Report.Metadata.measured() + [
        Report.Metadata("model", Set(result.comparison.models.map(\.name)).sorted().joined(separator: ", ")),
        Report.Metadata("compute", result.comparison.models.map(\.precision.reason).joined(separator: "; ")),
      ])
  }

  private var costAxis: Axis { Axis("prefill FLOPs (% of baseline)", unit: .percent) }

  private var agreementPlot: Plot {
    Plot(
      "First-token agreement",
      caption: "Upper left is better. The tolerance is \(percent(result.tolerance)).", x: costAxis,
      y: Axis("first-token agreement", unit: .percent, reaches: [1]),
      series: series { subject in
        guard let agreement = subject.agreement.firstTokenAgreement else { return nil }
        return Plot.Point(
          result.fractionOfBaseline(subject), agreement.share, low: agreement.low, high: agreement.high)
      })
  }

  private var divergencePlot: Plot {
    Plot(
      "KL divergence of the first token",
      caption: "Mean Kullback-Leibler divergence from the baseline; the baseline itself is not shown.", x: costAxis,
      y: Axis("KL (nats)", isLogarithmic: true),
      series: series { subject in
        guard let divergence = subject.agreement.meanDivergence, divergence > 0 else { return nil }
        return Plot.Point(result.fractionOfBaseline(subject), divergence)
      })
  }

  /// A series for each policy in each compute type, the cheapest schedule first.
  private func series(_ point: (Fidelity.Subject) -> Plot.Point?) -> [Plot.Series] {
    var series: [Plot.Series] = []
    let severalComputeTypes = result.comparison.models.count > 1
    for subject in result.comparison.subjects {
      let name =
        subject.schedule.policy.method + (severalComputeTypes ? " \(result.model(subject).precision.name)" : "")
      // A series without points keeps its colour, so that the colours of all plots agree.
      let index = series.firstIndex { $0.name == name } ?? series.count
      if index == series.count { series.append(Plot.Series(name, [])) }
      guard var point = point(subject) else { continue }
      let parameters = subject.schedule.title.dropFirst(subject.schedule.policy.method.count).drop { $0 == " " }
      point.label = parameters.isEmpty ? name : String(parameters)
      series[index].points.append(point)
    }
    for index in series.indices {
      // A single point is labelled with its policy; several points share a legend.
      if series[index].points.count == 1, let label = series[index].points[0].label, label != series[index].name {
        series[index].points[0].label = "\(series[index].name) \(label)"
      }
      series[index].points.sort { $0.x < $1.x }
    }
    return series
  }
}
