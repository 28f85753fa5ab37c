import ArgumentParser
import CommandLineOptions

/// `pdrop-run`: questions in, answers out.
@main
struct PDropRun: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pdrop-run",
    abstract: "Answers questions about pictures with LLaVA on a CPU, dropping visual tokens stage by stage.",
    version: "0.1.0",
    subcommands: [Answer.self, Tokenize.self, Check.self],
    defaultSubcommand: Answer.self)

  static func main() { runProgram() }
}
