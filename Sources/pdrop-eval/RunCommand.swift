import ArgumentParser
import BatchInference
import CommandLineSupport
import Evaluation
import Foundation
import Kernels
import PDrop
import TokenDropping

/// `pdrop-eval run`: answers and scores benchmarks.
struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Answers benchmarks under one or more policies and scores the answers; resumes a previous run.")

  @OptionGroup(title: "Data") var options: DataOptions
  @OptionGroup(title: "Model") var loading: LoadingOptions

  @Option(help: "Compute precision of the language model; several to compare.")
  var precision = NameList<Precision>([.auto])

  @Option(help: "Token-dropping policies; several to compare.")
  var policy = NameList<PolicyName>([.pyramiddrop])

  @OptionGroup(title: "Dropping") var policyOptions: PolicyOptions

  @Option(help: "Folder for answers and submissions, laid out like the folder of the benchmarks.")
  var output: String

  @Option(help: "Prefix of the names of answer files. (default: the model's name)")
  var name: String?

  @Option(help: "Scoring: by generated answers, or also by the likelihood of the choices (yes or no, option letters).")
  var scoring = Scoring.generation

  @Option(help: "Answer about this many questions of each benchmark, evenly spaced. (default: all)")
  var limit: Int?

  @Option(
    name: [.customShort("n"), .customLong("n-predict")],
    help: "Maximum number of new tokens. (default: as in LLaVA's scripts)"
  )
  var maxNewTokens: Int?

  enum Scoring: String, CaseIterable, ExpressibleByArgument { case generation, likelihood }

  @Flag(help: "Remove existing answers instead of resuming.")
  var overwrite = false

  @Flag(name: .customLong("no-timings"), help: "Omit timings from answers, so that equal runs have equal bytes.")
  var omitsTimings = false

  @OptionGroup(title: "Engine") var progressArguments: ProgressArguments
  @OptionGroup(title: "Engine") var engine: EngineArguments
  @OptionGroup(title: "Results") var results: ResultOptions

  func validate() throws {
    try checkRange("--limit", limit, 1...1_000_000_000_000)
    try checkRange("--n-predict", maxNewTokens, 1...Int.max)
    _ = try policies()
  }

  private func policies() throws -> [any TokenDroppingPolicy] {
    try policyOptions.policies(policy.names, seed: 0).map(\.policy)
  }

  func run() throws {
    let data = try options.folder()
    try results.checkReport(options, answers: output)
    var collected = Results()
    let benchmarks = try prepared(in: data, &collected)
    // With SIGXFSZ ignored, exceeding the file size limit is a write error, like a full disk.
    _ = signal(SIGXFSZ, SIG_IGN)
    StopSignal.install()
    for precision in benchmarks.isEmpty ? [] : precision.names {
      let model = try loading.load(precision)
      for policy in try policies() {
        // Detects a schedule that does not fit the model before any work.
        _ = try policy.stages(layerCount: model.layerCount, visualTokenCount: 1)
      }
      for benchmark in benchmarks {
        for policy in try policies() { try evaluate(benchmark, in: data, with: model, policy, &collected) }
      }
    }
    // Once more with the answers of this run.
    try results.checkReport(options, answers: output)
    try collected.finish(
      results, emptyMessage: "\(options.data): no benchmark to answer; pdrop-eval list shows the expected files")
  }

  /// The available benchmarks, with their questions written to files; logs the missing files of the others.
  private func prepared(in data: DataFolder, _ collected: inout Results) throws -> [any Benchmark] {
    try options.benchmarks.filter { benchmark in
      let missing = benchmark.missing([.questions, .images], in: data)
      guard missing.isEmpty else {
        Log.write("\(benchmark.name): skipped, missing \(missing.joined(separator: ", "))")
        if options.benchmark != nil { collected.hasErrors = true }
        return false
      }
      do {
        let count = try QuestionWriter.write(
          benchmark, in: data, to: questionFile(benchmark), limit: limit, scoresChoices: scoring == .likelihood)
        Log.write("\(benchmark.name): \(BatchSummary.count(count, "question"))")
        return count > 0
      } catch let error as DataError {
        Log.error("\(benchmark.name): \(error)")
        collected.hasErrors = true
        return false
      }
    }
  }

  private func questionFile(_ benchmark: any Benchmark) -> String { output + "/questions/\(benchmark.name).jsonl" }

  /// Answers the unanswered questions of a benchmark under a policy, and scores the answers.
  private func evaluate(
    _ benchmark: any Benchmark, in data: DataFolder, with model: VisionLanguageModel, _ policy: any TokenDroppingPolicy,
    _ collected: inout Results
  ) throws {
    var base = Request(prompt: .messages([]), policy: policy)
    base.options.maxTokens = maxNewTokens ?? benchmark.maxNewTokens
    // A policy after a selection, such as that of a recipe, has answers of its own.
    let selection = policy.preselection.map { selection in
      let label = policy is TargetedPreselection ? selection.labelWithoutSize : selection.label
      return label.replacing(" ", with: "-") + "-"
    }
    let name = "\(name ?? model.name)-\(selection ?? "")\(policy.name)-\(model.precision.name)"
    let path = "\(output)/\(benchmark.answerFolder)/\(name).jsonl"
    Log.write("\(benchmark.name): \(name)")
    try RunManifest(model, base, limit: limit, scoresChoices: scoring == .likelihood).write(
      nextTo: path, overwrites: overwrite)
    try answer(questionFile(benchmark), in: data, to: path, with: model, like: base)
    do {
      try collected.score(benchmark, in: data, (name, path), uploads: output, countsMissing: true)
    } catch let error as DataError {
      Log.error("\(benchmark.name): \(error)")
      collected.hasErrors = true
    }
  }

  /// Answers the questions of a file; ends the program if a signal stops the run.
  private func answer(
    _ questions: String, in data: DataFolder, to path: String, with model: VisionLanguageModel, like base: Request
  ) throws {
    var batchOptions = Batch.Options(input: .lines(path: questions, folder: data.path))
    batchOptions.spelling = { $0.option }
    batchOptions.output = path
    batchOptions.existingOutput = overwrite ? .overwrite : .resume(retriesFailures: true)
    batchOptions.keepsTimes = !omitsTimings
    let batch = try Batch(batchOptions)
    let display = ProgressDisplay(progressArguments.progress, recordName: "question")
    defer { display.end() }
    let report = try batch.run(
      model, like: base, engine: engine.engine(threads: loading.threadCount), isStopped: { StopSignal.isRequested },
      observer: display)
    display.end()
    if report.stopped {
      Log.write("stopped; to resume, run the same command\(overwrite ? " without --overwrite" : "")")
      StopSignal.endProcess()
    }
  }
}

/// Writes a benchmark's questions to a file for batch inference.
enum QuestionWriter {
  /// Writes all questions, or about `limit` evenly spaced ones.
  ///
  /// Consecutive questions about the same image stay together.
  ///
  /// - Returns: The number of questions written.
  /// - Throws: `DataError`, `FileArgumentError`.
  static func write(
    _ benchmark: any Benchmark, in data: DataFolder, to path: String, limit: Int?, scoresChoices: Bool
  ) throws -> Int {
    var fraction = 1.0
    // Written if no other group is: a limit may be less than the questions about an image.
    var onlyGroup: Int?
    if let limit {
      var (count, groups) = (0, GroupCounter())
      try benchmark.questions(in: data) { question in
        count += 1
        groups.count(question)
      }
      fraction = min(1, Double(limit) / Double(max(1, count)))
      if Int(Double(groups.last + 1) * fraction) == 0 { onlyGroup = 0 }
    }
    try OutputFile.makeFolder(of: path)
    let output = try Output(path: path)
    var written = 0
    var groups = GroupCounter()
    try benchmark.questions(in: data) { question in
      groups.count(question)
      let group = groups.last
      guard group == onlyGroup || Int(Double(group + 1) * fraction) > Int(Double(group) * fraction) else { return }
      var asked = question
      if scoresChoices { asked.choices = benchmark.choices(of: question) }
      try output.write(try JSONLine.encode(QuestionLine(asked)))
      written += 1
    }
    return written
  }

  /// Counts groups of consecutive questions about the same image.
  private struct GroupCounter {
    /// The number of the group of the last question.
    private(set) var last = -1
    private var image: Question.Image?

    mutating func count(_ question: Question) {
      if image != question.image || question.image == .none { last += 1 }
      image = question.image
    }
  }
}
