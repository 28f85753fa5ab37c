import ArgumentParser
import CommandLineOptions

/// `pdrop-eval`: benchmarks, answered and scored.
@main
struct PDropEval: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pdrop-eval",
    abstract: "Answers and scores benchmarks that lie in a folder as LLaVA's evaluation scripts have them.",
    version: "0.1.0",
    subcommands: [ListCommand.self, RunCommand.self, ScoreCommand.self])

  static func main() { runProgram() }
}
