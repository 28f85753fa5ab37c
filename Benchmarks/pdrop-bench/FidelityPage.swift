import BenchSupport
import CommandLineOptions
import PDrop
import Pages
import TokenDropping

/// What schedules cost and how far their answers stay the same, as a page.
struct FidelityPage {
  let result: FidelityResult

  var page: Page {
    let subjects = result.comparison.subjects
    let count = subjects.first?.agreement.questions ?? 0
    let reference = subjects.first.map { "\($0.schedule.name) in \(result.model($0).precision.name)" } ?? "nothing"
    return Page(
      "Cost and agreement of schedules",
      lead: "Cheapest with the same first token in \(percent(result.tolerance)) of questions: \(result.cheapestText).",
      sections: [
        Page.Section(
          "Agreement against cost",
          [
            .text(
              "\(count) questions; every schedule is compared with \(reference). Cost is what the decoder's layers spend on "
                + "the prompt, ranking included, counted at the kernels. Bars are 95% intervals: few questions, long bars."
            ),
            .plot(agreementPlot), .plot(divergencePlot),
          ]),
        Page.Section("All numbers", [.table(Table(result.records))]),
      ],
      facts: Page.Fact.made() + [
        Page.Fact("model", Set(result.comparison.models.map(\.name)).sorted().joined(separator: ", ")),
        Page.Fact("arithmetic", result.comparison.models.map(\.precision.reason).joined(separator: "; ")),
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
    let severalArithmetics = result.comparison.models.count > 1
    for subject in result.comparison.subjects {
      let name = subject.schedule.policy.name + (severalArithmetics ? " \(result.model(subject).precision.name)" : "")
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
