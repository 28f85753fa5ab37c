import ArgumentParser
import CommandLineSupport
import Evaluation
import Foundation
import Reports

/// `pdrop-eval`: answers and scores benchmarks.
@main
struct PDropEval: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pdrop-eval",
    abstract: "Answers and scores benchmarks in the folder layout of LLaVA's evaluation scripts.",
    version: "0.1.0",
    subcommands: [ListCommand.self, RunCommand.self, ScoreCommand.self])

  static func main() { runProgram() }
}

/// Options for the data folder and the choice of benchmarks.
struct DataOptions: ParsableArguments {
  @Option(help: "Folder of the benchmarks, laid out as in LLaVA's playground/data/eval.")
  var data: String

  @Option(
    help: ArgumentHelp("Benchmarks, separated by commas. (default: all that are available)", valueName: "name,..."),
    transform: Self.names)
  var benchmark: [String]?

  private static func names(_ text: String) throws -> [String] {
    let names = text.split(separator: ",").map(String.init)
    for name in names where Benchmarks.named(name) == nil {
      let names = Benchmarks.all.map(\.name).joined(separator: ", ")
      throw ValidationError("--benchmark '\(name)' does not exist; use one or more of \(names)")
    }
    return names
  }

  /// The chosen benchmarks, or all.
  var benchmarks: [any Benchmark] { benchmark?.compactMap(Benchmarks.named) ?? Benchmarks.all }

  /// The data folder.
  ///
  /// - Throws: `FileArgumentError` if there is no such folder.
  func folder() throws -> DataFolder {
    let kind = try? FileManager.default.attributesOfItem(atPath: data + "/.")[.type] as? FileAttributeType
    guard kind == .typeDirectory else {
      throw FileArgumentError("\(data): no such folder; expected the folder of the benchmarks")
    }
    return DataFolder(data)
  }
}

/// `pdrop-eval list`: the state of every benchmark and its missing files.
struct ListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "Lists the benchmarks, their state and their missing files.")

  @OptionGroup var options: DataOptions

  @Option(name: [.customShort("o"), .customLong("format")], help: "Table format.")
  var format = TableFormat.md

  func run() throws {
    let data = try options.folder()
    let rows = options.benchmarks.map { benchmark in
      let missing = benchmark.missing([.questions, .images, .groundTruth], in: data)
      return TableRow([
        Field("benchmark", .text(benchmark.name), heading: "benchmark"),
        Field("state", .text(benchmark.state(in: data).rawValue), heading: "state"),
        Field("metric_description", .text(benchmark.metricDescription), heading: "metric"),
        Field("missing", .text(missing.joined(separator: ", ")), heading: "missing files"),
        Field("files", .text(benchmark.files.map(\.path).joined(separator: ", "))),
      ])
    }
    try Output().write(format.rendered(rows, name: "pdrop_eval_list"))
  }
}

/// The possible uses of a benchmark's available files.
enum BenchmarkState: String {
  case ready = "ready"
  /// Questions and images without ground truth.
  case uploadOnly = "no ground truth"
  /// Ground truth only, so that existing answers can be scored.
  case scoreOnly = "scoring only"
  case absent = "not found"
}

extension Benchmark {
  func state(in data: DataFolder) -> BenchmarkState {
    let canAnswer = missing([.questions, .images], in: data).isEmpty
    return canAnswer ? canScore(in: data) ? .ready : .uploadOnly : canScore(in: data) ? .scoreOnly : .absent
  }

  func canScore(in data: DataFolder) -> Bool { hasGroundTruth && missing([.groundTruth], in: data).isEmpty }
}
