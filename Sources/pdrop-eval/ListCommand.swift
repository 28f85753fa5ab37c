import ArgumentParser
import BenchSupport
import CommandLineOptions
import Evaluation

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
      let missing = benchmark.missing([.questions, .pictures, .truth], in: data)
      return Record([
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
  /// Questions and pictures are there, but nothing says what is right.
  case uploadOnly = "answers only"
  /// Answers that exist can be scored.
  case scoreOnly = "scores only"
  case absent = "not there"
}

extension Benchmark {
  func state(in data: DataFolder) -> BenchmarkState {
    let canAnswer = missing([.questions, .pictures], in: data).isEmpty
    return canAnswer ? canScore(in: data) ? .ready : .uploadOnly : canScore(in: data) ? .scoreOnly : .absent
  }

  func canScore(in data: DataFolder) -> Bool { hasTruth && missing([.truth], in: data).isEmpty }
}
