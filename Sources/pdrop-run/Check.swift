import ArgumentParser
import CommandLineOptions
import PDrop

/// `pdrop-run check`: a model directory against reference vectors, stage by stage.
struct Check: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compares a model, stage by stage, with what the reference library computed.",
    discussion: """
      Prints the largest difference of every stage that the reference stores, and the first stage that departs with its \
      likely cause. Ends with status 0 when all agree, 1 when a stage departs. Models/make_reference.py makes a reference.
      """)

  @OptionGroup(title: "Model") var modelOptions: ModelOptions

  @Option(
    help: """
      Folder of the reference. (default: the model directory's folder reference, or the nearest folder above it with cases \
      of the directory's name)
      """)
  var reference: String?

  @Option(name: .customLong("case"), parsing: .upToNextOption, help: "Cases to run. (default: all)")
  var cases: [String] = []

  @Option(help: "Print lines for people, or a JSON object for each case: text or json.")
  var format = Answer.Format.text

  func run() throws {
    let directory = try modelOptions.directory()
    let model = try modelOptions.load()
    let folder =
      try reference.map { try ReferenceFolder($0, model: model.name) } ?? ReferenceFolder(besideModel: directory)
    if let unknown = cases.first(where: { !folder.caseNames.contains($0) }) {
      throw ValidationError("--case '\(unknown)' is not there; use one of \(folder.caseNames.joined(separator: ", "))")
    }
    Report.unusedTensors(of: model)
    let check = ModelCheck(model, folder, threads: modelOptions.threadCount)
    let names = cases.isEmpty ? folder.caseNames : cases
    // What cannot be read is said before the work.
    for name in names { try check.validate(name) }

    let output = Output()
    var departed = 0
    for name in names {
      let report = try check.report(on: name)
      if !report.agrees { departed += 1 }
      switch format {
      case .text: try output.write(CheckText.lines(report))
      case .json: try JSONLine.print(CheckRecord(report))
      }
    }
    if departed > 0 {
      Log.write("\(departed) of \(names.count) cases depart from the reference")
      throw ExitCode(ExitStatus.someFailed.rawValue)
    }
  }
}
