import CommandLineSupport
import Evaluation
import PDrop
import Reports
import TokenDropping

/// What a comparison found: a row for each way to answer, and the cheapest that stays within a tolerance.
struct FidelityResult {
  let comparison: Fidelity
  /// The smallest share of questions whose first token has to be the same.
  let tolerance: Double

  /// A subject's mean operations over the first one's.
  func costShare(_ subject: Fidelity.Subject) -> Double {
    subject.prefillFlops.mean / (comparison.subjects.first?.prefillFlops.mean ?? .nan)
  }

  /// The subject with the fewest operations of those within the tolerance; the first one, which always is, if no other.
  var cheapest: Fidelity.Subject? {
    comparison.subjects
      .filter { ($0.agreement.firstTokenAgreement?.share ?? 0) >= tolerance }
      .min { $0.prefillFlops.mean < $1.prefillFlops.mean }
  }

  /// The same in words: `pyramiddrop --lambda 0.6, 58.1% of the cost, same first token in 97.0% (93.1% to 98.7%)`.
  var cheapestText: String {
    guard let cheapest, let agreement = cheapest.agreement.firstTokenAgreement else { return "none" }
    let (low, high) = (percent(agreement.low), percent(agreement.high))
    let doubt = agreement.low < tolerance ? "; the 95% interval reaches below the tolerance, ask more questions" : ""
    return "\(cheapest.schedule.name), \(percent(costShare(cheapest))) of the prompt's operations, "
      + "same first token in \(percent(agreement.share)) (\(low) to \(high))\(doubt)"
  }

  func model(_ subject: Fidelity.Subject) -> VisionLanguageModel { comparison.models[subject.model] }

  /// A row for each subject.
  var records: [TableRow] {
    let cheapest = cheapestText
    return comparison.subjects.map { subject in
      let (agreement, model) = (subject.agreement, model(subject))
      return TableRow(
        [
          Field("model", .text(model.name), heading: "model"),
          Field("precision", .text(model.precision.name), heading: "precision"),
          Field("policy", .text(subject.schedule.policy.name), heading: "policy", text: subject.schedule.name),
          Field("schedule", .text(subject.schedule.name)),
          Field("questions", .integer(agreement.questions), heading: "questions"),
        ] + agreementFields(agreement) + costFields(subject) + [
          Field("threads", .integer(comparison.threads)),
          Field("backend_reason", .text(model.precision.reason), .note(heading: "backend")),
          Field(
            "cheapest", .text(cheapest), .note(heading: "cheapest with the same first token in \(percent(tolerance))")),
        ])
    }
  }

  private func agreementFields(_ agreement: Agreement) -> [Field] {
    let (first, accuracy) = (agreement.firstTokenAgreement, agreement.accuracy)
    let differences = agreement.firstDifferences
    let answers = Double(agreement.sameAnswers) / Double(max(1, agreement.questions))
    return [
      Field(
        "same_first_token", first.map { .number($0.share) } ?? .none, heading: "same first token",
        text: first.map { percent($0.share) } ?? ""),
      Field("same_first_token_low", first.map { .number($0.low) } ?? .none),
      Field("same_first_token_high", first.map { .number($0.high) } ?? .none),
      Field("mean_kl", agreement.meanDivergence, heading: "KL, nats", decimals: 5),
      Field("same_answer", .number(answers), heading: "same answer", text: percent(answers)),
      Field(
        "first_differing_token", differences.isEmpty ? nil : Sample(differences.map(Double.init)).median,
        heading: "differs at token", decimals: 0),
      Field("first_differing_tokens", .integers(differences)),
      Field(
        "accuracy", accuracy.map { .number($0.share) } ?? .none, heading: "right (95% interval)",
        text: accuracy.map { "\(percent($0.share)) (\(percent($0.low)) to \(percent($0.high)))" } ?? ""),
    ]
  }

  private func costFields(_ subject: Fidelity.Subject) -> [Field] {
    let share = costShare(subject)
    return [
      Field("prompt_gflop", subject.prefillFlops.mean / 1e9, heading: "prompt GFLOP", decimals: 2),
      Field("prompt_share", .number(share), heading: "of the first", text: percent(share)),
      Field("kv_bytes", .number(subject.cacheBytes.mean)),
      Field("milliseconds", subject.milliseconds.median, heading: "ms a question", decimals: 1),
    ]
  }
}

/// `0.123` as `12.3%`.
func percent(_ share: Double) -> String { (100 * share).formatted(1) + "%" }

/// What schedules cost and how far their answers stay the same, as a page.
struct FidelityReport {
  let result: FidelityResult

  var report: Report {
    let subjects = result.comparison.subjects
    let count = subjects.first?.agreement.questions ?? 0
    let reference = subjects.first.map { "\($0.schedule.name) in \(result.model($0).precision.name)" } ?? "nothing"
    return Report(
      "Cost and agreement of schedules",
      summary:
        "Cheapest with the same first token in \(percent(result.tolerance)) of questions: \(result.cheapestText).",
      sections: [
        Report.Section(
          "Agreement against cost",
          [
            .text(
              "\(count) questions; every schedule is compared with \(reference). Cost is what the decoder's layers spend on "
                + "the prompt, ranking included, counted at the kernels. Bars are 95% intervals: few questions, long bars."
            ),
            .plot(agreementPlot), .plot(divergencePlot),
          ]),
        Report.Section("All numbers", [.table(Table(result.records))]),
      ],
      metadata: Report.Metadata.made() + [
        Report.Metadata("model", Set(result.comparison.models.map(\.name)).sorted().joined(separator: ", ")),
        Report.Metadata("arithmetic", result.comparison.models.map(\.precision.reason).joined(separator: "; ")),
      ])
  }

  private var costAxis: Axis { Axis("prompt's operations, of the first schedule's", unit: .percent) }

  private var agreementPlot: Plot {
    Plot(
      "First token the same as without dropping",
      caption: "Up and left is better. The tolerance is \(percent(result.tolerance)).", x: costAxis,
      y: Axis("same first token", unit: .percent, reaches: [1]),
      series: series { subject in
        guard let agreement = subject.agreement.firstTokenAgreement else { return nil }
        return Plot.Point(
          result.costShare(subject), agreement.share, low: agreement.low, high: agreement.high)
      })
  }

  private var divergencePlot: Plot {
    Plot(
      "Divergence of the first token",
      caption: "Mean Kullback-Leibler divergence from the first schedule, which has none and is left out.", x: costAxis,
      y: Axis("KL, nats", isLogarithmic: true),
      series: series { subject in
        guard let divergence = subject.agreement.meanDivergence, divergence > 0 else { return nil }
        return Plot.Point(result.costShare(subject), divergence)
      })
  }

  /// A series for each policy in each arithmetic, the cheapest schedule first.
  private func series(_ point: (Fidelity.Subject) -> Plot.Point?) -> [Plot.Series] {
    var series: [Plot.Series] = []
    let severalComputeTypes = result.comparison.models.count > 1
    for subject in result.comparison.subjects {
      let name = subject.schedule.policy.name + (severalComputeTypes ? " \(result.model(subject).precision.name)" : "")
      // A series without points keeps its colour for itself, so that the others' are the same in every plot.
      let index = series.firstIndex { $0.name == name } ?? series.count
      if index == series.count { series.append(Plot.Series(name, [])) }
      guard var point = point(subject) else { continue }
      point.label = subject.schedule.parameters.isEmpty ? name : subject.schedule.parameters
      series[index].points.append(point)
    }
    for index in series.indices {
      // A point alone says which policy it is; several share a legend.
      if series[index].points.count == 1, let label = series[index].points[0].label, label != series[index].name {
        series[index].points[0].label = "\(series[index].name) \(label)"
      }
      series[index].points.sort { $0.x < $1.x }
    }
    return series
  }
}
