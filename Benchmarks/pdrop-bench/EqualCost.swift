import ArgumentParser
import CommandLineSupport
import Evaluation
import Foundation
import PDrop
import Reports
import TokenDropping

/// The questions of a comparison: the bundled evaluation set, or a file.
struct QuestionArguments: ParsableArguments {
  @Option(name: [.short, .long], help: "Model directory. (default: the bundled tiny-textvqa)")
  var model: String?

  @Option(
    help:
      "Questions, one JSON object per line: image, text and optionally answer. (default: the bundled evaluation set)")
  var input: String?

  @Option(name: .customLong("image-folder"), help: "Folder of the images. (default: the folder of the questions)")
  var imageFolder: String?

  @Option(help: "Maximum number of questions, evenly spaced. (default: all)")
  var limit: Int?

  @Option(help: "Compute precision of the language model.")
  var precision = Precision.auto

  @Option(
    name: .customLong("clip-model"),
    help: "CLIP directory with a text encoder, for CDPruner; none for the language model's embeddings. (default: found)"
  )
  var clipModel: String?

  @Option(
    name: [.customShort("n"), .customLong("n-gen")],
    help: "Maximum number of new tokens. (default: 12; for a benchmark as in LLaVA's scripts)")
  var generatedTokens: Int?

  @Option(name: [.short, .long], help: "Threads to compute on. (default: all cores)")
  var threads: Int?

  func validate() throws {
    try checkRange("--limit", limit, 1...1_000_000_000_000)
    try checkRange("--n-gen", generatedTokens, 1...1 << 20)
    try checkRange("--threads", threads, 1...1024)
  }

  var threadCount: Int { ThreadCount(requested: threads).count }

  func loadModel() throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    (options.threads, options.precision) = (threadCount, precision)
    options.clipModel = CLIPSource(option: clipModel)
    return try VisionLanguageModel(directory: try model ?? BundledModel.directory(), options: options)
  }

  /// The questions, and the folder of their images.
  func questions() throws -> ([LabelledQuestion], folder: String) {
    let bundled = try input == nil ? BundledModel.evaluationSet() : ""
    let path = input ?? bundled + "/answers.jsonl"
    let folder =
      imageFolder ?? (input == nil ? bundled + "/images" : URL(filePath: path).deletingLastPathComponent().path)
    let all = try LabelledQuestion.read(path)
    guard !all.isEmpty else { throw FileArgumentError("\(path): no questions") }
    return (all.evenlySpaced(limit), folder)
  }

  /// Maximum number of new tokens of the bundled questions and of a file.
  var answerTokens: Int { generatedTokens ?? 12 }

  /// Text tokens of the longest prompt, besides its image.
  func longestText(_ questions: [LabelledQuestion], _ model: VisionLanguageModel) throws -> Int {
    let longest = questions.max { $0.text.utf8.count < $1.text.utf8.count }?.text ?? ""
    let request = Request(question: longest, images: [.file("")])
    return try model.tokens(of: request.prompt, systemPrompt: nil).count - 1
  }
}

extension Array {
  /// As many evenly spaced elements, or all of them.
  func evenlySpaced(_ limit: Int?) -> [Element] {
    let count = Swift.min(self.count, limit ?? self.count)
    return (0..<count).map { self[$0 * self.count / count] }
  }
}

/// `pdrop-bench equal-cost`: accuracy of all methods at the same counted FLOPs.
struct EqualCostCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "equal-cost",
    abstract: "Compares selections and drops at the same counted prefill FLOPs, and writes a report.",
    discussion: """
      With --data, each benchmark of a folder is scored by its own metric, in a report of its own. A question is answered \
      by every method at every cost, more than 80 times, so 20 questions of each benchmark are asked by default.
      """)

  @OptionGroup var arguments: QuestionArguments

  @Option(help: "Prefill FLOPs relative to no dropping, such as 0.5,0.25.")
  var shares: NumberList<Double>?

  @Option(help: "In place of --input: folder of benchmarks, laid out as in LLaVA's playground/data/eval.")
  var data: String?

  @Option(help: ArgumentHelp("With --data: benchmarks, separated by commas. (default: all that are there)"))
  var benchmark: String?

  @Option(name: .customLong("report-folder"), help: "Folder for NAME.html, NAME.md and NAME.json.")
  var reportFolder: String

  @Option(help: "Name of the files of the report; with --data followed by the name of the benchmark.")
  var name = "equal-cost"

  /// Questions of each benchmark without `--limit`.
  private static let benchmarkLimit = 20

  func validate() throws {
    guard shares?.numbers.allSatisfy({ $0 > 0 && $0 <= 1 }) ?? true else {
      throw ValidationError("--shares must be above 0 and at most 1, found \(shares?.defaultValueDescription ?? "")")
    }
    guard data == nil || arguments.input == nil && arguments.imageFolder == nil else {
      throw ValidationError("--data has questions and images of its own; leave out --input and --image-folder")
    }
    guard data != nil || benchmark == nil else { throw ValidationError("--benchmark requires --data") }
    _ = try benchmarks()
  }

  private func benchmarks() throws -> [any Benchmark] {
    guard let benchmark else { return Benchmarks.all }
    return try benchmark.split(separator: ",").map { name in
      guard let known = Benchmarks.named(String(name)) else {
        let names = Benchmarks.all.map(\.name).joined(separator: ", ")
        throw ValidationError("--benchmark '\(name)' does not exist; use one or more of \(names)")
      }
      return known
    }
  }

  func run() throws {
    // Before a long measurement, so that a folder that cannot be made is reported first.
    try FileManager.default.createDirectory(atPath: reportFolder, withIntermediateDirectories: true)
    guard let data else {
      let model = try arguments.loadModel()
      let (questions, folder) = try arguments.questions()
      try compare(model, questions, images: folder, answerTokens: arguments.answerTokens, nil, name: name)
      return
    }
    let folder = DataFolder(data)
    let present = try benchmarks().filter { $0.missing([.questions, .images], in: folder).isEmpty }
    guard !present.isEmpty else {
      throw FileArgumentError("\(data): no benchmark to answer; pdrop-eval list shows the expected files")
    }
    let model = try arguments.loadModel()
    for benchmark in present {
      let sample = try BenchmarkSample(benchmark, in: folder, limit: arguments.limit ?? Self.benchmarkLimit)
      guard !sample.questions.isEmpty else { continue }
      try compare(
        model, sample.labelled, images: data, answerTokens: arguments.generatedTokens ?? benchmark.maxNewTokens, sample,
        name: "\(name)-\(benchmark.name)")
    }
  }

  /// Compares all methods on some questions, and writes the report.
  private func compare(
    _ model: VisionLanguageModel, _ questions: [LabelledQuestion], images folder: String, answerTokens: Int,
    _ sample: BenchmarkSample?, name: String
  ) throws {
    let start = ContinuousClock.now
    let textTokens = try arguments.longestText(questions, model)
    let shares = shares?.numbers ?? CostMethod.shares
    var schedules = [PaperSchedule.none]
    for method in CostMethod.all {
      for share in shares {
        if let schedule = try method.schedule(share, for: model, textTokens: textTokens) { schedules.append(schedule) }
      }
    }
    Log.write("\(name): \(questions.count) questions, \(schedules.count) schedules")
    var comparison = try AccuracyComparison(
      model, schedules, questions, images: folder, generatedTokens: answerTokens, threads: arguments.threadCount)
    if let sample { try comparison.score { try sample.score($0) } }
    let report = EqualCostReport(comparison: comparison, shares: shares, benchmark: sample?.benchmark).report(
      seconds: (ContinuousClock.now - start).milliseconds / 1e3)
    try report.write(to: reportFolder, name: name)
  }
}

/// Evenly spaced questions of a benchmark that have an image, and their score.
struct BenchmarkSample {
  let benchmark: any Benchmark
  let questions: [Question]
  private let data: DataFolder

  init(_ benchmark: any Benchmark, in data: DataFolder, limit: Int) throws {
    (self.benchmark, self.data) = (benchmark, data)
    var all: [Question] = []
    try benchmark.questions(in: data) { if $0.image != .none { all.append($0) } }
    questions = all.evenlySpaced(limit)
  }

  /// The questions without labels, which only the benchmark's own scoring has.
  var labelled: [LabelledQuestion] {
    questions.map { question in
      var labelled = LabelledQuestion(image: question.id.description, text: question.text, category: question.category)
      switch question.image {
      case .none: break
      case .file(let path): labelled.image = path
      case .base64(let text):
        labelled.bytes = Data(base64Encoded: text, options: .ignoreUnknownCharacters).map { [UInt8]($0) } ?? []
      }
      return labelled
    }
  }

  /// The main metric of answers to the questions; `nil` if the benchmark has no labels here.
  func score(_ texts: [String]) throws -> Metric? {
    guard benchmark.hasGroundTruth, benchmark.missing([.groundTruth], in: data).isEmpty else { return nil }
    let answers = zip(questions, texts).map { Answer(id: $0.id, prompt: $0.text, text: $1) }
    return try benchmark.score(AnswerSet(answers, countsMissing: false), in: data).metrics.first(where: \.isMain)
  }
}
