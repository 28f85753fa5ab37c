import ArgumentParser
import CommandLineOptions
import Foundation
import PDrop
import Pages

/// Whether to draw which visual tokens stayed, and how.
struct KeptMapOptions: ParsableArguments {
  /// What a file is written as, by its name's ending.
  enum Form: String, CaseIterable { case png, svg, html }

  @Option(
    name: .customLong("kept-map"),
    help: ArgumentHelp(
      "File for the picture with dropped patches dimmed, a panel for each stage: .png, .svg or .html.",
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

  /// Draws the pictures of a question.
  func write(_ session: borrowing Session, _ request: Request, prompt: String) throws {
    guard let path, let form else { return }
    let (maps, report) = (session.keptMaps, session.report)
    guard !maps.isEmpty else { throw FileProblem("\(path): there is nothing to draw; the question has no picture") }
    let policy = report.policy.summary
    let figures = zip(request.pictures, maps).enumerated().map { index, part in
      KeptMapFigure("\(part.0.name ?? "picture \(index + 1)"), \(policy)", part.1, showsScores: showsScores)
    }
    switch form {
    case .png:
      var encoder = ImageEncoder()
      encoder.description = figures.map(\.summary).joined(separator: "\n")
      let image = Image.stacked(maps.map { $0.painted(showsScores: showsScores) })
      try Output(path: path).write(Data(encoder.png(image)))
    case .svg: try Output(path: path).write(KeptMapFile.svg(figures))
    case .html: try Output(path: path).write(KeptMapPage.page(figures, report, prompt: prompt).html)
    }
  }
}

extension Request.Picture {
  /// What people call it.
  fileprivate var name: String? {
    switch self {
    case .file(let path): URL(filePath: path).lastPathComponent
    case .encoded(_, let name): name
    case .decoded, .features: nil
    }
  }
}
