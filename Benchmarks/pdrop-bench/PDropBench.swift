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

extension Table {
  /// The fields that tables for people show; what is the same in all rows stands once, in the caption.
  ///
  /// - Parameter title: Begins the caption.
  init(_ records: [TableRow], title: String? = nil) {
    let fields = records.first?.fields ?? []
    let shown = fields.indices.filter { Self.text(fields[$0]) != nil }
    let varying = shown.filter { index in
      records.count == 1 || records.contains { Self.text($0.fields[index]) != Self.text(fields[index]) }
    }
    let constant = shown.filter { !varying.contains($0) }.compactMap { index -> String? in
      guard case .column(let heading, let text) = fields[index].display, !text.isEmpty else { return nil }
      return "\(heading) \(text)"
    }
    let common = constant.isEmpty ? nil : "In all rows: " + constant.joined(separator: ", ")
    let captions = [title, common].compactMap(\.self)
    self.init(
      caption: captions.isEmpty ? nil : captions.joined(separator: ". "),
      columns: varying.map { Column(fields[$0].name, heading: Self.heading(fields[$0]) ?? "") },
      rows: records.map { record in varying.map { Cell(record.fields[$0]) } })
  }

  private static func heading(_ field: Field) -> String? {
    if case .column(let heading, _) = field.display { heading } else { nil }
  }

  fileprivate static func text(_ field: Field) -> String? {
    if case .column(_, let text) = field.display { text } else { nil }
  }
}

extension Table.Cell {
  fileprivate init(_ field: Field) {
    let text = Table.text(field) ?? ""
    switch field.value {
    case .integer(let integer): self.init(text, number: Double(integer))
    case .number(let number): self.init(text, number: number)
    default: self.init(text)
    }
  }
}
