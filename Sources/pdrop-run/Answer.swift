import ArgumentParser
import BatchInference
import CommandLineSupport
import Foundation
import ImageProcessing
import PDrop
import TokenDropping

/// `pdrop-run answer`: one question, a chat, or a file of questions.
struct Answer: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "answer",
    abstract: "Answers a question about images, a chat, or every question in a file.")

  enum Format: String, CaseIterable, ExpressibleByArgument { case text, json }

  @OptionGroup(title: "Model") var modelOptions: ModelOptions
  @OptionGroup(title: "Question") var question: QuestionOptions
  @OptionGroup(title: "Generation") var generation: GenerationArguments

  @Option(help: "Token-dropping policy: none, pyramiddrop, fastv, random or uniform.")
  var policy = PolicyName.pyramiddrop

  @OptionGroup(title: "Dropping") var policyOptions: PolicyOptions
  @OptionGroup(title: "Batch") var batch: BatchOptions
  @OptionGroup(title: "Caches") var caches: CacheArguments

  @Option(help: "Output: the answer as text, or the report of the run as JSON.")
  var format = Format.text

  @Option(help: "Folder for trace.json and trace.safetensors, the trace of the run with its tensors.")
  var trace: String?

  @OptionGroup(title: "Kept-token map") var keptMap: KeptMapOptions

  @Flag(name: .customLong("verbose-prompt"), help: "Print the prompt and its tokens on stderr.")
  var verbosePrompt = false

  @Flag(name: [.short, .long], help: "Print the model, kept tokens, FLOPs, timings and memory on stderr.")
  var verbose = false

  func validate() throws {
    _ = try policyOptions.policy(policy, seed: generation.seed)
    try batch.validate(with: question, trace: trace)
    try keptMap.validate(with: question, batch)
    guard generation.answerCount == 1 || (!question.interactive && trace == nil) else {
      throw ValidationError("--num-return-sequences is for questions; leave it out with --interactive and --trace")
    }
    guard trace == nil || !question.interactive else {
      throw ValidationError("--trace records one answer, --interactive produces many; leave out one of them")
    }
  }

  func run() throws {
    // Not in validate(), which runs before the parser reports unknown options.
    guard question.isGiven || question.interactive || batch.input != nil else {
      throw ValidationError(
        batch.imageFolder == nil
          ? "no question given; use --prompt, --file or --chat for one, --interactive or --input for several"
          : "no question given; use --prompt for one about all images, or --input for a file of questions")
    }
    let policy = try policyOptions.policy(policy, seed: generation.seed)
    var base = question.base(policy, try generation.options())
    // Files are checked before the model is loaded.
    let modelFiles = modelOptions.loading.files
    let batchRun = try batch.run(asking: question, of: modelFiles)
    try keptMap.check(keeping: question.files + modelFiles)
    question.noteLiteralEscapes()
    // A dry run uses no cache: it writes no files, and it measures images that are not cached.
    let model = try modelOptions.load(
      featureCache: batch.dryRun ? nil : caches.featureCache, promptCache: batch.dryRun ? nil : caches.promptCache)
    // Checks that the schedule and the system prompt fit the model, before any work.
    _ = try policy.stages(layerCount: model.layerCount, visualTokenCount: 1)
    if !question.raw, let system = base.systemPrompt {
      _ = try model.rendered(.messages([ChatMessage(question: "Q", imageCount: 0)]), systemPrompt: system)
    }
    if batchRun != nil {
      // Before answers of earlier runs are removed.
      do { try model.check(base.options) } catch { throw ValidationError(error.problem) }
    }
    base.policy = model.timed(policy, threads: modelOptions.threadCount)
    if verbose { VerboseLog.model(model, modelOptions) }
    if !question.raw { VerboseLog.warnOfTemplate(model, verbose: verbose) }
    if let batchRun {
      try batchRun.answer(with: model, like: base, threads: modelOptions.threadCount)
    } else if question.interactive {
      var chat = InteractiveRun(
        model: model, base: base, threads: modelOptions.threadCount, speculation: batch.engineArguments.speculate,
        format: format, verbose: verbose, verbosePrompt: verbosePrompt)
      try chat.run(question.images(), first: question.text())
    } else {
      try answer(question.request(like: base), with: model)
    }
  }

  /// Answers one question and streams the text.
  private func answer(_ request: Request, with model: VisionLanguageModel) throws {
    var request = request
    request.recordsTensors = trace != nil || keptMap.path != nil
    VerboseLog.warnOfBOSToken(request.prompt, model)
    if verbosePrompt { try VerboseLog.prompt(request, model) }
    var session = try Session(
      model, request, threads: modelOptions.threadCount, speculation: batch.engineArguments.speculate)
    if session.report.sequenceLength > model.contextLength {
      Log.warning(
        "the prompt has \(session.report.sequenceLength) tokens, more than the \(model.contextLength) that the model was "
          + "trained for; its answer may be worse")
    }
    let output = Output()
    repeat {
      while let text = try session.next() {
        if format == .text { try output.write(text) }
      }
      switch format {
      case .text: try output.write("\n")
      case .json: try JSONLine.print(session.report)
      }
    } while session.startNextAnswer()
    let report = session.report
    if let trace { try session.writeTrace(to: trace) }
    try keptMap.write(session, request, prompt: model.rendered(request.prompt, systemPrompt: request.systemPrompt))
    if verbose { VerboseLog.run(report, of: model) }
  }
}

/// The log lines of `-v` and `--verbose-prompt`.
enum VerboseLog {
  /// The model, its compute precision and the remarks about its files.
  static func model(_ model: VisionLanguageModel, _ options: ModelOptions) {
    let megabytes = model.weightBytes / 1_000_000
    Log.write(
      "model: \(model.name), \(megabytes) MB weights, \(model.layerCount) layers, \(options.threadDescription), "
        + "image mode \(model.preprocessor?.summary ?? "none"), chat template \(model.templateDetection)")
    Log.write("compute: \(model.precision.reason)")
    for line in model.eosDescription { Log.write(line) }
    if let visionTower = model.visionTower { Log.write("vision encoder: weights from \(visionTower)") }
    if let clip = model.clipDirectory { Log.write("CLIP's text encoder, for cdpruner: \(clip)") }
    if let report = model.weightsCache, !report.hasFailed { Log.write("weights cache: \(report)") }
    notes(of: model)
  }

  /// Remarks about the model's files; warnings are printed when it is loaded.
  static func notes(of model: VisionLanguageModel) {
    for remark in model.remarks { Log.write("note: \(remark)") }
  }

  /// Warns if the chat template is a guess, which may degrade every answer; with `verbose` also of templates that are
  /// not used.
  static func warnOfTemplate(_ model: VisionLanguageModel, verbose: Bool) {
    let detection = model.templateDetection
    guard detection.isGuess || (verbose && !detection.passedOver.isEmpty) else { return }
    var found = detection.passedOver.map { "the template in \($0) has no place for images and is not used" }
    if detection.isGuess { found.append("no chat template and no known model family") }
    Log.warning(
      "\(model.name): \(found.joined(separator: "; ")); using \(detection), set another with --chat-template if answers "
        + "look wrong")
  }

  /// Warns of a prompt that begins with a BOS token of its own.
  static func warnOfBOSToken(_ prompt: Request.Prompt, _ model: VisionLanguageModel) {
    guard model.hasOwnBOSToken(prompt) else { return }
    Log.warning("the prompt begins with the BOS token, so no second one is added; leave it out of the text")
  }

  /// The prompt after the chat template, and its token ids, one per image.
  static func prompt(_ request: Request, _ model: VisionLanguageModel) throws {
    let tokens = try model.tokens(of: request.prompt, systemPrompt: request.systemPrompt)
    let text = try model.rendered(request.prompt, systemPrompt: request.systemPrompt)
    Log.write("prompt (\(model.templateDetection)): \(text.debugDescription)")
    Log.write("tokens: \(tokens.map(String.init).joined(separator: " "))")
  }

  /// Kept tokens, FLOPs, timings and memory of a run, and the statistics of the caches.
  static func run(_ report: RunReport, of model: VisionLanguageModel) {
    let kept = report.visualTokensPerStage.map(String.init).joined(separator: " -> ")
    let averages = String(
      format: " (average %.1f over layers, %.1f over stages)", report.averageVisualTokens,
      report.stageAverageVisualTokens)
    Log.write("policy \(report.policy.description): visual tokens \(kept)\(report.stages.isEmpty ? "" : averages)")
    Log.write(BatchSummary.line(report.flops, baseline: report.baselineFlops))
    let time = report.timings
    Log.write(
      String(
        format: "timings (ms): load %.0f, image preprocessing %.0f, vision encoder %.0f, prefill %.0f, ranking %.1f, "
          + "decode %.0f (%d tokens), total %.0f",
        time.load, time.decodeImage + time.preprocess, time.encode + time.project, time.prefill, time.rank, time.decode,
        report.tokens.count, time.total))
    Log.write(
      String(
        format: "memory: KV cache %.1f MB, peak RSS %.0f MB", Double(report.cacheBytes) / 1e6,
        Double(report.peakResidentBytes) / 1e6))
    if let cache = model.featureCacheStatistics { Log.write(BatchSummary.line(cache)) }
    if let cache = model.promptCacheStatistics { Log.write(BatchSummary.line(cache)) }
  }
}
