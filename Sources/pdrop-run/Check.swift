import ArgumentParser
import CommandLineSupport
import Foundation
import PDrop
import Verification

/// `pdrop-run check`: a model compared with reference vectors, stage by stage.
struct Check: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compares a model with the results of the reference library, stage by stage.",
    discussion: """
      Prints the largest difference of every stage in the reference, and a likely cause for the first stage that \
      departs. Exit status: 0 if all stages agree, 1 if one departs. Models/make_reference.py writes a reference.
      """)

  @OptionGroup(title: "Model") var modelOptions: ModelOptions

  @Option(
    help: """
      Folder of the reference. (default: the folder reference in the model directory, or the nearest folder above it \
      with cases named after the model directory)
      """)
  var reference: String?

  @Option(name: .customLong("case"), parsing: .upToNextOption, help: "Cases to run. (default: all)")
  var cases: [String] = []

  @Option(help: "Output: text, or one JSON object per case.")
  var format = Answer.Format.text

  func run() throws {
    let directory = try modelOptions.directory()
    let model = try modelOptions.load()
    let folder =
      try reference.map { try ReferenceFolder($0, model: model.name, ggufFiles: model.ggufFiles) }
      ?? ReferenceFolder(besideModel: directory, ggufFiles: model.ggufFiles)
    if let unknown = cases.first(where: { !folder.caseNames.contains($0) }) {
      throw ValidationError(
        "--case '\(unknown)' does not exist; use one of \(folder.caseNames.joined(separator: ", "))")
    }
    VerboseLog.notes(of: model)
    let check = ModelCheck(model, folder, threads: modelOptions.threadCount)
    let names = cases.isEmpty ? folder.caseNames : cases
    // Reports unreadable files before the work.
    for name in names { try check.validate(name) }

    let output = Output()
    var departed = 0
    for name in names {
      let report = try check.report(on: name)
      if !report.agrees { departed += 1 }
      switch format {
      case .text: try output.write(CheckText.lines(report))
      case .json: try JSONLine.print(CheckOutput(report))
      }
    }
    if departed > 0 {
      Log.write("\(departed) of \(names.count) cases depart from the reference")
      throw ExitCode(ExitStatus.someFailed.rawValue)
    }
  }
}

/// The text output of `pdrop-run check` for one case.
enum CheckText {
  /// A heading, a line per stage, and the first departure with its likely cause.
  static func lines(_ report: CaseResult) -> String {
    var lines = ["\(report.model), case \(report.name)"]
    let width = report.stages.map { name(of: $0.stage).count }.max() ?? 0
    var run: String?
    for result in report.stages {
      if result.stage.run != run, let name = result.stage.run { lines.append("  run \(name)") }
      run = result.stage.run
      let name = name(of: result.stage)
      let padding = String(repeating: " ", count: width - name.count)
      lines.append("    \(name)\(padding)  \(difference(result))\(result.agrees ? "" : "  DEPARTS")")
    }
    if let departure = report.departure {
      lines.append("  first departure: " + sentence(departure))
      lines.append("  likely cause: \(report.likelyCause ?? "")")
    } else {
      lines.append("  all \(report.stages.count) stages agree")
    }
    if let end = report.end { lines.append("  stopped early: \(end)") }
    // Names and texts in reference files are untrusted input.
    return lines.map { Log.oneLine($0) + "\n" }.joined()
  }

  /// The largest difference and the tolerance.
  private static func difference(_ result: StageResult) -> String {
    guard result.difference.isFinite else {
      return result.place?.coordinates.isEmpty == true ? "different size" : "not a number"
    }
    let found = String(format: "%.3g", result.difference)
    return switch result.tolerance {
    case .none: result.agrees ? "equal" : String(format: "%.0f differ", result.difference)
    case .absolute(let limit): "\(found), \(number(limit)) allowed"
    case .relative(let limit): "\(found) relative, \(number(limit)) allowed"
    case .mean(let limit): "\(found) on average, \(number(limit)) allowed"
    }
  }

  /// Run, stage, difference, place, and the expected and found values of a departure.
  private static func sentence(_ result: StageResult) -> String {
    var text = result.stage.run.map { "run \($0), " } ?? ""
    text += "\(name(of: result.stage)), \(difference(result))"
    guard let place = result.place else { return text }
    let coordinates = place.coordinates.map { "\($0.axis) \($0.index)" }.joined(separator: ", ")
    return text + (coordinates.isEmpty ? "" : ", at \(coordinates)")
      + ": expected \(place.expected), found \(place.found)"
  }

  private static func number(_ limit: Double) -> String { String(format: "%g", limit) }

  private static func name(of stage: CheckStage) -> String {
    let image = stage.image ?? ""
    let layer = stage.layer.map(String.init) ?? ""
    return switch stage.kind {
    case .prompt: "prompt"
    case .promptTokens: "prompt tokens"
    case .pixels: "pixels of \(image)"
    case .pixelValues: "normalised pixels of \(image)"
    case .visionEncoderInput: "vision encoder embedding of \(image)"
    case .visionEncoderOutput: "vision encoder feature layer of \(image)"
    case .features: "features of \(image)"
    case .imageSpans: "image spans"
    case .sequenceLength: "sequence length"
    case .embedding: "embedding of the last token"
    case .layers: stage.layers.map { "layers \($0.lowerBound) to \($0.upperBound)" } ?? "layers"
    case .drop: "drop before layer \(layer)"
    case .scores: "scores of \(image) before layer \(layer)"
    case .kept: "tokens of \(image) kept from layer \(layer)"
    case .cacheLengthsAfterPrompt: "KV cache lengths after prefill"
    case .lastLogits: "logits after prefill"
    case .tokens: "generated tokens"
    case .finalLogits: "logits of the last token"
    case .text: "answer"
    case .cacheLengthsAtEnd: "KV cache lengths at the end"
    }
  }
}

/// The JSON output of `pdrop-run check` for one case; stage names are those of the reference files.
struct CheckOutput: Encodable {
  struct Stage: Encodable {
    var stage: CheckStage.Kind
    var run: String?
    var image: String?
    /// The first and the last compared layer.
    var layers: [Int]?
    /// The layer before which the drop happens.
    var layer: Int?
    /// `equal`, `absolute`, `relative` or `mean`.
    var measure: String
    var tolerance: Double
    /// `null` for different sizes or NaN.
    var difference: Double?
    var agrees: Bool
    /// Indices by axis.
    var at: [String: Int]?
    var expected: String?
    var found: String?

    init(_ result: StageResult) {
      let stage = result.stage
      (self.stage, run, image, layer) = (stage.kind, stage.run, stage.image, stage.layer)
      layers = stage.layers.map { [$0.lowerBound, $0.upperBound] }
      measure =
        switch result.tolerance {
        case .none: "equal"
        case .absolute: "absolute"
        case .relative: "relative"
        case .mean: "mean"
        }
      tolerance = result.tolerance.limit
      difference = result.difference.isFinite ? result.difference : nil
      agrees = result.agrees
      at = result.place.map { place in
        Dictionary(place.coordinates.map { ($0.axis, $0.index) }) { first, _ in first }
      }
      (expected, found) = (result.place?.expected, result.place?.found)
    }
  }

  var model: String
  var `case`: String
  var agrees: Bool
  var stages: [Stage]
  var firstDeparture: Stage?
  var likelyCause: String?
  /// The reason why the case was not run to its end.
  var end: String?

  init(_ report: CaseResult) {
    (model, self.case, agrees, end) = (report.model, report.name, report.agrees, report.end)
    stages = report.stages.map(Stage.init)
    (firstDeparture, likelyCause) = (report.departure.map(Stage.init), report.likelyCause)
  }

  enum CodingKeys: String, CodingKey {
    case model, `case`, agrees, stages, end
    case firstDeparture = "first_departure"
    case likelyCause = "likely_cause"
  }
}
