import CommandLineOptions
import Foundation
import PDrop

/// What `pdrop-run check` prints about a case for people.
enum CheckText {
  /// A heading, a line for each stage, and what is to be said about the first that departs.
  static func lines(_ report: CaseReport) -> String {
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
    if let end = report.end { lines.append("  not run to the end: \(end)") }
    // Names and texts come from the reference's files.
    return lines.map { Log.oneLine($0) + "\n" }.joined()
  }

  /// The largest difference and what is allowed.
  private static func difference(_ result: StageResult) -> String {
    guard result.difference.isFinite else {
      return result.place?.coordinates.isEmpty == true ? "of another size" : "not a number"
    }
    let found = String(format: "%.3g", result.difference)
    return switch result.allowance {
    case .none: result.agrees ? "equal" : String(format: "%.0f differ", result.difference)
    case .absolute(let limit): "\(found), \(number(limit)) allowed"
    case .relative(let limit): "\(found) relative, \(number(limit)) allowed"
    case .mean(let limit): "\(found) on average, \(number(limit)) allowed"
    }
  }

  /// Which run and stage, by how much, where, and what was expected and found there.
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
    let picture = stage.picture ?? ""
    let layer = stage.layer.map(String.init) ?? ""
    return switch stage.kind {
    case .prompt: "prompt"
    case .promptTokens: "prompt tokens"
    case .pixels: "pixels of \(picture)"
    case .pixelValues: "normalised pixels of \(picture)"
    case .towerInput: "tower's embedding of \(picture)"
    case .towerOutput: "tower's feature layer of \(picture)"
    case .features: "features of \(picture)"
    case .imageSpans: "places of pictures"
    case .sequenceLength: "sequence length"
    case .embedding: "embedding of the last token"
    case .layers: stage.layers.map { "layers \($0.lowerBound) to \($0.upperBound)" } ?? "layers"
    case .drop: "drop before layer \(layer)"
    case .scores: "scores of \(picture) before layer \(layer)"
    case .kept: "tokens of \(picture) kept from layer \(layer)"
    case .cacheLengthsAfterPrompt: "cache lengths after the prompt"
    case .lastLogits: "logits after the prompt"
    case .tokens: "generated tokens"
    case .finalLogits: "logits of the last token"
    case .text: "answer"
    case .cacheLengthsAtEnd: "cache lengths at the end"
    }
  }
}
