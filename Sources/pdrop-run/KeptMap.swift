import ArgumentParser
import CommandLineSupport
import Foundation
import ImageProcessing
import PDrop
import Reports

/// Whether to draw which visual tokens stayed, and how.
struct KeptMapOptions: ParsableArguments {
  /// What a file is written as, by its name's ending.
  enum Form: String, CaseIterable { case png, svg, html }

  @Option(
    name: .customLong("kept-map"),
    help: ArgumentHelp(
      "File for the image with dropped patches dimmed, a panel for each stage: .png, .svg or .html.",
      valueName: "file"))
  var path: String?

  @Flag(name: .customLong("kept-map-scores"), help: "With --kept-map: give patches the colours of their scores.")
  var showsScores = false

  private var form: Form? { path.flatMap { Form(rawValue: URL(filePath: $0).pathExtension.lowercased()) } }

  func validate() throws {
    guard path != nil || !showsScores else {
      throw ValidationError("--kept-map-scores colours the file of --kept-map; give that too")
    }
    guard path == nil || form != nil else {
      throw ValidationError("--kept-map writes .png, .svg or .html; found '\(path ?? "")'")
    }
  }

  /// Checks what goes with what.
  func validate(with question: QuestionOptions, _ batch: BatchOptions) throws {
    guard path == nil || !(question.interactive || batch.input != nil || batch.imageFolder != nil) else {
      throw ValidationError(
        "--kept-map draws one answer, --interactive, --input and --image-folder give many; leave out one of them")
    }
  }

  /// Checks the file before the model is loaded.
  func check() throws {
    if let path { try Output.checkFolder(of: path) }
  }

  /// Draws the images of a question.
  func write(_ session: borrowing Session, _ request: Request, prompt: String) throws {
    guard let path, let form else { return }
    let (maps, report) = (try session.keptMaps, session.report)
    guard !maps.isEmpty else { throw FileArgumentError("\(path): there is nothing to draw; the question has no image") }
    let policy = report.policy.summary
    let figures = zip(request.images, maps).enumerated().map { index, part in
      KeptMapFigure("\(part.0.name ?? "image \(index + 1)"), \(policy)", part.1, showsScores: showsScores)
    }
    switch form {
    case .png:
      var encoder = ImageEncoder()
      encoder.description = figures.map(\.summary).joined(separator: "\n")
      let image = Image.stacked(maps.map { $0.painted(showsScores: showsScores) })
      try Output(path: path).write(Data(encoder.png(image)))
    case .svg: try Output(path: path).write(KeptMapFile.svg(figures))
    case .html: try Output(path: path).write(KeptMapReport.report(figures, report, prompt: prompt).html)
    }
  }
}

extension Request.Image {
  /// What people call it.
  fileprivate var name: String? {
    switch self {
    case .file(let path): URL(filePath: path).lastPathComponent
    case .encoded(_, let name): name
    case .decoded, .features: nil
    }
  }
}

/// One answer's kept maps as a page: the answer, the panels, and where in the image tokens stay.
enum KeptMapReport {
  static func report(_ figures: [KeptMapFigure], _ report: RunReport, prompt: String) -> Report {
    let kept = report.visualTokensPerStage.map(String.init).joined(separator: ", then ")
    return Report(
      "What \(report.policy.method) kept", summary: "Visual tokens: \(kept). Policy: \(report.policy.summary).",
      sections: [
        Report.Section("Prompt and answer", [.text("Prompt: \(prompt)"), .text("Answer: \(report.text)")])
      ]
        + figures.enumerated().map { index, figure in
          Report.Section(
            figures.count > 1 ? "Image \(index + 1)" : "Image",
            [.text(howToRead), .keptMap(figure)] + plots(figure.map))
        },
      metadata: [
        Report.Metadata("model", "\(report.model), \(report.precision)"),
        Report.Metadata("command", CommandText.current),
      ])
  }

  private static let howToRead =
    "Dropped patches are dimmed, or, where scores are shown, have no white edge. The bars right of and below an image count "
    + "what stays of each row and column. A patch that is pointed at says its row, column, score and rank."

  /// For each region, the shares of its rows and columns that stay: where no question plays a part, a slope is position bias.
  private static func plots(_ map: KeptMap) -> [Report.Block] {
    guard !map.stages.isEmpty else { return [] }
    return map.regions.indices.flatMap { index in
      let region = map.regions[index]
      let counts = map.stages.map { map.keptCounts($0, inRegion: index) }
      func plot(_ name: String, _ lists: [[Int]], of all: Int) -> Report.Block {
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
