import ArgumentParser
import BatchInference
import CommandLineSupport
import Evaluation
import Foundation
import ImageProcessing
import PDrop
import TokenDropping

/// `pdrop-run`: answers one question, those of a chat, or a file of them.
struct Answer: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "answer",
    abstract: "Answers a question about images, the turns of a chat, or every question of a file.")

  enum Format: String, CaseIterable, ExpressibleByArgument { case text, json }

  @OptionGroup(title: "Model") var modelOptions: ModelOptions
  @OptionGroup(title: "Question") var question: QuestionOptions
  @OptionGroup(title: "Generation") var generation: GenerationArguments

  @Option(help: ArgumentHelp("How to drop visual tokens: none, pyramiddrop, fastv, random or uniform."))
  var policy = PolicyName.pyramiddrop

  @OptionGroup(title: "Dropping") var policyOptions: PolicyOptions
  @OptionGroup(title: "Batch") var batch: BatchOptions
  @OptionGroup(title: "Known images") var featureCache: FeatureCacheArguments

  @Option(help: "Print the answer as text, or the run's whole record as JSON.")
  var format = Format.text

  @Option(help: "Directory for trace.json and trace.safetensors: what the run did, with tensors.")
  var trace: String?

  @OptionGroup(title: "Kept map") var keptMap: KeptMapOptions

  @Flag(name: .customLong("verbose-prompt"), help: "Print the prompt and its tokens on stderr.")
  var verbosePrompt = false

  @Flag(name: [.short, .long], help: "Print tokens kept, time and FLOPs on stderr.")
  var verbose = false

  func validate() throws {
    _ = try policyOptions.policy(policy, seed: generation.seed)
    try batch.validate(with: question, trace: trace)
    try keptMap.validate(with: question, batch)
    guard trace == nil || !question.interactive else {
      throw ValidationError("--trace keeps one answer, --interactive gives many; leave out one of them")
    }
  }

  func run() throws {
    // Not in validate(), where it would speak before the parser names an option that it does not know.
    guard question.isGiven || question.interactive || batch.input != nil else {
      throw ValidationError(
        batch.imageFolder == nil
          ? "nothing is asked; give a question by --prompt, --file or --chat, or many by --interactive or --input"
          : "nothing is asked; give the question about all images by --prompt, or a file of questions by --input")
    }
    let policy = try policyOptions.policy(policy, seed: generation.seed)
    var base = question.base(policy, generation.options)
    // What is wrong with its files is found before the model is loaded.
    let batchRun = try batch.run(asking: question)
    try keptMap.check()
    // A dry run neither reads nor leaves files, and measures what an image takes that is not known.
    let model = try modelOptions.load(featureCache: batch.dryRun ? nil : featureCache.options)
    // A schedule or a system prompt that does not fit the model is found before any work.
    _ = try policy.stages(layerCount: model.layerCount, visualTokenCount: 1)
    _ = try model.rendered(base.prompt, systemPrompt: base.systemPrompt)
    base.policy = model.timed(policy, threads: modelOptions.threadCount)
    if verbose { VerboseLog.model(model, modelOptions) }
    if !question.raw { VerboseLog.guess(model) }
    if let batchRun {
      try batchRun.answer(with: model, like: base, threads: modelOptions.threadCount)
    } else if question.interactive {
      var chat = InteractiveRun(
        model: model, base: base, threads: modelOptions.threadCount, format: format, verbose: verbose,
        verbosePrompt: verbosePrompt)
      try chat.run(question.images(), first: question.text())
    } else {
      try answer(question.request(like: base), with: model)
    }
  }

  /// Answers one question, its words printed as they become certain.
  private func answer(_ request: Request, with model: VisionLanguageModel) throws {
    var request = request
    request.recordsTensors = trace != nil || keptMap.path != nil
    if verbosePrompt { try VerboseLog.prompt(request, model) }
    var session = try Session(model, request, threads: modelOptions.threadCount)
    let output = Output()
    while let piece = try session.next() {
      if format == .text { try output.write(piece) }
    }
    let report = session.report
    switch format {
    case .text: try output.write("\n")
    case .json: try JSONLine.print(report)
    }
    if let trace { try session.writeTrace(to: trace) }
    try keptMap.write(session, request, prompt: model.rendered(request.prompt, systemPrompt: request.systemPrompt))
    if verbose { VerboseLog.run(report, of: model) }
  }
}

/// What `-v` and `--verbose-prompt` print on stderr.
enum VerboseLog {
  /// The model, in a line, and its unused tensors.
  static func model(_ model: VisionLanguageModel, _ options: ModelOptions) {
    let megabytes = model.weightBytes / 1_000_000
    Log.write(
      "model \(model.name), \(megabytes) MB of weights, \(model.layerCount) layers, \(model.precision.reason), "
        + "\(options.threadCount) threads, images: \(model.preprocessor.mode.rawValue), prompt: \(model.templateDetection)"
    )
    if let visionTower = model.visionTower { Log.write("vision encoder: the weights in \(visionTower)") }
    if let report = model.weightsCache, !report.hasFailed { Log.write("weights cache: \(report)") }
    unusedTensors(of: model)
  }

  /// Stored tensors that the model has no use for, the first few by name.
  static func unusedTensors(of model: VisionLanguageModel) {
    for name in model.unusedTensors.prefix(8) { Log.write("note: the tensor '\(name)' is not used") }
    if model.unusedTensors.count > 8 { Log.write("note: nor are \(model.unusedTensors.count - 8) more") }
  }

  /// A warning where the chat template is a guess, which may spoil every answer.
  static func guess(_ model: VisionLanguageModel) {
    guard model.templateDetection.isGuess else { return }
    Log.write(
      "warning: \(model.name) has no chat template and nothing names its family; taking \(model.template.name), "
        + "name another by --chat-template if answers are strange")
  }

  /// The prompt as the model reads it, and its tokens, runs of image tokens as `<image>`.
  static func prompt(_ request: Request, _ model: VisionLanguageModel) throws {
    let tokens = try model.tokens(of: request.prompt, systemPrompt: request.systemPrompt)
    let text = try model.rendered(request.prompt, systemPrompt: request.systemPrompt)
    Log.write("prompt (\(model.templateDetection)): \(text.debugDescription)")
    Log.write("tokens: \(tokens.map(String.init).joined(separator: " "))")
  }

  /// Tokens kept, FLOPs and time of a run, and what the model's feature cache has done so far.
  static func run(_ report: RunReport, of model: VisionLanguageModel) {
    let kept = report.visualTokensPerStage.map(String.init).joined(separator: " -> ")
    let averages = String(
      format: " (%.1f mean of layers, %.1f of stages)", report.averageVisualTokens, report.stageAverageVisualTokens)
    Log.write("policy \(report.policy.description): visual tokens \(kept)\(report.stages.isEmpty ? "" : averages)")
    let spent = report.flops.prefill + report.flops.rank
    let saved = 100 * (1 - Double(spent) / Double(max(1, report.baselineFlops)))
    Log.write(
      String(
        format:
          "FLOPs counted: prompt %.3f G (%.1f%% less than without dropping), vision encoder %.3f G, decoding %.3f G",
        Double(spent) / 1e9, saved, Double(report.flops.encode + report.flops.project) / 1e9,
        Double(report.flops.decode + report.flops.head) / 1e9))
    let time = report.milliseconds
    Log.write(
      String(
        format:
          "time: load %.0f ms, image %.0f, vision encoder %.0f, prompt %.0f, ranking %.1f, decoding %.0f (%d tokens), all %.0f",
        time.load, time.decodeImage + time.preprocess, time.encode + time.project, time.prefill, time.rank, time.decode,
        report.tokens.count, time.total))
    Log.write(
      String(
        format: "memory: cache %.1f MB, process at its peak %.0f MB", Double(report.cacheBytes) / 1e6,
        Double(report.peakResidentBytes) / 1e6))
    if let cache = model.featureCacheReport { Log.write(BatchSummary.line(cache)) }
  }
}
