import ArgumentParser
import BenchSupport
import CommandLineOptions
import PDrop
import TokenDropping

/// `pdrop-bench pipeline`: tower, prompt and decoding, by model, arithmetic and policy.
struct PipelineCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pipeline",
    abstract: "Measures tower, prompt and decoding of models and dropping policies, in turns. (default)")

  @OptionGroup(title: "Model") var modelOptions: ModelSourceOptions

  @Option(help: "Policies to compare.")
  var policy = NameList<PolicyName>([.none, .fastv, .pyramiddrop])

  @OptionGroup(title: "Dropping") var policyOptions: PolicyOptions

  @Option(name: [.customShort("p"), .customLong("n-prompt")], help: "Text tokens of the prompt, beside one picture.")
  var textTokens = 49

  @Option(name: [.customShort("n"), .customLong("n-gen")], help: "Tokens to decode after the first; 0 for none.")
  var generatedTokens = 32

  @OptionGroup(title: "Measuring") var bench: BenchOptions
  @OptionGroup(title: "Page") var page: PageOptions

  func validate() throws {
    guard textTokens >= 2 else { throw ValidationError("--n-prompt must be at least 2, found \(textTokens)") }
    guard generatedTokens >= 0 else { throw ValidationError("--n-gen must be at least 0, found \(generatedTokens)") }
  }

  func run() throws {
    try page.check()
    let policies = try policy.names.map { try policyOptions.forPolicy($0).policy($0, seed: 0) }
    var subjects: [Pipeline.Subject] = []
    for source in try modelOptions.sources() {
      for precision in modelOptions.precision.names {
        let model = try modelOptions.load(source, precision, threads: bench.threadCount)
        // A schedule that does not fit is a wrong command line, said before anything is measured.
        for policy in policies { _ = try policy.stages(layerCount: model.layerCount, visualTokenCount: 576) }
        Log.write(
          "\(model.name): \(model.precision.reason); ready after \(model.loadTime.milliseconds.formatted(0)) ms")
        subjects.append(Pipeline.Subject(model: model, policies: policies))
      }
    }
    let pipeline = Pipeline(
      subjects: subjects, textTokens: textTokens, generatedTokens: generatedTokens, threads: bench.threadCount)
    let records = try pipeline.measure(repetitions: bench.repetitions)
    try bench.print(records, as: "pdrop_bench")
    try page.write(PipelinePage(records: records).page)
  }
}
