import CommandLineOptions
import Foundation
import PDrop

/// What `-v` and `--verbose-prompt` print on stderr.
enum Report {
  /// The model, in a line, and its unused tensors.
  static func model(_ model: VisionLanguageModel, _ options: ModelOptions) {
    let megabytes = model.weightBytes / 1_000_000
    Log.write(
      "model \(model.name), \(megabytes) MB of weights, \(model.layerCount) layers, \(model.precision.reason), "
        + "\(options.threadCount) threads, pictures: \(model.preprocessor.mode.rawValue), prompt: \(model.templateChoice)"
    )
    if let tower = model.visionTower { Log.write("vision tower: the weights in \(tower)") }
    if let report = model.weightsCache, !report.hasFailed { Log.write("weights cache: \(report)") }
    unusedTensors(of: model)
  }

  /// Stored tensors that the model has no use for, the first few by name.
  static func unusedTensors(of model: VisionLanguageModel) {
    for name in model.unusedTensors.prefix(8) { Log.write("note: the tensor '\(name)' is not used") }
    if model.unusedTensors.count > 8 { Log.write("note: nor are \(model.unusedTensors.count - 8) more") }
  }

  /// A warning where the prompt format is a guess, which may spoil every answer.
  static func guess(_ model: VisionLanguageModel) {
    guard model.templateChoice.isGuess else { return }
    Log.write(
      "warning: \(model.name) has no chat template and nothing names its family; taking \(model.template.name), "
        + "name another by --chat-template if answers are strange")
  }

  /// The prompt as the model reads it, and its tokens, runs of image tokens as `<image>`.
  static func prompt(_ request: Request, _ model: VisionLanguageModel) throws {
    let tokens = try model.tokens(of: request.prompt, systemText: request.systemText)
    let text = try model.rendered(request.prompt, systemText: request.systemText)
    Log.write("prompt (\(model.templateChoice)): \(text.debugDescription)")
    Log.write("tokens: \(tokens.map(String.init).joined(separator: " "))")
  }

  /// Tokens kept, FLOPs and time of a run, and what the model's feature cache has done so far.
  static func run(_ report: RunReport, of model: VisionLanguageModel) {
    let kept = report.visualTokensPerStage.map(String.init).joined(separator: " -> ")
    let averages = String(
      format: " (%.1f mean of layers, %.1f of stages)", report.averageVisualTokens, report.stageAverageVisualTokens)
    Log.write("policy \(report.policy.description): visual tokens \(kept)\(report.stages.isEmpty ? "" : averages)")
    let spent = report.flops.prefill + report.flops.rank
    let saved = 100 * (1 - Double(spent) / Double(max(1, report.flopsWithoutDropping)))
    Log.write(
      String(
        format: "FLOPs counted: prompt %.3f G (%.1f%% less than without dropping), tower %.3f G, decoding %.3f G",
        Double(spent) / 1e9, saved, Double(report.flops.encode + report.flops.project) / 1e9,
        Double(report.flops.decode + report.flops.head) / 1e9))
    let time = report.milliseconds
    Log.write(
      String(
        format:
          "time: load %.0f ms, picture %.0f, tower %.0f, prompt %.0f, ranking %.1f, decoding %.0f (%d tokens), all %.0f",
        time.load, time.decodeImage + time.preprocess, time.encode + time.project, time.prefill, time.rank, time.decode,
        report.tokens.count, time.total))
    Log.write(
      String(
        format: "memory: cache %.1f MB, process at its peak %.0f MB", Double(report.cacheBytes) / 1e6,
        Double(report.peakResidentBytes) / 1e6))
    if let cache = model.featureCacheReport { Log.write(BatchSummary.line(cache)) }
  }
}
