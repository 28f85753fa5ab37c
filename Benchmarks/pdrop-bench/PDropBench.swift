import ArgumentParser
import CommandLineSupport
import Foundation
import ModelFormats
import Reports

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

/// How often to measure, on how many threads, and how to print it.
struct BenchOptions: ParsableArguments {
  @Option(name: [.short, .long], help: "Measured repetitions, after one that warms up.")
  var repetitions = 5

  @Option(name: [.short, .long], help: "Threads to compute on. (default: all cores)")
  var threads: Int?

  @Option(name: [.short, .long], help: "Form of the table.")
  var output = TableFormat.md

  func validate() throws {
    guard repetitions >= 1 else { throw ValidationError("--repetitions must be at least 1, found \(repetitions)") }
    guard threads.map({ (1...1024).contains($0) }) ?? true else {
      throw ValidationError("--threads must be 1 to 1024, found \(threads ?? 0)")
    }
  }

  var threadCount: Int { threads ?? ProcessInfo.processInfo.activeProcessorCount }

  /// Prints the table.
  func print(_ records: [TableRow], as name: String) throws {
    try Output().write(output.rendered(records, name: name))
  }
}

extension ModelPreset: ExpressibleByArgument {}
extension TableFormat: ExpressibleByArgument {}

/// Whether to write a page for people too.
struct ReportOptions: ParsableArguments {
  @Option(help: ArgumentHelp("File for the same as a page with plots; it needs no network.", valueName: "file.html"))
  var html: String?

  /// Hours of work are not to end in a page that cannot be written.
  func check() throws {
    if let html { try Output.checkFolder(of: html) }
  }

  /// Writes the page, if it is wanted.
  func write(_ report: @autoclosure () throws -> Report) throws {
    guard let html else { return }
    try Output(path: html).write(report().html)
  }
}

extension Report.Metadata {
  /// What every page of measurements says about itself.
  static func made(on machine: Machine = .current) -> [Report.Metadata] {
    [
      Report.Metadata("processor", machine.processor), Report.Metadata("commit", machine.commit),
      Report.Metadata("command", CommandText.current),
    ]
  }
}
