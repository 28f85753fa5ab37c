import ArgumentParser
import CommandLineSupport
import Foundation
import Kernels
import ModelFormats
import PDrop
import Reports
import TokenDropping

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
  var precision = NameList<PDrop.Precision>([.bf16, .int8])

  @Flag(help: "The bundled model alone, and fewer questions: a look in less than two minutes.")
  var quick = false

  @Option(help: "Layers of models with random weights, for a trial. (default: all)")
  var layers: Int?

  @Option(help: "Most questions to ask. (default: all; with --quick 60)")
  var questions: Int?

  @Option(name: .customLong("report-folder"), help: "Where reproduce.html, .md and .json are written.")
  var reportFolder: String

  @Option(name: [.customShort("p"), .customLong("n-prompt")], help: "Text tokens of the prompt, beside one image.")
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
    let report = Report(
      "PyramidDrop's comparisons, measured",
      summary: costs.map(\.reach).first,
      sections: CostReport(comparisons: costs).sections + AccuracyReport(comparison: accuracy).sections,
      metadata: Report.Metadata.made() + costs.map { Report.Metadata("limits beside \($0.name)", $0.peaks.description) }
        + [Report.Metadata("time", "\((ContinuousClock.now - start).milliseconds.formatted(0)) ms")])
    for (name, text) in [
      ("html", try report.html), ("md", report.markdown), ("json", String(decoding: try report.json, as: UTF8.self)),
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
          title: paper.title, model: model, paper: paper, nominalTokens: paper.nominalTokens, image: paper.image),
        schedules)
    }
  }

  private func model(_ paper: PaperModel, _ precision: PDrop.Precision) throws -> VisionLanguageModel {
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
      chosen, images: folder + "/images", generatedTokens: 12, threads: threadCount)
  }
}

/// A model that the paper reports on, and what it reports.
///
/// Source: PyramidDrop (arXiv 2410.17247), table 5 and figure 4.
enum PaperModel: CaseIterable {
  case llava15, llavaNext

  var title: String {
    switch self {
    case .llava15: "LLaVA-1.5-7B"
    case .llavaNext: "LLaVA-NeXT-7B"
    }
  }

  var shape: ModelPreset {
    switch self {
    case .llava15: .llava15With7B
    case .llavaNext: .llavaNext7B
    }
  }

  /// The visual tokens that the paper reckons with; in LLaVA-NeXT those of five views, without the newlines between rows.
  var nominalTokens: Int {
    switch self {
    case .llava15: 576
    case .llavaNext: 2880
    }
  }

  /// An image that has the nominal tokens, in LLaVA-NeXT with 48 newlines more.
  var image: PixelSize {
    switch self {
    case .llava15: PixelSize(height: 336, width: 336)
    case .llavaNext: PixelSize(height: 672, width: 672)
    }
  }

  /// TFLOPs of the decoder as table 5 prints them, a multiply-add as one, for visual tokens alone.
  func teraflops(_ schedule: PaperSchedule) -> String? {
    switch (self, schedule) {
    case (.llava15, .none): "3.82"
    case (.llava15, .pyramidDrop): "1.78"
    case (.llava15, .fastV): "2.01"
    case (.llavaNext, .none): "20.8"
    case (.llavaNext, .pyramidDrop): "9.46"
    case (.llavaNext, .fastV): "10.6"
    default: nil
    }
  }
}

/// The schedules that the paper's tables and figures compare.
enum PaperSchedule: Hashable {
  case none, fastV, pyramidDrop
  /// Table 4.
  case lambda(Double)
  /// Figure 1: one drop after a layer, to a share of the tokens.
  case single(layer: Int, kept: Double)
  /// Figure 4: a policy at a share of the operations without dropping.
  case share(PolicyShare)

  struct PolicyShare: Hashable {
    var policy: String
    var share: Double
  }

  /// The three of table 5.
  static let methods: [PaperSchedule] = [.none, .fastV, .pyramidDrop]
  /// Table 4; 0.5 is among the methods.
  static let lambdas: [PaperSchedule] = [.lambda(0.4), .lambda(0.6)]
  /// Figure 1. The paper draws curves for these layers; the shares are ours.
  static let single: [PaperSchedule] = [2, 8, 16, 24].flatMap { layer in
    [0.75, 0.5, 0.25, 0.1].map { .single(layer: layer, kept: $0) }
  }
  /// Figure 4: 8, 10, 12 and 14 of the 20.8252 TFLOPs that LLaVA-NeXT-7B takes.
  static let shares = [8, 10, 12, 14].map { $0 / 20.8252 }

  /// Figure 4 for some policies.
  static func operatingPoints(_ policies: [String]) -> [PaperSchedule] {
    policies.flatMap { policy in shares.map { .share(PolicyShare(policy: policy, share: $0)) } }
  }

  /// The words of the command line.
  var words: String {
    switch self {
    case .none: "none"
    case .fastV: "fastv --fastv-k 2 --fastv-r 0.5"
    case .pyramidDrop: "pyramiddrop --lambda 0.5"
    case .lambda(let lambda): "pyramiddrop --lambda \(lambda)"
    case .single(let layer, let kept): "pyramiddrop --layer-list \(layer) --image-token-ratio-list \(kept)"
    case .share(let point): "\(point.policy) --target-flops \(percent(point.share))"
    }
  }
}
