import CommandLineOptions
import Foundation
import PDrop
import Pages

/// One answer's kept maps as a page: the answer, the panels, and where in the picture tokens stay.
enum KeptMapPage {
  static func page(_ figures: [KeptMapFigure], _ report: RunReport, prompt: String) -> Page {
    let kept = report.visualTokensPerStage.map(String.init).joined(separator: ", then ")
    return Page(
      "What \(report.policy.method) kept", lead: "Visual tokens: \(kept). Policy: \(report.policy.summary).",
      sections: [
        Page.Section("Prompt and answer", [.text("Prompt: \(prompt)"), .text("Answer: \(report.text)")])
      ]
        + figures.enumerated().map { index, figure in
          Page.Section(
            figures.count > 1 ? "Picture \(index + 1)" : "Picture",
            [.text(howToRead), .keptMap(figure)] + plots(figure.map))
        },
      facts: [
        Page.Fact("model", "\(report.model), \(report.precision)"),
        Page.Fact("command", CommandText.current),
      ])
  }

  private static let howToRead =
    "Dropped patches are dimmed, or, where scores are shown, have no white edge. The bars right of and below a picture count "
    + "what stays of each row and column. A patch that is pointed at says its row, column, score and rank."

  /// For each region, the shares of its rows and columns that stay: where no question plays a part, a slope is position bias.
  private static func plots(_ map: KeptMap) -> [Page.Block] {
    guard !map.stages.isEmpty else { return [] }
    return map.regions.indices.flatMap { index in
      let region = map.regions[index]
      let counts = map.stages.map { map.keptCounts($0, inRegion: index) }
      func plot(_ name: String, _ lists: [[Int]], of all: Int) -> Page.Block {
        .plot(
          Plot(
            "Kept by \(name), \(region.name)",
            x: Axis("\(name) of patches, from the \(name == "row" ? "top" : "left")"),
            y: Axis("share kept", unit: .percent, reaches: [0]),
            series: zip(map.stages, lists).map { stage, list in
              Plot.Series(
                "layer \(stage.layer)",
                list.enumerated().map { Plot.Point(Double($0 + 1), Double($1) / Double(all)) })
            }))
      }
      return [
        plot("row", counts.map(\.rows), of: region.columns), plot("column", counts.map(\.columns), of: region.rows),
      ]
    }
  }
}

extension RunReport.Policy {
  /// Method and schedule: `pyramiddrop, layers 8, 16, 24 keep 0.5, 0.25, 0.125`.
  var summary: String {
    var parts = [method]
    if let layers, let keep {
      parts.append(
        "layers \(layers.map(String.init).joined(separator: ", ")) keep \(keep.map { "\($0)" }.joined(separator: ", "))"
      )
    }
    if let k, let r { parts.append("k \(k), r \(r)") }
    return parts.joined(separator: ", ")
  }
}
