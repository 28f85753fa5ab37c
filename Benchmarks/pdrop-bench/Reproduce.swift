import ArgumentParser
import CommandLineSupport
import Evaluation
import Foundation
import Kernels
import ModelFormats
import PDrop
import Reports
import TokenDropping

/// `pdrop-bench reproduce`: one report of measurements for the paper's comparisons.
struct ReproduceCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reproduce",
    abstract: "Measures cost and accuracy for the paper's comparisons of methods, and writes a report.",
    discussion: """
      Cost is measured with the shapes of LLaVA-1.5-7B and LLaVA-NeXT-7B, with random weights or with the given model \
      directories. Accuracy is measured with the bundled model and its evaluation set. --quick uses only the bundled \
      model.
      """)

  @Option(name: .customLong("model-15"), help: "LLaVA-1.5-7B directory to measure in place of random weights.")
  var model15: String?

  @Option(name: .customLong("model-next"), help: "LLaVA-NeXT-7B directory to measure in place of random weights.")
  var modelNext: String?

  @Option(help: "Compute precisions of the 7B models to compare.")
  var precision = NameList<Precision>([.bf16, .int8])

  @Flag(help: "Measure only the bundled model with fewer questions, in less than two minutes.")
  var quick = false

  @Option(help: "Layers of models with random weights, for a quick test. (default: all)")
  var layers: Int?

  @Option(help: "Maximum number of questions. (default: all; 60 with --quick)")
  var questions: Int?

  @Option(name: .customLong("report-folder"), help: "Folder for reproduce.html, reproduce.md and reproduce.json.")
  var reportFolder: String

  @Option(name: [.customShort("p"), .customLong("n-prompt")], help: "Text tokens of the prompt, besides one image.")
  var textTokens = 49

  @Option(name: [.customShort("n"), .customLong("n-gen")], help: "Tokens to decode after the first.")
  var generatedTokens = 8

  @Option(name: [.short, .long], help: "Measured repetitions, after one warm-up.")
  var repetitions = 3

  @Option(name: [.short, .long], help: "Threads to compute on. (default: all cores)")
  var threads: Int?

  func validate() throws {
    try checkRange("--repetitions", repetitions, 1...1 << 20)
    try checkRange("--n-gen", generatedTokens, 1...1 << 20)
    try checkRange("--n-prompt", textTokens, 2...1 << 20)
    try checkRange("--questions", questions, 1...1_000_000_000_000)
    guard layers.map({ (25...1024).contains($0) }) ?? true else {
      throw ValidationError("--layers must be at least 25, as figure 1 drops after layer 24; found \(layers ?? 0)")
    }
    guard !quick || model15 == nil && modelNext == nil else {
      throw ValidationError("--quick measures the bundled model; leave out --model-15 and --model-next")
    }
  }

  private var threadCount: Int { ThreadCount(requested: threads).count }

  func run() throws {
    // Before a long measurement, so that a folder that cannot be made is reported first.
    try FileManager.default.createDirectory(atPath: reportFolder, withIntermediateDirectories: true)
    let start = ContinuousClock.now
    let costs = try quick ? [bundledCost()] : PaperModel.allCases.flatMap(costs)
    let selectionCosts = try quick ? [] : selectionCosts(besides: costs)
    let accuracy = try accuracy()
    let conclusions = Conclusions(costs: costs, accuracy: accuracy)
    let report = Report(
      "PyramidDrop and FastV: measured cost and accuracy",
      summary: conclusions.summary,
      sections: [conclusions.section] + CostReport(comparisons: costs, selections: selectionCosts).sections
        + AccuracyReport(comparison: accuracy).sections + [scheduleOptions(costs + selectionCosts, accuracy)],
      metadata: Report.Metadata.measured()
        + (costs + selectionCosts.filter { !costs.map(\.name).contains($0.name) }).map {
          Report.Metadata("peaks, \($0.name)", $0.peaks.description)
        }
        + [Report.Metadata("duration", "\(((ContinuousClock.now - start).milliseconds / 1e3).formatted(0)) s")])
    try report.write(to: reportFolder, name: "reproduce")
  }

  /// The command-line options of all schedules in the report.
  private func scheduleOptions(_ costs: [CostComparison], _ accuracy: AccuracyComparison) -> Report.Section {
    var rows: [[Table.Cell]] = []
    for schedule in costs.flatMap(\.schedules) + accuracy.schedules {
      let row = [Table.Cell(schedule.title), Table.Cell("--policy \(schedule.name)")]
      if !rows.contains(where: { $0[0].text == row[0].text }) { rows.append(row) }
    }
    return Report.Section(
      "Options of the schedules",
      [
        .table(
          Table(columns: [.init("schedule", heading: "schedule"), .init("options", heading: "options")], rows: rows))
      ])
  }

  // MARK: - Cost

  /// The cost of a model of the paper in each compute type, one after the other: two models may not fit into memory.
  private func costs(_ paper: PaperModel) throws -> [CostComparison] {
    // The paper's table 2 compares resolutions; one compute type is enough.
    let precisions = paper == .llavaNextP9 ? precision.names.suffix(1) : precision.names[...]
    return try precisions.map { precision in
      var schedules = PaperSchedule.methods + (paper == .llavaNextP9 ? [] : PaperSchedule.lambdas)
      // Figure 4 is about LLaVA-NeXT-7B. One compute type is enough, because FLOPs do not depend on it.
      if paper == .llavaNext, precision == self.precision.names.last {
        schedules += PaperSchedule.operatingPoints(["fastv", "pyramiddrop"])
      }
      // Selections, as the following rows in 4 bits.
      if precision == self.precision.names.last { schedules += paper.selections }
      return try compare(paper, precision, schedules)
    }
  }

  private func compare(
    _ paper: PaperModel, _ precision: Precision, _ schedules: [PaperSchedule]
  ) throws -> CostComparison {
    let model = try model(paper, precision)
    Log.write("\(paper.title): \(model.precision.reason)")
    return try compare(
      .init(title: paper.title, model: model, paper: paper, nominalTokens: paper.nominalTokens, image: paper.image),
      schedules)
  }

  /// The comparisons of selections before the decoder: those measured already, and the same models in 4 bits.
  private func selectionCosts(besides costs: [CostComparison]) throws -> [CostComparison] {
    let models = PaperModel.allCases.filter { !$0.selections.isEmpty }
    let fourBit = precision.names.contains(.int4) ? [] : models
    return try costs.filter(\.hasSelections)
      + fourBit.map { try compare($0, .int4, [.none, .pyramidDrop] + $0.selections) }
  }

  private func model(_ paper: PaperModel, _ precision: Precision) throws -> VisionLanguageModel {
    var options = try ModelSourceOptions.parse([])
    options.layers = layers
    let directory =
      switch paper {
      case .llava15: model15
      case .llavaNext: modelNext
      case .llavaNextP9: String?.none
      }
    return try options.load(
      directory.map(ModelSource.directory) ?? .synthetic(paper.shape), precision, threads: threadCount)
  }

  private func bundledCost() throws -> CostComparison {
    let model = try bundledModel()
    return try compare(
      .init(title: model.name, model: model, nominalTokens: 576),
      PaperSchedule.methods + PaperSchedule.lambdas + PaperSchedule.operatingPoints(["fastv", "pyramiddrop"]))
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
    // Evenly spaced questions, to cover all families.
    let count = min(all.count, questions ?? (quick ? 60 : all.count))
    let chosen = (0..<count).map { all[$0 * all.count / count] }
    return try AccuracyComparison(
      bundledModel(),
      PaperSchedule.methods + PaperSchedule.lambdas + PaperSchedule.single
        + PaperSchedule.operatingPoints(["fastv", "pyramiddrop", "random", "uniform"]),
      chosen, images: folder + "/images", generatedTokens: 12, threads: threadCount)
  }
}

/// The opening of the report: time to first token, prefill FLOPs and accuracy of each method relative to no dropping.
struct Conclusions {
  let costs: [CostComparison]
  let accuracy: AccuracyComparison

  /// The methods that are compared with no dropping.
  private let methods = PaperSchedule.methods.filter { $0 != .none }

  /// The baseline: no dropping.
  var summary: String {
    let baselines = costs.compactMap { comparison -> String? in
      guard let row = comparison[.none] else { return nil }
      let gigaflops = (Double(row.prefillFlops) / 1e9).significant(3)
      return
        "\(comparison.name): time to first token \(milliseconds(row.firstToken.median)) ms, prefill \(gigaflops) "
        + "GFLOPs."
    }
    let share = accuracy[.none]?.agreement.accuracy.map { percent($0.share) } ?? "unknown"
    return "The baseline is no dropping. \(baselines.joined(separator: " ")) "
      + "Accuracy of \(accuracy.model.name): \(share) of \(accuracy.questionCount) questions."
  }

  var section: Report.Section { Report.Section("Conclusions", methods.compactMap(sentence) + [chart]) }

  /// Such as `PyramidDrop λ=0.5: time to first token 60.5% of baseline, prefill FLOPs 47.0% of baseline, accuracy …`.
  private func sentence(_ schedule: PaperSchedule) -> Report.Block? {
    guard let title = title(schedule) else { return nil }
    var parts: [String] = []
    let times = costs.compactMap { $0.fractionsOfBaseline(schedule)?.firstToken }
    let flops = costs.compactMap { $0.fractionsOfBaseline(schedule)?.prefillFlops }
    if !times.isEmpty { parts.append("time to first token \(range(times)) of baseline") }
    if !flops.isEmpty { parts.append("prefill FLOPs \(range(flops)) of baseline") }
    if let share = accuracy[schedule]?.agreement.accuracy?.share, let fraction = accuracy.accuracyOfBaseline(schedule) {
      var notes = ["\(percent(fraction)) of baseline"]
      if let difference = accuracy.difference(schedule, from: .none), let interval = difference.interval {
        let numbers = [interval.difference, interval.low, interval.high].map { (100 * $0).formatted(1) }
        let significance = difference.isSignificant ? "significant" : "not significant"
        notes.append("difference \(numbers[0]) points, 95% CI \(numbers[1]) to \(numbers[2]), \(significance)")
      }
      parts.append("accuracy \(percent(share)) (\(notes.joined(separator: "; ")))")
    }
    return .text("\(title): \(parts.joined(separator: ", ")).")
  }

  private var chart: Report.Block {
    var groups: [String] = []
    var values: [[Double?]] = []
    for comparison in costs {
      groups.append("time to first token, \(comparison.name)")
      values.append(methods.map { comparison.fractionsOfBaseline($0)?.firstToken })
    }
    // FLOPs do not depend on the compute type.
    for comparison in costs where !groups.contains("prefill FLOPs, \(comparison.subject.title)") {
      groups.append("prefill FLOPs, \(comparison.subject.title)")
      values.append(methods.map { comparison.fractionsOfBaseline($0)?.prefillFlops })
    }
    groups.append("accuracy, \(accuracy.model.name)")
    values.append(methods.map(accuracy.accuracyOfBaseline))
    let series = methods.enumerated().map { index, method in
      BarPlot.Series(title(method) ?? method.words, values.map { $0[index].map { BarPlot.Bar($0) } })
    }
    return .bars(
      BarPlot(
        "Cost and accuracy relative to no dropping", axis: Axis("% of baseline", unit: .percent, reaches: [1]),
        groups: groups, series: series))
  }

  private func title(_ schedule: PaperSchedule) -> String? {
    accuracy[schedule]?.schedule.title ?? costs.lazy.compactMap { $0[schedule]?.schedule.title }.first
  }

  /// `60.5%`, or `55.0% to 62.3%` for several models.
  private func range(_ fractions: [Double]) -> String {
    let (low, high) = (percent(fractions.min() ?? .nan), percent(fractions.max() ?? .nan))
    return low == high ? low : "\(low) to \(high)"
  }
}

/// A model of the paper, with the published numbers.
///
/// Source: PyramidDrop (arXiv 2410.17247), tables 2 and 5 and figure 4.
enum PaperModel: CaseIterable {
  case llava15, llavaNext
  /// LLaVA-NeXT with up to eight tiles; always with random weights, as no checkpoint is published.
  case llavaNextP9

  var title: String {
    switch self {
    case .llava15: "LLaVA-1.5-7B"
    case .llavaNext: "LLaVA-NeXT-7B"
    case .llavaNextP9: "LLaVA-NeXT-7B with up to 8 tiles"
    }
  }

  var shape: ModelPreset {
    switch self {
    case .llava15: .llava15With7B
    case .llavaNext: .llavaNext7B
    case .llavaNextP9: .llavaNext7BWith9Patches
    }
  }

  /// The visual tokens in the paper's calculation; for LLaVA-NeXT those of five or nine views, without newline tokens.
  var nominalTokens: Int {
    switch self {
    case .llava15: 576
    case .llavaNext: 2880
    case .llavaNextP9: 5184
    }
  }

  /// The size of an image with the nominal tokens; LLaVA-NeXT adds 48 newline tokens, for five views and for nine.
  var image: PixelSize {
    switch self {
    case .llava15: PixelSize(height: 336, width: 336)
    case .llavaNext: PixelSize(height: 672, width: 672)
    case .llavaNextP9: PixelSize(height: 672, width: 1344)
    }
  }

  /// The selections whose cost is measured: 192, 128 and 64 tokens of each view, then PyramidDrop.
  var selections: [PaperSchedule] {
    let views =
      switch self {
      case .llava15: 1
      case .llavaNext: 5
      case .llavaNextP9: 0
      }
    return views == 0 ? [] : [192, 128, 64].map { .selection(tokens: views * $0) }
  }

  /// TFLOPs of the decoder as printed in table 5: visual tokens only, one per multiply-add.
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

/// A schedule from the paper's tables and figures.
enum PaperSchedule: Hashable {
  case none, fastV, pyramidDrop
  /// Table 4.
  case lambda(Double)
  /// Figure 1: one drop after a layer, with the keep ratio.
  case single(layer: Int, kept: Double)
  /// Figure 4: a policy with a target for prefill FLOPs.
  case share(PolicyShare)
  /// SCOPE's selection before the decoder, then PyramidDrop.
  case selection(tokens: Int)
  /// A method with a target for prefill FLOPs, by its options.
  case method(CostMethod, share: Double)

  struct PolicyShare: Hashable {
    var policy: String
    /// Prefill FLOPs relative to no dropping.
    var share: Double
  }

  /// The methods of table 5.
  static let methods: [PaperSchedule] = [.none, .fastV, .pyramidDrop]
  /// The other values of λ in table 4; 0.5 is among the methods.
  static let lambdas: [PaperSchedule] = [.lambda(0.4), .lambda(0.6)]
  /// Figure 1. The layers are the paper's, the keep ratios are ours.
  static let single: [PaperSchedule] = [2, 8, 16, 24].flatMap { layer in
    [0.75, 0.5, 0.25, 0.1].map { .single(layer: layer, kept: $0) }
  }
  /// Figure 4: 8, 10, 12 and 14 of the 20.8252 TFLOPs of LLaVA-NeXT-7B.
  static let shares = [8, 10, 12, 14].map { $0 / 20.8252 }

  /// The schedules of figure 4 for some policies.
  static func operatingPoints(_ policies: [String]) -> [PaperSchedule] {
    policies.flatMap { policy in shares.map { .share(PolicyShare(policy: policy, share: $0)) } }
  }

  /// The policy and its options on the command line.
  var words: String {
    switch self {
    case .none: "none"
    case .fastV: "fastv --fastv-k 2 --fastv-r 0.5"
    case .pyramidDrop: "pyramiddrop --lambda 0.5"
    case .lambda(let lambda): "pyramiddrop --lambda \(lambda)"
    case .single(let layer, let kept): "pyramiddrop --layer-list \(layer) --image-token-ratio-list \(kept)"
    case .selection(let tokens): "pyramiddrop --preselect scope --preselect-tokens \(tokens)"
    case .share(let point): "\(point.policy) --target-flops \(percent(point.share))"
    case .method(let method, let share): "\(method.words) --target-flops \(percent(share))"
    }
  }
}
