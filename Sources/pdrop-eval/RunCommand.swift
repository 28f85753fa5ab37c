import ArgumentParser
import BatchInference
import CommandLineSupport
import Evaluation
import Foundation
import Kernels
import PDrop
import TokenDropping

/// `pdrop-eval run`: answers benchmarks and scores the answers.
struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Answers benchmarks under one policy or several and scores the answers; what is answered already stays.")

  @OptionGroup(title: "Data") var options: DataOptions
  @OptionGroup(title: "Model") var loading: LoadingOptions

  @Option(help: "Arithmetic, one or several to compare.")
  var precision = NameList<PDrop.Precision>([.auto])

  @Option(help: "Policies, one or several to compare.")
  var policy = NameList<PolicyName>([.pyramiddrop])

  @OptionGroup(title: "Dropping") var policyOptions: PolicyOptions

  @Option(help: "Folder for answers and for what official scorers take, laid out as that of the benchmarks.")
  var output: String

  @Option(help: "What answer files begin with. (default: the model's name)")
  var name: String?

  @Option(help: "Ask only about so many questions of each benchmark, evenly spread. (default: all)")
  var limit: Int?

  @Option(
    name: [.customShort("n"), .customLong("n-predict")], help: "Most tokens of an answer. (default: as LLaVA's scripts)"
  )
  var maxNewTokens: Int?

  @Flag(help: "Remove answers that are there, in place of going on after them.")
  var overwrite = false

  @Flag(name: .customLong("no-timings"), help: "Leave times out of answers, so that equal runs give equal bytes.")
  var omitsTimings = false

  @OptionGroup(title: "Engine") var engine: EngineArguments
  @OptionGroup(title: "Results") var results: ResultOptions

  func validate() throws {
    guard limit.map({ $0 >= 1 }) ?? true else { throw ValidationError("--limit must be at least 1") }
    guard maxNewTokens.map({ $0 >= 1 }) ?? true else { throw ValidationError("--n-predict must be at least 1") }
    _ = try policies()
  }

  private func policies() throws -> [any TokenDroppingPolicy] {
    try policy.names.map { try policyOptions.forPolicy($0).policy($0, seed: 0) }
  }

  func run() throws {
    let data = try options.folder()
    var found = Results()
    let benchmarks = try prepared(in: data, &found)
    // An answer too long for the longest file allowed is an error like a full disk.
    _ = signal(SIGXFSZ, SIG_IGN)
    StopSignal.install()
    for precision in benchmarks.isEmpty ? [] : precision.names {
      let model = try loading.load(precision)
      for policy in try policies() {
        // A schedule that does not fit the model is found before any work.
        _ = try policy.stages(layerCount: model.layerCount, visualTokenCount: 1)
      }
      for benchmark in benchmarks {
        for policy in try policies() { try evaluate(benchmark, in: data, with: model, policy, &found) }
      }
    }
    try found.finish(
      results, nothing: "\(options.data): no benchmark to answer; pdrop-eval list says what is looked for")
  }

  /// The benchmarks that are there, their questions written to files; says what the others lack.
  private func prepared(in data: DataFolder, _ found: inout Results) throws -> [any Benchmark] {
    try options.benchmarks.filter { benchmark in
      let missing = benchmark.missing([.questions, .images], in: data)
      guard missing.isEmpty else {
        Log.write("\(benchmark.name): skipped, there is no \(missing.joined(separator: ", "))")
        if options.benchmark != nil { found.hasProblems = true }
        return false
      }
      do {
        let count = try QuestionWriter.write(benchmark, in: data, to: questionFile(benchmark), limit: limit)
        Log.write("\(benchmark.name): \(BatchSummary.count(count, "question"))")
        return count > 0
      } catch let problem as DataError {
        Log.error("\(benchmark.name): \(problem)")
        found.hasProblems = true
        return false
      }
    }
  }

  private func questionFile(_ benchmark: any Benchmark) -> String { output + "/questions/\(benchmark.name).jsonl" }

  /// Answers a benchmark's questions under a policy, as far as they are not answered yet, and scores the answers.
  private func evaluate(
    _ benchmark: any Benchmark, in data: DataFolder, with model: VisionLanguageModel, _ policy: any TokenDroppingPolicy,
    _ found: inout Results
  ) throws {
    var base = Request(prompt: .messages([]), policy: policy)
    base.options.maxTokens = maxNewTokens ?? benchmark.maxNewTokens
    let name = "\(name ?? model.name)-\(policy.name)-\(model.precision.name)"
    let path = "\(output)/\(benchmark.answerFolder)/\(name).jsonl"
    Log.write("\(benchmark.name): \(name)")
    try RunManifest(model, base, limit: limit).write(beside: path, overwrites: overwrite)
    try answer(questionFile(benchmark), in: data, to: path, with: model, like: base)
    do {
      try found.score(benchmark, in: data, (name, path), uploads: output, countsMissing: true)
    } catch let problem as DataError {
      Log.error("\(benchmark.name): \(problem)")
      found.hasProblems = true
    }
  }

  /// Does not return from a run that was stopped by a signal.
  private func answer(
    _ questions: String, in data: DataFolder, to path: String, with model: VisionLanguageModel, like base: Request
  ) throws {
    var batchOptions = Batch.Options(input: .lines(path: questions, folder: data.path))
    batchOptions.spelling = { $0.option }
    batchOptions.output = path
    batchOptions.earlier = overwrite ? .overwrite : .resume(retriesFailures: true)
    batchOptions.keepsTimes = !omitsTimings
    let batch = try Batch(batchOptions)
    let display = ProgressDisplay(engine.progress, recordName: "question")
    defer { display.end() }
    let report = try batch.run(
      like: base, by: BatchRunDescription(model, base, threads: loading.threadCount),
      isStopped: { StopSignal.isWanted },
      observer: display, engine: model.batchEngine(engine.engine(threads: loading.threadCount)))
    display.end()
    if report.stopped {
      Log.write("stopped; to go on, run the same command\(overwrite ? " without --overwrite" : "")")
      StopSignal.endProgram()
    }
  }
}

/// Writes a benchmark's questions to a file that a batch reads.
enum QuestionWriter {
  /// Writes all questions, or about so many, spread evenly over the file; questions about one image that follow each other
  /// stay together.
  ///
  /// - Returns: How many questions are in the file.
  /// - Throws: `DataError`, `FileArgumentError`.
  static func write(
    _ benchmark: any Benchmark, in data: DataFolder, to path: String, limit: Int?
  ) throws -> Int {
    var share = 1.0
    if let limit {
      var count = 0
      try benchmark.questions(in: data) { _ in count += 1 }
      share = min(1, Double(limit) / Double(max(1, count)))
    }
    try OutputFile.makeFolder(of: path)
    let output = try Output(path: path)
    var written = 0
    var group = -1
    var last: Question.Image?
    try benchmark.questions(in: data) { question in
      if last != question.image || question.image == .none { group += 1 }
      last = question.image
      guard Int(Double(group + 1) * share) > Int(Double(group) * share) else { return }
      try output.write(try JSONLine.encode(QuestionLine(question)))
      written += 1
    }
    return written
  }
}
