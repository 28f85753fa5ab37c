import ArgumentParser
import CommandLineSupport
import Evaluation
import Foundation

/// `pdrop-eval score`: scores existing answer files.
struct ScoreCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "score", abstract: "Scores answer files of pdrop-eval run and of LLaVA's scripts.")

  @OptionGroup(title: "Data") var options: DataOptions

  @Option(help: "Folder of the answers, laid out like the folder of the benchmarks. (default: --data)")
  var answers: String?

  @Option(help: "Folder for submissions to official scorers. (default: none are written)")
  var output: String?

  @Flag(
    name: .customLong("answered-only"), help: "Leave out questions without an answer instead of counting them as wrong."
  )
  var answeredOnly = false

  @OptionGroup(title: "Results") var results: ResultOptions

  func run() throws {
    let data = try options.folder()
    try results.checkReport(options, answers: answers ?? options.data)
    var collected = Results()
    for benchmark in options.benchmarks {
      let files = AnswerFiles.find(in: (answers ?? options.data) + "/" + benchmark.answerFolder)
      if files.isEmpty, options.benchmark != nil {
        Log.error("\(benchmark.name): no answers in \(answers ?? options.data)/\(benchmark.answerFolder)")
        collected.hasErrors = true
      }
      guard !files.isEmpty else { continue }
      let missing = benchmark.missing([.groundTruth], in: data)
      if !missing.isEmpty {
        Log.error("\(benchmark.name): has answers, but is missing \(missing.joined(separator: ", "))")
        collected.hasErrors = true
        continue
      }
      for file in files {
        do {
          try collected.score(benchmark, in: data, file, uploads: output, countsMissing: !answeredOnly)
        } catch let error as DataError {
          Log.error("\(benchmark.name): \(error)")
          collected.hasErrors = true
        }
      }
    }
    try collected.finish(
      results, emptyMessage: "\(answers ?? options.data): nothing to score; pdrop-eval list shows the expected files")
  }
}

/// The answer files of pdrop-eval and of LLaVA's scripts.
enum AnswerFiles {
  /// The answer files in a folder with their names, sorted by path.
  ///
  /// LLaVA's scripts write the parts of an answer file and the merged `merge.jsonl` into a folder named after the
  /// model. Only the merged file counts. The `_output.jsonl` files of ScienceQA's scorer are not answer files, and
  /// neither are those of the system, such as `._merge.jsonl`.
  static func find(in folder: String) -> [(name: String, path: String)] {
    let paths = (FileManager.default.enumerator(atPath: folder)?.compactMap { $0 as? String } ?? [])
      .filter { $0.hasSuffix(".jsonl") && !$0.hasSuffix("_output.jsonl") && !DataFolder.isSystemFile($0) }
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
