import ArgumentParser
import BenchSupport
import CommandLineOptions
import Evaluation

/// `pdrop-eval score`: scores answers that are there, ours or those of LLaVA's scripts.
struct ScoreCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "score", abstract: "Scores answer files, ours and those that LLaVA's scripts wrote.")

  @OptionGroup(title: "Data") var options: DataOptions

  @Option(help: "Folder with the answers, laid out as that of the benchmarks. (default: that of the benchmarks)")
  var answers: String?

  @Option(help: "Folder for the files that official scorers take. (default: none are written)")
  var output: String?

  @Flag(
    name: .customLong("answered-only"), help: "Leave questions without an answer out; else they are answered wrongly.")
  var answeredOnly = false

  @OptionGroup(title: "Results") var results: ResultOptions

  func run() throws {
    let data = try options.folder()
    var found = Results()
    for benchmark in options.benchmarks {
      let files = AnswerFiles.find(in: (answers ?? options.data) + "/" + benchmark.answerFolder)
      if files.isEmpty, options.benchmark != nil {
        Log.error("\(benchmark.name): no answers in \(answers ?? options.data)/\(benchmark.answerFolder)")
        found.hasProblems = true
      }
      guard !files.isEmpty else { continue }
      let missing = benchmark.missing([.truth], in: data)
      if !missing.isEmpty {
        Log.error("\(benchmark.name): there are answers, but not \(missing.joined(separator: ", "))")
        found.hasProblems = true
        continue
      }
      for file in files {
        do {
          try found.score(benchmark, in: data, file, uploads: output, countsMissing: !answeredOnly)
        } catch let problem as DataProblem {
          Log.error("\(benchmark.name): \(problem)")
          found.hasProblems = true
        }
      }
    }
    try found.finish(
      results, nothing: "\(answers ?? options.data): nothing to score; pdrop-eval list says what is looked for")
  }
}
