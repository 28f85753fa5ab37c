import CommandLineSupport
import Evaluation
import LLaVA
import ModelFormats
import PDrop
import Reports
import TokenDropping

/// What the paper's schedules cost a model in one arithmetic.
struct CostComparison {
  /// A model to be measured.
  struct Subject {
    /// Such as `LLaVA-NeXT-7B`.
    var title: String
    var model: VisionLanguageModel
    /// What the paper reports on; `nil` for another model.
    var paper: PaperModel?
    /// The visual tokens that the paper's formula is taken at.
    var nominalTokens: Int
    /// `nil` for one that fits the model.
    var image: PixelSize?
  }

  let subject: Subject
  private let rows: [PaperSchedule: CostRow]
  let peaks: Peaks

  /// Measures all schedules in turns.
  ///
  /// - Parameters:
  ///   - schedules: Different ones, no dropping among them.
  ///   - textTokens: Of the prompt.
  ///   - generatedTokens: After the first.
  init(
    _ subject: Subject, _ schedules: [PaperSchedule], textTokens: Int, generatedTokens: Int, repetitions: Int,
    threads: Int
  ) throws {
    self.subject = subject
    let named = try schedules.map { try NamedSchedule($0.words) }
    var pipeline = Pipeline(
      subjects: [.init(model: subject.model, policies: named.map(\.policy), image: subject.image)],
      textTokens: textTokens, generatedTokens: generatedTokens, threads: threads)
    pipeline.warmsUpBriefly = true
    let (runs, peaks) = try pipeline.runs(repetitions: repetitions)
    self.peaks = peaks
    var rows: [PaperSchedule: CostRow] = [:]
    for (index, schedule) in schedules.enumerated() {
      rows[schedule] = try CostRow(
        subject.model, named[index], nominalTokens: subject.nominalTokens,
        paperTeraflops: subject.paper?.teraflops(schedule), images: runs[0].vision, runs: runs[0].answers[index])
    }
    self.rows = rows
  }

  /// Such as `LLaVA-1.5-7B, bf16`.
  var name: String { "\(subject.title), \(subject.model.precision.name)" }

  subscript(schedule: PaperSchedule) -> CostRow? { rows[schedule] }

  /// A row for each of these schedules that was measured.
  func records(_ schedules: [PaperSchedule]) -> [TableRow] {
    guard let none = rows[.none] else { return [] }
    return schedules.compactMap { rows[$0]?.record(of: none) }
  }

  /// Which part of the way to an answer dropping can touch.
  var reach: String {
    guard let none = rows[.none] else { return "" }
    let (whole, prompt) = (none.firstToken.median, none.prompt.median)
    let share = prompt / whole
    let ranking = rows.values.map { Double($0.report.flops.rank) / Double($0.prefillFlops) }.max() ?? 0
    return "\(name): without dropping the first token takes \(milliseconds(whole)) ms, of which the prompt is "
      + "\(percent(share)) and the vision encoder the rest, which no schedule touches; so dropping everything would make it at most "
      + "\((1 / (1 - share)).formatted(1)) times as fast. A further token takes \(milliseconds(none.step.median)) ms, and "
      + "reads the same weights however many visual tokens are left. Ranking takes at most "
      + "\((100 * ranking).formatted(2))% of a prompt's operations."
  }
}

/// What a schedule costs a model: by the paper, by its formula, by counting and by the clock.
struct CostRow {
  let model: VisionLanguageModel
  let schedule: NamedSchedule
  /// As the paper prints it, in TFLOPs.
  let paperTeraflops: String?
  /// By the paper's formula for the visual tokens that it reckons with, and for those that the image has.
  let nominalTeraflops: Double
  let teraflops: Double
  /// The prompt to its first token, and the whole way from the image to it, in milliseconds.
  let prompt: Sample
  let firstToken: Sample
  /// Each token after the first, in milliseconds.
  let step: Sample
  /// Of the last run.
  let report: RunReport
  let peakBytes: Int

  /// - Parameter runs: At least one.
  init(
    _ model: VisionLanguageModel, _ schedule: NamedSchedule, nominalTokens: Int, paperTeraflops: String?,
    images: [Pipeline.VisionRun], runs: [Pipeline.AnswerRun]
  ) throws {
    self.model = model
    self.schedule = schedule
    self.paperTeraflops = paperTeraflops
    prompt = Sample(runs.map(\.promptMilliseconds))
    firstToken = Sample(
      zip(images.map(\.image.timings), runs).map { image, run in
        image.preprocess + image.encode + image.project + run.promptMilliseconds
      })
    step = Sample(runs.map { $0.decodeMilliseconds / Double(max(1, $0.report.tokens.count - 1)) })
    report = runs[runs.count - 1].report
    let nominal = PrefillCost(
      model.llava.configuration.text, textTokens: report.sequenceLength - report.visualTokensPerStage[0],
      visualTokenCounts: [nominalTokens], viewCount: 0, cacheElement: model.precision.cacheElement)
    let plan = try nominal.plan(try SchedulePlanner(nominal).resolved(schedule.policy))
    nominalTeraflops = nominal.paperFlops(plan) / 1e12
    teraflops = report.paperFlops / 1e12
    peakBytes = runs.map(\.report.peakResidentBytes).max() ?? 0
  }

  /// Operations of the prompt, ranking included, counted at the kernels.
  var prefillFlops: Int { report.flops.prefill + report.flops.rank }

  /// Visual tokens that a layer sees, mean over layers.
  var meanTokens: Double {
    let text = report.sequenceLength - report.visualTokensPerStage[0]
    let lengths = report.cacheLengthsAfterPrompt
    return lengths.reduce(0) { $0 + Double($1 - text) } / Double(max(1, lengths.count))
  }

  /// A row of a table.
  ///
  /// - Parameter first: Without dropping; what shares are of.
  func record(of first: CostRow) -> TableRow {
    let ranking = Double(report.flops.rank) / Double(prefillFlops)
    return TableRow([
      Field("schedule", .text(schedule.name), heading: "schedule"),
      Field(
        "visual_tokens", .integers(report.visualTokensPerStage), heading: "visual tokens",
        text: report.visualTokensPerStage.map(String.init).joined(separator: " → ")),
      Field("mean_visual_tokens", meanTokens, heading: "mean of layers", decimals: 1),
      Field("paper_tflops", paperTeraflops.map(Value.text) ?? .none, heading: "paper, TFLOPs"),
      Field("formula_nominal_tflops", nominalTeraflops, heading: "its formula", decimals: 4),
      Field("formula_tflops", teraflops, heading: "for this image", decimals: 4),
      Field("counted_gflop", Double(prefillFlops) / 1e9, heading: "counted, GFLOP", decimals: 1),
      share("counted_share", Double(prefillFlops) / Double(first.prefillFlops), heading: "of none"),
      share("ranking_share", ranking, heading: "ranking", decimals: 2),
      time("prompt_ms", prompt, heading: "prompt, ms"),
      share("prompt_share", prompt.median / first.prompt.median, heading: "of none"),
      time("first_token_ms", firstToken, heading: "first token, ms"),
      share("first_token_share", firstToken.median / first.firstToken.median, heading: "of none"),
      time("step_ms", step, heading: "a token, ms"),
      Field("kv_mib", Double(report.cacheBytes) / 0x1p20, heading: "KV, MiB", decimals: 1),
      Field("peak_mib", Double(peakBytes) / 0x1p20, heading: "peak, MiB", decimals: 0),
    ])
  }

  private func share(_ name: String, _ share: Double, heading: String, decimals: Int = 1) -> Field {
    Field(name, .number(share), heading: heading, text: (100 * share).formatted(decimals) + "%")
  }

  private func time(_ name: String, _ sample: Sample, heading: String) -> Field {
    let spread = sample.values.count > 1 ? " ± \(milliseconds(sample.deviation))" : ""
    return Field(name, .number(sample.median), heading: heading, text: milliseconds(sample.median) + spread)
  }
}

/// Milliseconds as people read them: `10067`, `45.2`.
func milliseconds(_ value: Double) -> String { value.formatted(value < 100 ? 1 : 0) }

/// What the paper's schedules cost, as sections of a page.
struct CostReport {
  let comparisons: [CostComparison]

  var sections: [Report.Section] {
    [methods, reach, lambdas, operatingPoints].compactMap(\.self)
  }

  /// Table 5.
  private var methods: Report.Section? {
    let tables = tables(PaperSchedule.methods)
    guard !tables.isEmpty else { return nil }
    return Report.Section(
      "The methods' cost (the paper's table 5)",
      [
        .text(
          "The paper's TFLOPs count the visual tokens alone and a multiply-add as one; its formula is taken at the tokens that "
            + "it reckons with, then at those of the image that was measured. Counted are all rows of the prompt, text and ranking "
            + "included, at the kernels, a multiply-add as two. The first token is timed from the decoded image."),
        bars(PaperSchedule.methods, "Time to the first token", axis: Axis("of none", unit: .percent)) { row, none in
          row.firstToken.median / none.firstToken.median
        },
      ] + tables)
  }

  /// What dropping can touch at all.
  private var reach: Report.Section? {
    let texts = comparisons.map(\.reach).filter { !$0.isEmpty }
    return texts.isEmpty ? nil : Report.Section("What dropping can touch", texts.map(Report.Block.text))
  }

  /// Table 4.
  private var lambdas: Report.Section? {
    let schedules = [PaperSchedule.none, .lambda(0.4), .pyramidDrop, .lambda(0.6)]
    guard comparisons.contains(where: { $0[.lambda(0.4)] != nil }) else { return nil }
    return Report.Section("Stronger and weaker dropping (the paper's table 4)", tables(schedules))
  }

  /// Figure 4.
  private var operatingPoints: Report.Section? {
    let measured = comparisons.filter { comparison in
      PaperSchedule.operatingPoints(["pyramiddrop"]).contains { comparison[$0] != nil }
    }
    guard !measured.isEmpty else { return nil }
    let schedules = PaperSchedule.operatingPoints(["pyramiddrop", "fastv"])
    return Report.Section(
      "Two methods at equal operations (the paper's figure 4)",
      [
        .text(
          "Schedules that cost the same by counting: 38.4, 48.0, 57.6 and 67.2% of no dropping, which are the 8, 10, 12 and 14 of "
            + "20.8 TFLOPs at which the paper compares scores.")
      ] + CostReport(comparisons: measured).tables(schedules))
  }

  private func tables(_ schedules: [PaperSchedule]) -> [Report.Block] {
    comparisons.compactMap { comparison in
      let records = comparison.records(schedules)
      return records.isEmpty ? nil : .table(Table(records, title: comparison.name))
    }
  }

  /// A bar for each schedule of each model.
  private func bars(
    _ schedules: [PaperSchedule], _ title: String, axis: Axis, _ value: (CostRow, CostRow) -> Double
  ) -> Report.Block {
    let series = schedules.map { schedule in
      BarPlot.Series(
        schedule.words,
        comparisons.map { comparison in
          guard let row = comparison[schedule], let none = comparison[.none] else { return nil }
          return BarPlot.Bar(value(row, none))
        })
    }
    return .bars(BarPlot(title, axis: axis, groups: comparisons.map(\.name), series: series))
  }
}
