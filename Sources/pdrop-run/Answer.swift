import ArgumentParser
import CommandLineOptions
import Foundation
import PDrop
import TokenDropping

/// `pdrop-run`: answers one question, those of a chat, or a file of them.
struct Answer: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "answer",
    abstract: "Answers a question about pictures, the turns of a chat, or every question of a file.")

  enum Format: String, CaseIterable, ExpressibleByArgument { case text, json }

  @OptionGroup(title: "Model") var modelOptions: ModelOptions
  @OptionGroup(title: "Question") var question: QuestionOptions
  @OptionGroup(title: "Generation") var generation: GenerationArguments

  @Option(help: ArgumentHelp("How to drop visual tokens: none, pyramiddrop, fastv, random or uniform."))
  var policy = PolicyName.pyramiddrop

  @OptionGroup(title: "Dropping") var policyOptions: PolicyOptions
  @OptionGroup(title: "Batch") var batch: BatchOptions
  @OptionGroup(title: "Known pictures") var featureCache: FeatureCacheArguments

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
          : "nothing is asked; give the question about all pictures by --prompt, or a file of questions by --input")
    }
    let policy = try policyOptions.policy(policy, seed: generation.seed)
    let base = question.base(policy, generation.options)
    // What is wrong with its files is found before the model is loaded.
    let batchRun = try batch.run(asking: question)
    try keptMap.check()
    // A dry run neither reads nor leaves files, and measures what a picture takes that is not known.
    let model = try modelOptions.load(featureCache: batch.dryRun ? nil : featureCache.options)
    // A schedule or a system text that does not fit the model is found before any work.
    _ = try policy.stages(layerCount: model.layerCount, visualTokenCount: 1)
    _ = try model.rendered(base.prompt, systemText: base.systemText)
    if verbose { Report.model(model, modelOptions) }
    if !question.raw { Report.guess(model) }
    if let batchRun {
      try batchRun.answer(with: model, like: base, threads: modelOptions.threadCount)
    } else if question.interactive {
      var chat = InteractiveRun(
        model: model, base: base, threads: modelOptions.threadCount, format: format, verbose: verbose,
        verbosePrompt: verbosePrompt)
      try chat.run(question.pictures(), first: question.text())
    } else {
      try answer(question.request(like: base), with: model)
    }
  }

  /// Answers one question, its words printed as they become certain.
  private func answer(_ request: Request, with model: VisionLanguageModel) throws {
    var request = request
    request.recordsTensors = trace != nil || keptMap.path != nil
    if verbosePrompt { try Report.prompt(request, model) }
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
    try keptMap.write(session, request, prompt: model.rendered(request.prompt, systemText: request.systemText))
    if verbose { Report.run(report, of: model) }
  }
}
