import CommandLineSupport
import Evaluation
import LLaVA
import ModelFormats
import PDrop
import Reports
import TokenDropping

/// The cost of the paper's schedules for a model in one compute type.
struct CostComparison {
  /// The model to measure.
  struct Subject {
    /// Such as `LLaVA-NeXT-7B`.
    var title: String
    var model: VisionLanguageModel
    /// The model of the paper with the same shape; `nil` for other models.
    var paper: PaperModel?
    /// The visual tokens in the paper's formula.
    var nominalTokens: Int
    /// The image size; `nil` for the default of the model.
    var image: PixelSize?
  }

  let subject: Subject
  private let rows: [PaperSchedule: CostRow]
  /// All measured schedules.
  let schedules: [NamedSchedule]
  let peaks: Peaks

  /// Measures all schedules, interleaved.
  ///
  /// - Parameters:
  ///   - schedules: Distinct schedules, no dropping among them.
  ///   - textTokens: Text tokens of the prompt.
  ///   - generatedTokens: Tokens to decode after the first.
  init(
    _ subject: Subject, _ schedules: [PaperSchedule], textTokens: Int, generatedTokens: Int, repetitions: Int,
    threads: Int
  ) throws {
    self.subject = subject
    let named = try schedules.map { try NamedSchedule($0.words) }
    self.schedules = named
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

  /// Whether selections before the decoder were measured.
  var hasSelections: Bool { rows.keys.contains { if case .selection = $0 { true } else { false } } }

  /// The cost of a schedule relative to no dropping; `nil` if one of them was not measured.
  func fractionsOfBaseline(_ schedule: PaperSchedule) -> (firstToken: Double, prefillFlops: Double)? {
    guard let row = rows[schedule], let baseline = rows[.none] else { return nil }
    return (
      row.firstToken.median / baseline.firstToken.median, Double(row.prefillFlops) / Double(baseline.prefillFlops)
    )
  }

  /// Tokens, KV cache and FLOPs of each measured schedule of a list.
  func flopsRows(_ schedules: [PaperSchedule]) -> [TableRow] {
    tableRows(schedules) { $0.flopsRow(baseline: $1, $2) }
  }

  /// Times and peak RSS of each measured schedule of a list.
  func timeRows(_ schedules: [PaperSchedule]) -> [TableRow] {
    tableRows(schedules) { $0.timeRow(baseline: $1, $2) }
  }

  private func tableRows(
    _ schedules: [PaperSchedule], _ row: (CostRow, _ baseline: CostRow, CostFormat) -> TableRow
  ) -> [TableRow] {
    guard let baseline = rows[.none] else { return [] }
    let measured = schedules.compactMap { rows[$0] }
    let format = CostFormat(measured)
    return measured.map { row($0, baseline, format) }
  }

  /// The part of the time to first token that dropping can save at most.
  var upperBound: String {
    guard let baseline = rows[.none] else { return "" }
    let (firstToken, prefill) = (baseline.firstToken.median, baseline.prefill.median)
    let fraction = prefill / firstToken
    let ranking = rows.values.map(\.rankingFraction).max() ?? 0
    return
      "\(name): without dropping, the first token takes \(milliseconds(firstToken)) ms: \(percent(fraction)) prefill, "
      + "the rest vision encoder, which dropping does not reduce. The upper bound of the speedup to the first token "
      + "is \((1 / (1 - fraction)).formatted(1))x. Each further token takes \(milliseconds(baseline.step.median)) ms "
      + "and reads the same weights, with or without dropping. Ranking takes at most \((100 * ranking).formatted(2))% "
      + "of prefill FLOPs."
  }
}

/// The cost of a schedule for a model: published, by the paper's formula, counted and timed.
struct CostRow {
  let model: VisionLanguageModel
  let schedule: NamedSchedule
  /// TFLOPs as printed in the paper.
  let paperTeraflops: String?
  /// TFLOPs by the paper's formula, for the paper's visual tokens and for those of the measured image.
  let nominalTeraflops: Double
  let teraflops: Double
  /// Milliseconds of prefill, and from the decoded image to the first token.
  let prefill: Sample
  let firstToken: Sample
  /// Milliseconds per token after the first.
  let step: Sample
  /// The report of the last run.
  let report: RunReport
  let peakBytes: Int

  /// - Parameter runs: At least one run.
  init(
    _ model: VisionLanguageModel, _ schedule: NamedSchedule, nominalTokens: Int, paperTeraflops: String?,
    images: [Pipeline.VisionRun], runs: [Pipeline.AnswerRun]
  ) throws {
    self.model = model
    self.schedule = schedule
    self.paperTeraflops = paperTeraflops
    prefill = Sample(runs.map(\.prefillMilliseconds))
    firstToken = Sample(
      zip(images.map(\.image.timings), runs).map { image, run in
        image.preprocess + image.encode + image.project + run.prefillMilliseconds
      })
    step = Sample(runs.map { $0.decodeMilliseconds / Double(max(1, $0.report.tokens.count - 1)) })
    report = runs[runs.count - 1].report
    let nominal = PrefillCost(
      model.llava.configuration.text, textTokens: report.sequenceLength - report.visualTokensPerStage[0],
      visualTokenCounts: [nominalTokens], viewCount: 0, cacheType: model.precision.cacheType)
    let plan = try nominal.plan(try SchedulePlanner(nominal).resolved(schedule.policy))
    nominalTeraflops = nominal.paperFlops(plan) / 1e12
    teraflops = report.paperFlops / 1e12
    peakBytes = runs.map(\.report.peakResidentBytes).max() ?? 0
  }

  /// FLOPs of prefill, ranking included, counted in the kernels.
  var prefillFlops: Int { report.flops.prefill + report.flops.rank }

  /// The FLOPs of ranking relative to those of prefill.
  var rankingFraction: Double { Double(report.flops.rank) / Double(prefillFlops) }

  /// The average of the visual tokens over layers.
  var averageTokens: Double {
    let text = report.sequenceLength - report.visualTokensPerStage[0]
    let lengths = report.cacheLengthsAfterPrompt
    return lengths.reduce(0) { $0 + Double($1 - text) } / Double(max(1, lengths.count))
  }

  private var titleField: Field { Field("schedule", .text(schedule.title), heading: "schedule") }

  /// The row of tokens, KV cache and FLOPs.
  ///
  /// - Parameter baseline: The row without dropping, for percentages.
  fileprivate func flopsRow(baseline: CostRow, _ format: CostFormat) -> TableRow {
    TableRow([
      titleField,
      Field(
        "visual_tokens", .integers(report.visualTokensPerStage), heading: "visual tokens",
        text: report.visualTokensPerStage.map(String.init).joined(separator: "/")),
      Field("mean_visual_tokens", averageTokens, heading: "average tokens", decimals: 1),
      Field("kv_mib", Double(report.cacheBytes) / 0x1p20, heading: "KV cache MiB", decimals: 1),
      Field("paper_tflops", paperTeraflops.map(Value.text) ?? .none, heading: "TFLOPs (paper)"),
      format.formula("formula_nominal_tflops", nominalTeraflops, "formula"),
      format.formula("formula_tflops", teraflops, "formula, this image"),
      Field("counted_gflop", Double(prefillFlops) / 1e9, heading: "prefill GFLOPs", decimals: format.gigaflops),
      percentage(
        "counted_share", Double(prefillFlops) / Double(baseline.prefillFlops),
        heading: "prefill FLOPs (% of baseline)"),
      percentage("ranking_share", rankingFraction, heading: "ranking (% of prefill)", decimals: 2),
    ])
  }

  /// The row of times and peak RSS.
  ///
  /// - Parameter baseline: The row without dropping, for percentages.
  fileprivate func timeRow(baseline: CostRow, _ format: CostFormat) -> TableRow {
    TableRow([
      titleField,
      time("prompt_ms", prefill, heading: "prefill ms", decimals: format.prefill),
      percentage("prompt_share", prefill.median / baseline.prefill.median, heading: "prefill (% of baseline)"),
      time("first_token_ms", firstToken, heading: "TTFT ms", decimals: format.firstToken),
      percentage(
        "first_token_share", firstToken.median / baseline.firstToken.median, heading: "TTFT (% of baseline)"),
      time("step_ms", step, heading: "ms/token", decimals: format.step),
      Field("peak_mib", Double(peakBytes) / 0x1p20, heading: "peak RSS MiB", decimals: 0),
    ])
  }

  private func percentage(_ name: String, _ fraction: Double, heading: String, decimals: Int = 1) -> Field {
    Field(name, .number(fraction), heading: heading, text: (100 * fraction).formatted(decimals) + "%")
  }

  private func time(_ name: String, _ sample: Sample, heading: String, decimals: Int) -> Field {
    let spread = sample.values.count > 1 ? " ± \(sample.deviation.formatted(decimals))" : ""
    return Field(name, .number(sample.median), heading: heading, text: sample.median.formatted(decimals) + spread)
  }
}

/// The number formats of the columns of a cost table: three digits of the largest value.
private struct CostFormat {
  let gigaflops: Int
  let prefill: Int
  let firstToken: Int
  let step: Int
  /// Whether the paper's formula is shown in GFLOPs, for small models.
  private let usesGigaflops: Bool

  init(_ rows: [CostRow]) {
    func decimals(_ values: [Double]) -> Int {
      let largest = values.filter(\.isFinite).max() ?? 0
      return largest >= 100 ? 0 : largest >= 10 ? 1 : 2
    }
    gigaflops = decimals(rows.map { Double($0.prefillFlops) / 1e9 })
    prefill = decimals(rows.map(\.prefill.median))
    firstToken = decimals(rows.map(\.firstToken.median))
    step = decimals(rows.map(\.step.median))
    usesGigaflops = (rows.map(\.nominalTeraflops).max() ?? 0) < 0.1
  }

  /// A field with the result of the paper's formula; its value is in TFLOPs, its text in the unit of the column.
  func formula(_ name: String, _ teraflops: Double, _ heading: String) -> Field {
    let (unit, text) =
      usesGigaflops ? ("GFLOPs", (1e3 * teraflops).formatted(2)) : ("TFLOPs", teraflops.formatted(3))
    return Field(name, .number(teraflops), heading: "\(unit) (\(heading))", text: text)
  }
}

/// Milliseconds in running text: `10067`, `45.2`.
func milliseconds(_ value: Double) -> String { value.formatted(value < 100 ? 1 : 0) }

/// The cost of the paper's schedules as sections of a report.
struct CostReport {
  let comparisons: [CostComparison]
  /// The comparisons with selections before the decoder.
  var selections: [CostComparison] = []

  var sections: [Report.Section] {
    [methods, upperBound, lambdas, operatingPoints, selection].compactMap(\.self)
  }

  /// Selections before the decoder, which are not in the paper.
  private var selection: Report.Section? {
    guard !selections.isEmpty else { return nil }
    return Report.Section(
      "Cost of a selection before the decoder",
      [
        .text(
          "SCOPE selects 192, 128 or 64 tokens of each view before the first layer, in the five views of LLaVA-NeXT 960, "
            + "640 or 320 of an image, and PyramidDrop λ=0.5 drops from these. The selection is counted and timed.")
      ]
        + selections.flatMap { comparison in
          CostReport(comparisons: [comparison]).tables(
            [.none, .pyramidDrop] + (comparison.subject.paper?.selections ?? []))
        })
  }

  /// Table 5.
  private var methods: Report.Section? {
    let tables = tables(PaperSchedule.methods)
    guard !tables.isEmpty else { return nil }
    return Report.Section(
      "Cost of the methods (the paper's table 5)",
      [
        .text(
          "The paper's FLOPs count visual tokens only, and a multiply-add as one. Its formula is evaluated for the "
            + "paper's number of visual tokens, and for the measured image. Prefill FLOPs are counted in the kernels: "
            + "all rows of the prompt, text and ranking included, two per multiply-add. Time to first token (TTFT) "
            + "starts at the decoded image."
        )
      ] + tables)
  }

  /// The possible saving of any schedule.
  private var upperBound: Report.Section? {
    let texts = comparisons.map(\.upperBound).filter { !$0.isEmpty }
    return texts.isEmpty ? nil : Report.Section("Upper bound of the saving", texts.map(Report.Block.text))
  }

  /// Table 4.
  private var lambdas: Report.Section? {
    let schedules = [PaperSchedule.none, .lambda(0.4), .pyramidDrop, .lambda(0.6)]
    let measured = comparisons.filter { $0[.lambda(0.4)] != nil }
    guard !measured.isEmpty else { return nil }
    return Report.Section(
      "Cost by λ (the paper's table 4)", CostReport(comparisons: measured).tables(schedules))
  }

  /// Figure 4.
  private var operatingPoints: Report.Section? {
    let measured = comparisons.filter { comparison in
      PaperSchedule.operatingPoints(["pyramiddrop"]).contains { comparison[$0] != nil }
    }
    guard !measured.isEmpty else { return nil }
    let schedules = PaperSchedule.operatingPoints(["fastv", "pyramiddrop"])
    return Report.Section(
      "Cost of two methods at equal FLOPs (the paper's figure 4)",
      [
        .text(
          "Schedules with equal counted FLOPs: 38.4%, 48.0%, 57.6% and 67.2% of baseline. These are the paper's "
            + "operating points of 8, 10, 12 and 14 of 20.8 TFLOPs.")
      ] + CostReport(comparisons: measured).tables(schedules))
  }

  private func tables(_ schedules: [PaperSchedule]) -> [Report.Block] {
    comparisons.flatMap { comparison -> [Report.Block] in
      let rows = (comparison.flopsRows(schedules), comparison.timeRows(schedules))
      guard !rows.0.isEmpty else { return [] }
      return [
        .table(Table(rows.0, title: "\(comparison.name), FLOPs and KV cache")),
        .table(Table(rows.1, title: "\(comparison.name), time and memory")),
      ]
    }
  }
}
