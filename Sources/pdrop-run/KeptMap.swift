import ArgumentParser
import CommandLineSupport
import Foundation
import ImageProcessing
import PDrop
import Reports

/// Options of the kept-token map.
struct KeptMapOptions: ParsableArguments {
  /// The file format, from the file name extension.
  enum Form: String, CaseIterable { case png, svg, html }

  @Option(
    name: .customLong("kept-map"),
    help: ArgumentHelp(
      "File for the image with dropped patches dimmed, one panel per stage: .png, .svg or .html.",
      valueName: "file"))
  var path: String?

  @Flag(name: .customLong("kept-map-scores"), help: "With --kept-map: colour patches by score.")
  var showsScores = false

  private var form: Form? { path.flatMap { Form(rawValue: URL(filePath: $0).pathExtension.lowercased()) } }

  func validate() throws {
    guard path != nil || !showsScores else {
      throw ValidationError("--kept-map-scores requires --kept-map")
    }
    guard path == nil || form != nil else {
      throw ValidationError("--kept-map writes .png, .svg or .html; found '\(path ?? "")'")
    }
  }

  /// Checks the combination with other options.
  func validate(with question: QuestionOptions, _ batch: BatchOptions) throws {
    guard path == nil || !(question.interactive || batch.input != nil || batch.imageFolder != nil) else {
      throw ValidationError(
        "--kept-map draws one answer, --interactive, --input and --image-folder produce many; leave out one of them")
    }
  }

  /// Checks that the file is writable; call before the model is loaded.
  ///
  /// - Parameter inputs: Files of the run that it must not replace.
  func check(keeping inputs: [String]) throws {
    if let path { try Output.checkWritable(path, keeping: inputs) }
  }

  /// Draws the maps of all images of a question.
  func write(_ session: borrowing Session, _ request: Request, prompt: String) throws {
    guard let path, let form else { return }
    // Also the images of a conversation.
    try Output.checkWritable(path, keeping: request.images.flatMap(\.files))
    let (maps, report) = (try session.keptMaps, session.report)
    guard !maps.isEmpty else { throw FileArgumentError("\(path): nothing to draw; the question has no image") }
    let policy = report.policy.summary
    let figures = zip(request.images, maps).enumerated().map { index, part in
      KeptMapFigure("\(part.0.name ?? "image \(index + 1)"), \(policy)", part.1, showsScores: showsScores)
    }
    switch form {
    case .png:
      var encoder = ImageEncoder()
      encoder.description = figures.map(\.summary).joined(separator: "\n")
      let image = Image.stacked(maps.map { $0.painted(showsScores: showsScores) })
      try Output.write(Data(encoder.png(image)), toFile: path)
    case .svg: try Output.write(Data(KeptMapFile.svg(figures).utf8), toFile: path)
    case .html:
      try Output.write(Data(KeptMapReport.report(figures, report, prompt: prompt).html.utf8), toFile: path)
    }
  }
}

extension Request.Image {
  /// The paths of its files.
  fileprivate var files: [String] {
    switch self {
    case .file(let path): [path]
    case .videoFrames(let paths): paths
    case .encoded, .decoded, .features: []
    }
  }

  /// The file name or given name; `nil` for none.
  fileprivate var name: String? {
    switch self {
    case .file(let path): URL(filePath: path).lastPathComponent
    case .encoded(_, let name): name
    case .videoFrames(let paths):
      paths.first.map { "video of \(paths.count) frames from \(URL(filePath: $0).lastPathComponent)" }
    case .decoded, .features: nil
    }
  }
}

/// The HTML report of one answer: the text, the kept-token maps, and plots of kept tokens by row and column.
enum KeptMapReport {
  static func report(_ figures: [KeptMapFigure], _ report: RunReport, prompt: String) -> Report {
    let kept = report.visualTokensPerStage.map(String.init).joined(separator: ", then ")
    return Report(
      "Visual tokens kept by \(report.policy.method)",
      summary: "Visual tokens: \(kept). Policy: \(report.policy.summary).",
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
    "Dropped patches are dimmed; with scores, they have no white edge. The bars right of and below an image count the "
    + "kept patches of each row and column. Hover over a patch for its row, column, score and rank."

  /// The kept percentage by row and by column of each region; a slope that no question explains is position bias.
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
            y: Axis("kept", unit: .percent, reaches: [0]),
            series: zip(map.stages, lists).map { stage, list in
              Plot.Series(
                stage.layer == 0 ? "selected" : "layer \(stage.layer)",
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
