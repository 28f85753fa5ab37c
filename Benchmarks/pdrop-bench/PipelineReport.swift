import Evaluation
import Kernels
import LLaVA
import ModelFormats
import PDrop
import Reports
import TokenDropping

/// The measured phases of one model in one compute type.
struct PipelineResult {
  let model: VisionLanguageModel
  let peaks: Peaks
  /// Vision encoder and projector; the last row has all views of the image.
  private(set) var vision: [Row] = []
  /// Prefill and decode under each policy, in order.
  private(set) var schedules: [Schedule] = []
  private let machine: Machine
  private let threads: Int

  /// The phases under one policy.
  struct Schedule {
    /// The short name, such as `PyramidDrop λ=0.5`.
    var title: String
    var isBaseline: Bool
    var prefill: Row
    /// `nil` if no token was decoded after the first.
    var decode: Row?
  }

  init(
    _ subject: Pipeline.Subject, _ runs: Pipeline.Runs, _ peaks: Peaks, _ machine: Machine, threads: Int
  ) {
    (model, self.peaks, self.machine) = (subject.model, peaks, machine)
    self.threads = threads
    vision = visionRows(runs.vision)
    schedules = zip(subject.policies, runs.answers).compactMap { schedule($0, $1, runs.vision) }
  }

  /// The resource that limits the speed of a phase.
  enum Bound {
    case compute(ComputeType)
    /// Memory bandwidth, with the bytes of weights and KV cache that the phase reads.
    case memory(byteCount: Int)
  }

  /// One measured phase.
  struct Row {
    /// The method of the policy; `any` for the vision encoder.
    var method: String
    /// The short name of the schedule; `any` for the vision encoder.
    var title: String
    /// `enc1`, `pp625` or `tg32`: the phase, with its number of views or tokens.
    var test: String
    /// Tokens through the decoder; `nil` for the vision encoder.
    var tokens: Int?
    var milliseconds: Sample
    /// FLOPs counted in the kernels, two per multiply-add.
    var flops: Int
    var bound: Bound
    /// The share of thread time that threads waited.
    var waiting: Sample
    /// Milliseconds from the decoded image to the first token.
    var firstToken: Double?
    /// The report of the last run.
    var report: RunReport?
    var peakBytes: Int?
    /// FLOPs of prefill by the paper's formula: visual tokens only, one per multiply-add. `nil` for other phases.
    var paperFlops: Double?

    /// FLOPs per second.
    var rate: Double { Double(flops) / milliseconds.median * 1e3 }

    /// Bytes of weights and KV cache read per second, for phases bound by memory bandwidth.
    var bytesPerSecond: Double? {
      if case .memory(let byteCount) = bound { Double(byteCount) / milliseconds.median * 1e3 } else { nil }
    }
  }

  /// The name of the model and its compute type.
  var name: String { "\(model.name), \(model.precision.name)" }

  var tableRows: [TableRow] {
    (vision + schedules.flatMap { [$0.prefill] + [$0.decode].compactMap(\.self) }).map(tableRow)
  }

  // MARK: - Rows

  private var computeType: ModelComputeTypes { model.precision.computeType }

  /// The throughput of a row relative to the peak of the machine, 1 for the peak itself.
  private func fractionOfPeak(_ row: Row) -> Double {
    switch row.bound {
    case .compute(let computeType): row.rate / (peaks.compute[computeType]?.median ?? .nan)
    case .memory: (row.bytesPerSecond ?? .nan) / peaks.bandwidth.median
    }
  }

  /// Vision encoder and projector for one view, and for all views of the image.
  private func visionRows(_ runs: [Pipeline.VisionRun]) -> [Row] {
    guard let first = runs.first else { return [] }
    func row(_ views: Int, _ milliseconds: [Double], _ flops: Int, _ waiting: [Double]) -> Row {
      Row(
        method: "any", title: "any", test: "enc\(views)", milliseconds: Sample(milliseconds), flops: flops,
        bound: .compute(computeType.vision), waiting: Sample(waiting))
    }
    let oneView = first.oneView.map {
      row(1, runs.compactMap(\.oneView?.milliseconds), $0.flops, runs.compactMap(\.oneView?.waiting))
    }
    let allViews = row(
      first.image.viewCount, runs.map(\.image.timings).map { $0.encode + $0.project },
      first.image.flops.encode + first.image.flops.project, runs.map(\.waiting))
    return [oneView, allViews].compactMap(\.self)
  }

  /// Prefill and decode under one policy; `nil` without a run.
  private func schedule(
    _ policy: any TokenDroppingPolicy, _ answers: [Pipeline.AnswerRun], _ vision: [Pipeline.VisionRun]
  ) -> Schedule? {
    guard let report = answers.last?.report else { return nil }
    let flops = report.flops
    let steps = report.tokens.count - 1
    // The head runs once per token of the answer; prefill gives the first token.
    let headFlops = flops.head / max(report.tokens.count, 1)
    let images = vision.map(\.image.timings)
    let firstTokens = zip(images, answers).map { $0.preprocess + $0.encode + $0.project + $1.prefillMilliseconds }
    let firstToken = Sample(firstTokens).median
    let peakBytes = answers.map(\.report.peakResidentBytes).max()

    func row(
      _ test: String, _ tokens: Int, _ milliseconds: [Double], _ flops: Int, _ bound: Bound, _ waiting: [Double]
    ) -> Row {
      Row(
        method: report.policy.method, title: policy.title, test: test, tokens: tokens,
        milliseconds: Sample(milliseconds), flops: flops,
        bound: bound, waiting: Sample(waiting), firstToken: firstToken, report: report, peakBytes: peakBytes)
    }
    var prefill = row(
      "pp\(report.sequenceLength)", report.sequenceLength, answers.map(\.prefillMilliseconds),
      flops.prefill + flops.rank + headFlops, .compute(computeType.decoder), answers.map(\.prefillWaiting))
    prefill.paperFlops = report.paperFlops
    let decode = row(
      "tg\(steps)", steps, answers.map(\.decodeMilliseconds), flops.decode + steps * headFlops,
      .memory(byteCount: steps * model.llava.decodeWeightBytes + report.decodedCacheBytes),
      answers.map(\.decodeWaiting))
    return Schedule(
      title: policy.title, isBaseline: policy is NoDropping, prefill: prefill, decode: steps > 0 ? decode : nil)
  }

  // MARK: - Table

  private func tableRow(_ row: Row) -> TableRow {
    let speeds = row.speeds
    return TableRow(
      modelFields(row) + speedFields(row, speeds) + costFields(row) + [
        Field("load_ms", .number(model.loadTime.milliseconds)),
        Field("samples_ms", .numbers(row.milliseconds.values)),
        Field("reason", .text(model.precision.reason), .note(heading: "backend")),
      ] + peaks.fields(machine))
  }

  private func modelFields(_ row: Row) -> [Field] {
    let (parameters, bytes) = (model.llava.configuration.parameterCount, model.weightBytes)
    return [
      Field("model", .text(model.name), heading: "model"),
      Field(
        "params", .integer(parameters), heading: "params", text: (Double(parameters) / 1e9).formatted(2) + " B"),
      Field("size_bytes", .integer(bytes), heading: "size", text: Self.mebibytes(bytes) + " MiB"),
      Field("backend", .text(model.precision.library), heading: "backend"),
      Field("threads", .integer(threads), heading: "threads"),
      Field("precision", .text(model.precision.name), heading: "precision"),
      Field("policy", .text(row.method), heading: "schedule", text: row.title),
      Field("test", .text(row.test), heading: "test"),
    ]
  }

  private func speedFields(_ row: Row, _ speeds: Sample?) -> [Field] {
    func spread(_ sample: Sample) -> String { "\(sample.median.formatted(2)) ± \(sample.deviation.formatted(2))" }
    let speed = speeds.map(spread) ?? ""
    return [
      Field("tokens", row.tokens.map(Value.integer) ?? .none),
      Field("tokens_per_second", speeds.map { .number($0.median) } ?? .none, heading: "tokens/s", text: speed),
      Field("tokens_per_second_deviation", speeds.map { .number($0.deviation) } ?? .none),
      Field("milliseconds", row.milliseconds.median, heading: "ms", decimals: 1),
      Field("milliseconds_deviation", .number(row.milliseconds.deviation)),
      Field("first_token_ms", row.firstToken, heading: "TTFT ms", decimals: 0),
    ]
  }

  private func costFields(_ row: Row) -> [Field] {
    let stages = row.report?.visualTokensPerStage
    return [
      Field(
        "visual_tokens", stages.map { .integers($0) } ?? .none, heading: "visual tokens",
        text: stages?.map(String.init).joined(separator: "/") ?? ""),
      Field("gflop", Double(row.flops) / 1e9, heading: "GFLOPs", decimals: 1),
      Field("gflop_paper", row.paperFlops.map { $0 / 1e9 }, heading: "GFLOPs (paper)", decimals: 1),
      Field("gflop_per_second", row.rate / 1e9, heading: "GFLOP/s", decimals: 1),
      Field("gbyte_per_second", row.bytesPerSecond.map { $0 / 1e9 }, heading: "GB/s", decimals: 1),
      Field(
        "share_of_peak", .number(fractionOfPeak(row)), heading: "% of peak",
        text: (100 * fractionOfPeak(row)).formatted(0) + "%"),
      Field(
        "share_waiting", .number(row.waiting.median), heading: "% waiting",
        text: (100 * row.waiting.median).formatted(1) + "%"),
      Field(
        "kv_bytes", row.report.map { .integer($0.cacheBytes) } ?? .none, heading: "KV cache MiB",
        text: row.report.map { Self.mebibytes($0.cacheBytes) } ?? ""),
      Field(
        "peak_rss_bytes", row.peakBytes.map(Value.integer) ?? .none, heading: "peak RSS MiB",
        text: row.peakBytes.map(Self.mebibytes) ?? ""),
    ]
  }

  private static func mebibytes(_ bytes: Int) -> String { (Double(bytes) / 1_048_576).formatted(0) }
}

/// The cost of vision encoder, prefill and decode as a report.
struct PipelineReport {
  let results: [PipelineResult]

  var report: Report {
    Report(
      "Cost of an answer", summary: results.compactMap(\.upperBound).joined(separator: " "),
      sections: [
        Report.Section("Conclusions", results.flatMap(conclusions) + [comparison].compactMap(\.self)),
        Report.Section(
          "Time",
          [
            bars("Time to first token", Axis("ms")) { $0.prefill.firstToken.map { BarPlot.Bar($0) } },
            bars("Prefill", Axis("ms"), hasErrorBars: true) { Self.bar($0.prefill.milliseconds) },
            bars("Decode", Axis("tokens/s"), hasErrorBars: true) { $0.decode?.speeds.map(Self.bar) },
          ].compactMap(\.self)),
        Report.Section(
          "FLOPs and memory",
          [
            bars("Prefill FLOPs", Axis("GFLOPs, counted")) { BarPlot.Bar(Double($0.prefill.flops) / 1e9) },
            bars("KV cache", Axis("MiB")) { schedule in
              schedule.prefill.report.map { BarPlot.Bar(Double($0.cacheBytes) / 0x1p20) }
            },
          ].compactMap(\.self)),
        // A table per model, since columns with the same value in all rows move to the caption.
        Report.Section("All numbers", results.map { .table(Table($0.tableRows, title: $0.name)) }),
      ],
      metadata: Report.Metadata.measured()
        + (results.first.map {
          [Report.Metadata("peaks", $0.peaks.description), Report.Metadata("libraries", Peaks.libraries)]
        } ?? []))
  }

  /// A sentence per schedule that compares it with no dropping.
  private func conclusions(_ result: PipelineResult) -> [Report.Block] {
    guard let baseline = result.baseline else { return [] }
    return result.schedules.filter { !$0.isBaseline }.map { schedule in
      let shares = schedule.percentagesOfBaseline(baseline).map { "\($0.name) \(percent($0.fraction))" }
      return .text("\(result.name), \(schedule.title): \(shares.joined(separator: ", ")) of baseline.")
    }
  }

  /// Time to first token, prefill FLOPs and KV cache of each schedule as percentages of no dropping.
  private var comparison: Report.Block? {
    let compared = results.filter { $0.baseline != nil && $0.schedules.count > 1 }
    guard !compared.isEmpty else { return nil }
    let names = compared.flatMap { result in
      result.schedules[0].percentagesOfBaseline(result.schedules[0]).map { "\(result.name): \($0.name)" }
    }
    let series = titles(compared).map { title in
      BarPlot.Series(
        title,
        compared.flatMap { result -> [BarPlot.Bar?] in
          let schedule = result.schedules.first { $0.title == title }
          let baseline = result.baseline ?? result.schedules[0]
          return (schedule ?? baseline).percentagesOfBaseline(baseline).map { item in
            schedule.map { _ in BarPlot.Bar(item.fraction) }
          }
        })
    }
    return .bars(
      BarPlot(
        "Cost relative to no dropping", axis: Axis("% of baseline", unit: .percent), groups: names, series: series))
  }

  /// The titles of all schedules, in order and without repetition.
  private func titles(_ results: [PipelineResult]) -> [String] {
    results.flatMap(\.schedules).reduce(into: []) { titles, schedule in
      if !titles.contains(schedule.title) { titles.append(schedule.title) }
    }
  }

  private static func bar(_ sample: Sample) -> BarPlot.Bar {
    BarPlot.Bar(sample.median, low: sample.median - sample.deviation, high: sample.median + sample.deviation)
  }

  /// A bar per schedule of each model; `nil` if nothing was measured.
  private func bars(
    _ title: String, _ axis: Axis, hasErrorBars: Bool = false, _ bar: (PipelineResult.Schedule) -> BarPlot.Bar?
  ) -> Report.Block? {
    let series = titles(results).map { title in
      BarPlot.Series(title, results.map { $0.schedules.first { $0.title == title }.flatMap(bar) })
    }
    guard series.contains(where: { $0.bars.contains { $0 != nil } }) else { return nil }
    let caption = hasErrorBars ? "Medians; the error bars are one standard deviation." : nil
    return .bars(BarPlot(title, caption: caption, axis: axis, groups: results.map(\.name), series: series))
  }
}

extension PipelineResult {
  /// The phases without dropping, if they were measured.
  var baseline: Schedule? { schedules.first(where: \.isBaseline) }

  /// The part of the time to first token that dropping can save at most; `nil` without a schedule.
  var upperBound: String? {
    guard let schedule = baseline ?? schedules.first, let encoder = vision.last?.milliseconds.median else { return nil }
    let prefill = schedule.prefill.milliseconds.median
    guard prefill > 0 else { return nil }
    let fraction = prefill / (encoder + prefill)
    let condition = schedule.isBaseline ? "without dropping" : "with \(schedule.title)"
    return
      "\(name): \(condition), the vision encoder takes \(milliseconds(encoder)) ms and prefill "
      + "\(milliseconds(prefill)) ms. Dropping can only reduce prefill, \(percent(fraction)) of the sum: the upper "
      + "bound of the speedup to the first token is \((1 / (1 - fraction)).formatted(1))x."
  }
}

extension PipelineResult.Schedule {
  /// The cost of this schedule relative to a baseline.
  func percentagesOfBaseline(_ baseline: Self) -> [(name: String, fraction: Double)] {
    [
      ("time to first token", (prefill.firstToken ?? .nan) / (baseline.prefill.firstToken ?? .nan)),
      ("prefill FLOPs", Double(prefill.flops) / Double(baseline.prefill.flops)),
      ("KV cache", Double(prefill.report?.cacheBytes ?? 0) / Double(baseline.prefill.report?.cacheBytes ?? 0)),
    ]
  }
}

extension RunReport {
  /// Bytes of the KV cache that all decode steps have read: each reads the rows before it and its own.
  fileprivate var decodedCacheBytes: Int {
    let steps = tokens.count - 1
    let rows = cacheLengthsAfterPrompt.reduce(0) { $0 + steps * $1 + steps * (steps + 1) / 2 }
    return Int(Double(cacheBytes) * Double(rows) / Double(max(1, cacheLengthsAtEnd.reduce(0, +))))
  }
}

extension PipelineResult.Row {
  /// Tokens per second in each run; `nil` for the vision encoder.
  var speeds: Sample? { tokens.map { tokens in milliseconds.map { Double(tokens) * 1e3 / $0 } } }
}
