import ArgumentParser
import CommandLineOptions
import PDrop
import TokenDropping

/// `pdrop-bench`: what an answer costs, by policy and phase.
@main
struct PDropBench: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pdrop-bench",
    abstract: "Measures tower, prompt and decoding for several dropping policies, interleaved.",
    version: "0.1.0")

  @OptionGroup(title: "Model") var modelOptions: ModelOptions

  @Option(help: "Policies to compare, such as none,fastv,pyramiddrop.")
  var policy = PolicyList(names: [.none, .fastv, .pyramiddrop])

  @OptionGroup(title: "Dropping") var policyOptions: PolicyOptions

  @Option(name: [.customShort("p"), .customLong("n-prompt")], help: "Text tokens of the prompt, beside one picture.")
  var textTokens = 49

  @Option(name: [.customShort("n"), .customLong("n-gen")], help: "Tokens to generate.")
  var generatedTokens = 32

  @Option(name: [.short, .long], help: "Measured repetitions of each policy, after one that warms up.")
  var repetitions = 5

  @Option(name: [.short, .long], help: "Form of the table: md, csv, json or jsonl.")
  var output = TableFormat.md

  static func main() { runProgram() }

  func validate() throws {
    guard textTokens >= 2 else { throw ValidationError("--n-prompt must be at least 2, found \(textTokens)") }
    guard generatedTokens >= 1 else { throw ValidationError("--n-gen must be at least 1, found \(generatedTokens)") }
    guard repetitions >= 1 else { throw ValidationError("--repetitions must be at least 1, found \(repetitions)") }
  }

  func run() throws {
    let model = try modelOptions.load()
    let policies = try policy.names.map { try policyOptions.forPolicy($0).policy($0, seed: 0) }
    let bench = Bench(
      model: model, policies: policies, textTokens: textTokens, generatedTokens: generatedTokens,
      repetitions: repetitions, threads: modelOptions.threadCount)
    print(try output.rendered(bench.run()), terminator: "")
  }
}

/// Policies as listed on the command line.
struct PolicyList: ExpressibleByArgument {
  var names: [PolicyName]

  init(names: [PolicyName]) { self.names = names }

  init?(argument: String) {
    let parts = argument.split(separator: ",")
    names = parts.compactMap { PolicyName(rawValue: String($0)) }
    guard names.count == parts.count, !names.isEmpty else { return nil }
  }

  var defaultValueDescription: String { names.map(\.rawValue).joined(separator: ",") }
}
