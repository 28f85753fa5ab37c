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

  @Option(name: [.customShort("n"), .customLong("n-gen")], help: "Maximum number of new tokens.")
  var generatedTokens = 12

  @Option(name: [.short, .long], help: "Threads to compute on. (default: all cores)")
  var threads: Int?

  func validate() throws {
    guard limit.map({ $0 >= 1 }) ?? true else { throw ValidationError("--limit must be at least 1") }
    guard generatedTokens >= 1 else { throw ValidationError("--n-gen must be at least 1, found \(generatedTokens)") }
    guard threads.map({ (1...1024).contains($0) }) ?? true else {
      throw ValidationError("--threads must be 1 to 1024, found \(threads ?? 0)")
    }
  }

  var threadCount: Int { ThreadCount(requested: threads).count }

  func loadModel() throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    (options.threads, options.precision) = (threadCount, precision)
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
    let count = min(all.count, limit ?? all.count)
    return ((0..<count).map { all[$0 * all.count / count] }, folder)
  }

  /// Text tokens of the longest prompt, besides its image.
  func longestText(_ questions: [LabelledQuestion], _ model: VisionLanguageModel) throws -> Int {
    let longest = questions.max { $0.text.utf8.count < $1.text.utf8.count }?.text ?? ""
    let request = Request(question: longest, images: [.file("")])
    return try model.tokens(of: request.prompt, systemPrompt: nil).count - 1
  }
}

/// `pdrop-bench equal-cost`: accuracy of all methods at the same counted FLOPs.
struct EqualCostCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "equal-cost",
    abstract: "Compares selections and drops at the same counted prefill FLOPs, and writes a report.")

  @OptionGroup var arguments: QuestionArguments

  @Option(help: "Prefill FLOPs relative to no dropping, such as 50%,25%.")
  var shares: NumberList<Double>?

  @Option(
    name: .customLong("report-folder"), help: "Folder for equal-cost.html, equal-cost.md and equal-cost.json.")
  var reportFolder: String

  func run() throws {
    let start = ContinuousClock.now
    let model = try arguments.loadModel()
    let (questions, folder) = try arguments.questions()
    let textTokens = try arguments.longestText(questions, model)
    let shares = shares?.numbers ?? CostMethod.shares
    var schedules = [PaperSchedule.none]
    for method in CostMethod.all {
      for share in shares {
        if let schedule = try method.schedule(share, for: model, textTokens: textTokens) { schedules.append(schedule) }
      }
    }
    let comparison = try AccuracyComparison(
      model, schedules, questions, images: folder, generatedTokens: arguments.generatedTokens,
      threads: arguments.threadCount)
    let report = EqualCostReport(comparison: comparison, shares: shares).report(
      seconds: (ContinuousClock.now - start).milliseconds / 1e3)
    let directory = URL(filePath: reportFolder, directoryHint: .isDirectory)
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    for (name, text) in [
      ("html", try report.html), ("md", report.markdown), ("json", String(decoding: try report.json, as: UTF8.self)),
    ] {
      let path = directory.appending(path: "equal-cost.\(name)").path
      try Output.write(Data(text.utf8), toFile: path)
      Log.write("written: \(path)")
    }
  }
}

/// The report of a comparison at equal cost.
struct EqualCostReport {
  let comparison: AccuracyComparison
  let shares: [Double]

  func report(seconds: Double) -> Report {
    let accuracy = comparison[.none]?.agreement.accuracy.map { percent($0.share) } ?? "unknown"
    return Report(
      "Selection and dropping at the same cost",
      summary:
        "\(comparison.questionCount) questions to \(comparison.model.name). Without dropping, \(accuracy) are answered "
        + "correctly. The cost is that of the prefill, selection and ranking included, counted in the kernels and "
        + "relative to no dropping. For each method, the number of tokens is the largest within the cost.",
      sections: [chart] + shares.map(section) + [families],
      metadata: Report.Metadata.measured() + [Report.Metadata("duration", "\(seconds.formatted(0)) s")])
  }

  private var chart: Report.Section {
    let series = CostMethod.all.map { method in
      Plot.Series(
        method.title,
        shares.compactMap { share -> Plot.Point? in
          let schedule = PaperSchedule.method(method, share: share)
          guard let accuracy = comparison[schedule]?.agreement.accuracy,
            let flops = comparison.flopsOfBaseline(schedule)
          else { return nil }
          return Plot.Point(flops, accuracy.share, low: accuracy.low, high: accuracy.high)
        })
    }
    return Report.Section(
      "Accuracy by cost",
      [
        .plot(
          Plot(
            "Accuracy by prefill FLOPs", x: Axis("prefill FLOPs (% of baseline)", unit: .percent),
            y: Axis("accuracy", unit: .percent), series: series))
      ])
  }

  private func section(_ share: Double) -> Report.Section {
    let schedules = CostMethod.all.map { PaperSchedule.method($0, share: share) }.filter { comparison[$0] != nil }
    return Report.Section(
      "At \(percent(share)) of the prefill FLOPs",
      [.text(verdict(schedules, share)), .table(Table(comparison.tableRows([.none] + schedules)))])
  }

  /// The best method, and its difference from PyramidDrop at the same cost.
  private func verdict(_ schedules: [PaperSchedule], _ share: Double) -> String {
    func accuracy(_ schedule: PaperSchedule) -> Double { comparison[schedule]?.agreement.accuracy?.share ?? 0 }
    func title(_ schedule: PaperSchedule) -> String {
      if case .method(let method, _) = schedule { method.title } else { schedule.words }
    }
    guard let best = schedules.max(by: { accuracy($0) < accuracy($1) }) else {
      return "No method costs as little with these prompts."
    }
    let text = "Most accurate: \(title(best)), \(percent(accuracy(best)))."
    let pyramids = CostMethod.drops.dropFirst().map { PaperSchedule.method($0, share: share) }
      .filter { comparison[$0] != nil }
    guard let pyramid = pyramids.max(by: { accuracy($0) < accuracy($1) }) else {
      return text + " PyramidDrop alone cannot cost as little."
    }
    guard pyramid != best, let difference = comparison.difference(best, from: pyramid),
      let interval = difference.interval
    else { return text }
    let (low, high) = (interval.low, interval.high)
    return text + " Paired difference from \(title(pyramid)), the best drop inside the decoder: "
      + "\(points(interval.difference, low, high)), 95% CI, "
      + (difference.isSignificant ? "significant." : "not significant.")
  }

  private var families: Report.Section {
    let share = shares.min { abs($0 - 0.25) < abs($1 - 0.25) } ?? 0.25
    let schedules = CostMethod.all.map { PaperSchedule.method($0, share: share) }.filter { comparison[$0] != nil }
    return Report.Section(
      "Accuracy by question family at \(percent(share))",
      [.table(Table(comparison.familyRows([.none] + schedules), title: "Accuracy (95% CI)"))])
  }
}
