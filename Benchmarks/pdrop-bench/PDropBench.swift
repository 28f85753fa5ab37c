import ArgumentParser
import CommandLineOptions

/// `pdrop-bench`: what an answer costs, how near that is to the machine's limits, and what a layer costs by its rows.
@main
struct PDropBench: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pdrop-bench",
    abstract: "Measures LLaVA on this machine, with weights or without having them.",
    version: "0.1.0",
    subcommands: [
      PipelineCommand.self, KernelsCommand.self, LayerCostCommand.self, FidelityCommand.self, BatchCommand.self,
      PlanCommand.self,
      ReproduceCommand.self,
    ],
    defaultSubcommand: PipelineCommand.self)

  static func main() { runProgram() }
}
