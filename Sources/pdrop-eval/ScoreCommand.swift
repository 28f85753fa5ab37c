import ArgumentParser
import CommandLineSupport
import Evaluation
import Foundation

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
        } catch let problem as DataError {
          Log.error("\(benchmark.name): \(problem)")
          found.hasProblems = true
        }
      }
    }
    try found.finish(
      results, nothing: "\(answers ?? options.data): nothing to score; pdrop-eval list says what is looked for")
  }
}

/// The answer files in a folder, of our runs and of LLaVA's scripts.
enum AnswerFiles {
  /// Files by what they are called, in the order of their names.
  ///
  /// LLaVA's scripts put the parts of an answer file and the whole, `merge.jsonl`, into a folder of the model's name; and what
  /// ScienceQA's scorer writes beside its answers is none.
  static func find(in folder: String) -> [(name: String, path: String)] {
    let paths = (FileManager.default.enumerator(atPath: folder)?.compactMap { $0 as? String } ?? [])
      .filter { $0.hasSuffix(".jsonl") && !$0.hasSuffix("_output.jsonl") }
    let merged = Set(paths.filter { $0.hasSuffix("/merge.jsonl") }.map(directory))
    let whole = paths.filter { !merged.contains(directory($0)) || $0.hasSuffix("/merge.jsonl") }
    return whole.sorted().map { path in
      let name = path.hasSuffix("/merge.jsonl") ? directory(path) : String(path.dropLast(".jsonl".count))
      return (name, folder + "/" + path)
    }
  }

  private static func directory(_ path: String) -> String {
    path.split(separator: "/").dropLast().joined(separator: "/")
  }
}
