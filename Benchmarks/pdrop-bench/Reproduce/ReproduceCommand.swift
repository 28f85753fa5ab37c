import ArgumentParser
import BenchSupport
import CommandLineOptions
import Foundation
import ModelFormats
import PDrop
import Pages

/// `pdrop-bench reproduce`: the paper's comparisons, measured, in one report.
struct ReproduceCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reproduce",
    abstract: "Measures the paper's comparisons of methods, cost and accuracy, and writes a report of them.",
    discussion: """
      Cost is measured on models of LLaVA-1.5-7B's and LLaVA-NeXT-7B's shape, with random weights unless directories are \
      named; accuracy on the bundled model and its evaluation set. --quick measures the bundled model alone.
      """)

  @Option(name: .customLong("model-15"), help: "A LLaVA-1.5-7B directory to measure in place of random weights.")
  var model15: String?

  @Option(name: .customLong("model-next"), help: "A LLaVA-NeXT-7B directory to measure in place of random weights.")
  var modelNext: String?

  @Option(help: "Arithmetic of the 7B models, one or several.")
  var precision = NameList<Precision>([.bf16, .int8])

  @Flag(help: "The bundled model alone, and fewer questions: a look in less than two minutes.")
  var quick = false

  @Option(help: "Layers of models with random weights, for a trial. (default: all)")
  var layers: Int?

  @Option(help: "Most questions to ask. (default: all; with --quick 60)")
  var questions: Int?

  @Option(name: .customLong("report-folder"), help: "Where reproduce.html, .md and .json are written.")
  var reportFolder: String

  @Option(name: [.customShort("p"), .customLong("n-prompt")], help: "Text tokens of the prompt, beside one picture.")
  var textTokens = 49

  @Option(name: [.customShort("n"), .customLong("n-gen")], help: "Tokens to decode after the first.")
  var generatedTokens = 8

  @Option(name: [.short, .long], help: "Measured repetitions, after one that warms up. (default: 3)")
  var repetitions = 3

  @Option(name: [.short, .long], help: "Threads to compute on. (default: all cores)")
  var threads: Int?

  func validate() throws {
    guard repetitions >= 1 else { throw ValidationError("--repetitions must be at least 1, found \(repetitions)") }
    guard generatedTokens >= 1 else { throw ValidationError("--n-gen must be at least 1, found \(generatedTokens)") }
    guard textTokens >= 2 else { throw ValidationError("--n-prompt must be at least 2, found \(textTokens)") }
    guard questions.map({ $0 >= 1 }) ?? true else { throw ValidationError("--questions must be at least 1") }
    guard layers.map({ (25...1024).contains($0) }) ?? true else {
      throw ValidationError("--layers must be at least 25, as figure 1 drops after layer 24; found \(layers ?? 0)")
    }
    guard !quick || model15 == nil && modelNext == nil else {
      throw ValidationError("--quick measures the bundled model; leave out --model-15 and --model-next")
    }
  }

  private var threadCount: Int { threads ?? ProcessInfo.processInfo.activeProcessorCount }

  func run() throws {
    let folder = URL(filePath: reportFolder, directoryHint: .isDirectory)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let start = ContinuousClock.now
    let costs = try quick ? [bundledCost()] : PaperModel.allCases.flatMap(costs)
    let accuracy = try accuracy()
    let page = Page(
      "PyramidDrop's comparisons, measured",
      lead: costs.map(\.reach).first,
      sections: CostPage(comparisons: costs).sections + AccuracyPage(comparison: accuracy).sections,
      facts: Page.Fact.made() + costs.map { Page.Fact("limits beside \($0.name)", $0.limits.description) }
        + [Page.Fact("time", "\((ContinuousClock.now - start).milliseconds.formatted(0)) ms")])
    for (name, text) in [
      ("html", try page.html), ("md", page.markdown), ("json", String(decoding: try page.json, as: UTF8.self)),
    ] {
      let path = folder.appending(path: "reproduce.\(name)").path
      try Output(path: path).write(text)
      Log.write("written: \(path)")
    }
  }

  // MARK: - Cost

  /// A model of the paper in each arithmetic, one after the other: two of them may not fit into memory together.
  private func costs(_ paper: PaperModel) throws -> [CostComparison] {
    return try precision.names.map { precision in
      var schedules = PaperSchedule.methods + PaperSchedule.lambdas
      // The paper's figure is of this model; one arithmetic shows what another would.
      if paper == .llavaNext, precision == self.precision.names.last {
        schedules += PaperSchedule.operatingPoints(["pyramiddrop", "fastv"])
      }
      let model = try model(paper, precision)
      Log.write("\(paper.title): \(model.precision.reason)")
      return try compare(
        .init(
          title: paper.title, model: model, paper: paper, nominalTokens: paper.nominalTokens, picture: paper.picture),
        schedules)
    }
  }

  private func model(_ paper: PaperModel, _ precision: Precision) throws -> VisionLanguageModel {
    var options = try ModelSourceOptions.parse([])
    options.layers = layers
    let directory = paper == .llava15 ? model15 : modelNext
    return try options.load(
      directory.map(ModelSource.directory) ?? .synthetic(paper.shape), precision, threads: threadCount)
  }

  private func bundledCost() throws -> CostComparison {
    let model = try bundledModel()
    return try compare(
      .init(title: model.name, model: model, nominalTokens: 576),
      PaperSchedule.methods + PaperSchedule.lambdas + PaperSchedule.operatingPoints(["pyramiddrop", "fastv"]))
  }

  private func compare(_ subject: CostComparison.Subject, _ schedules: [PaperSchedule]) throws -> CostComparison {
    try CostComparison(
      subject, schedules, textTokens: textTokens, generatedTokens: generatedTokens, repetitions: repetitions,
      threads: threadCount)
  }

  // MARK: - Accuracy

  private func bundledModel() throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    options.threads = threadCount
    return try VisionLanguageModel(directory: BundledModel.directory(), options: options)
  }

  private func accuracy() throws -> AccuracyComparison {
    let folder = try BundledModel.evaluationSet()
    let all = try LabelledQuestion.read(folder + "/answers.jsonl")
    // Evenly spaced ones, so that a few stand for all.
    let count = min(all.count, questions ?? (quick ? 60 : all.count))
    let chosen = (0..<count).map { all[$0 * all.count / count] }
    return try AccuracyComparison(
      bundledModel(),
      PaperSchedule.methods + PaperSchedule.lambdas + PaperSchedule.single
        + PaperSchedule.operatingPoints(["pyramiddrop", "fastv", "random", "uniform"]),
      chosen, pictures: folder + "/images", generatedTokens: 12, threads: threadCount)
  }
}
