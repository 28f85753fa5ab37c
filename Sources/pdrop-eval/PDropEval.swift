import ArgumentParser
import CommandLineSupport
import Evaluation
import Foundation
import Reports

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

/// Where the benchmarks are, and which of them are meant.
struct DataOptions: ParsableArguments {
  @Option(help: "Folder of the benchmarks, laid out as LLaVA's playground/data/eval.")
  var data: String

  @Option(
    help: ArgumentHelp("Benchmarks, separated by commas. (default: all that are there)", valueName: "name,..."),
    transform: Self.names)
  var benchmark: [String]?

  private static func names(_ text: String) throws -> [String] {
    let names = text.split(separator: ",").map(String.init)
    for name in names where Benchmarks.named(name) == nil {
      let known = Benchmarks.all.map(\.name).joined(separator: ", ")
      throw ValidationError("--benchmark '\(name)' is not known; use some of \(known)")
    }
    return names
  }

  /// The benchmarks that are named, or all.
  var benchmarks: [any Benchmark] { benchmark?.compactMap(Benchmarks.named) ?? Benchmarks.all }

  /// - Throws: `FileArgumentError` when there is no such folder.
  func folder() throws -> DataFolder {
    let kind = try? FileManager.default.attributesOfItem(atPath: data + "/.")[.type] as? FileAttributeType
    guard kind == .typeDirectory else {
      throw FileArgumentError("\(data): no such folder; give that of the benchmarks")
    }
    return DataFolder(data)
  }
}

/// `pdrop-eval list`: which benchmarks are there, and what the others lack.
struct ListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "Lists the benchmarks, which are there, and which files the others lack.")

  @OptionGroup var options: DataOptions

  @Option(name: [.customShort("o"), .customLong("format")], help: "Form of the table.")
  var format = TableFormat.md

  func run() throws {
    let data = try options.folder()
    let records = options.benchmarks.map { benchmark in
      let missing = benchmark.missing([.questions, .images, .truth], in: data)
      return TableRow([
        Field("benchmark", .text(benchmark.name), heading: "benchmark"),
        Field("state", .text(benchmark.state(in: data).rawValue), heading: "state"),
        Field("metric", .text(benchmark.metric), heading: "metric"),
        Field("missing", .text(missing.joined(separator: ", ")), heading: "missing"),
        Field("files", .text(benchmark.files.map(\.path).joined(separator: ", "))),
      ])
    }
    try Output().write(format.rendered(records, name: "pdrop_eval_list"))
  }
}

/// What can be done with a benchmark's files.
enum BenchmarkState: String {
  case ready = "ready"
  /// Questions and images are there, but nothing says what is right.
  case uploadOnly = "answers only"
  /// Answers that exist can be scored.
  case scoreOnly = "scores only"
  case absent = "not there"
}

extension Benchmark {
  func state(in data: DataFolder) -> BenchmarkState {
    let canAnswer = missing([.questions, .images], in: data).isEmpty
    return canAnswer ? canScore(in: data) ? .ready : .uploadOnly : canScore(in: data) ? .scoreOnly : .absent
  }

  func canScore(in data: DataFolder) -> Bool { hasTruth && missing([.truth], in: data).isEmpty }
}
