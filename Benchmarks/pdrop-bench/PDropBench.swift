import ArgumentParser
import CommandLineSupport
import Foundation
import ModelFormats
import Reports

/// `pdrop-bench`: the cost of answers, compared with the peaks of the machine, and the cost of a layer by its rows.
@main
struct PDropBench: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pdrop-bench",
    abstract: "Measures LLaVA on this machine, with weights or without having them.",
    usage: """
      pdrop-bench [pipeline] [<options>]
      pdrop-bench <subcommand> [<options>]
      """,
    discussion: """
      The default subcommand is pipeline. Its most common options:

        -m, --model          model directory, by default the bundled tiny-textvqa
        --synthetic          published shape with random weights
        --policy             policies to compare, separated by commas
        --precision          compute precisions to compare, separated by commas
        -p, --n-prompt       text tokens of the prompt
        -n, --n-gen          tokens to decode after the first
        -r, --repetitions    measured repetitions, by default 5
        -t, --threads        number of threads, by default all cores
        -o, --output         table format
        --html               file for a report with plots

      All options: pdrop-bench pipeline --help
      """,
    version: "0.1.0",
    subcommands: [
      PipelineCommand.self, KernelsCommand.self, LayerCostCommand.self, FidelityCommand.self, BatchCommand.self,
      PlanCommand.self, TuneCommand.self, EqualCostCommand.self, ReproduceCommand.self,
    ],
    defaultSubcommand: PipelineCommand.self)

  static func main() { runProgram() }
}

/// Repetitions, threads and output format of a benchmark.
struct BenchOptions: ParsableArguments {
  @Option(name: [.short, .long], help: "Measured repetitions, after one warm-up.")
  var repetitions = 5

  @Option(name: [.short, .long], help: "Threads to compute on. (default: all cores)")
  var threads: Int?

  @Option(name: [.short, .long], help: "Output format.")
  var output = TableFormat.md

  func validate() throws {
    try checkRange("--repetitions", repetitions, 1...1 << 20)
    try checkRange("--threads", threads, 1...1024)
  }

  var threadCount: Int { ThreadCount(requested: threads).count }

  /// Prints the table.
  func print(_ rows: [TableRow], as name: String) throws {
    try Output().write(output.rendered(rows, name: name))
  }
}

extension ModelPreset: ExpressibleByArgument {}
extension TableFormat: ExpressibleByArgument {}

/// The HTML report.
struct ReportOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Write a self-contained HTML report with plots to this file.", valueName: "file.html"))
  var html: String?

  /// Checks before a long measurement that the report can be written.
  func check() throws {
    if let html { try Output.checkWritable(html) }
  }

  /// Writes the report, if it is requested.
  func write(_ report: @autoclosure () throws -> Report) throws {
    guard let html else { return }
    try Output.write(Data(report().html.utf8), toFile: html)
  }
}

extension Report {
  /// Writes `NAME.html`, `NAME.md` and `NAME.json` to a folder, which is created if it does not exist.
  func write(to folder: String, name: String) throws {
    let directory = URL(filePath: folder, directoryHint: .isDirectory)
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    for (type, text) in [
      ("html", try html), ("md", markdown), ("json", String(decoding: try json, as: UTF8.self)),
    ] {
      let path = directory.appending(path: "\(name).\(type)").path
      try Output.write(Data(text.utf8), toFile: path)
      Log.write("written: \(path)")
    }
  }
}

extension Report.Metadata {
  /// The processor, commit and command of a measurement.
  static func measured(on machine: Machine = .current) -> [Report.Metadata] {
    [
      Report.Metadata("processor", machine.processor), Report.Metadata("commit", machine.commit),
      Report.Metadata("command", CommandText.current),
    ]
  }
}
