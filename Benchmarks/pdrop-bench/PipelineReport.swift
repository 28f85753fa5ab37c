import Evaluation
import Kernels
import LLaVA
import ModelFormats
import PDrop
import Reports

/// The rows of the pipeline's table for one model in one arithmetic.
struct PipelineRows {
  private let model: VisionLanguageModel
  private let runs: Pipeline.Runs
  private let peaks: Peaks
  private let machine: Machine
  private let threads: Int

  init(
    _ subject: Pipeline.Subject, _ runs: Pipeline.Runs, _ peaks: Peaks, _ machine: Machine, threads: Int
  ) {
    (model, self.runs, self.peaks, self.machine) = (subject.model, runs, peaks, machine)
    self.threads = threads
  }

  /// What keeps a phase from being faster.
  private enum Bound {
    case products(ComputeType)
    /// So many bytes of weights have to be read.
    case reading(byteCount: Int)
  }

  /// What is particular to a row.
  private struct Row {
    var policy: String
    var test: String
    /// Tokens that went through the decoder; `nil` for the vision encoder.
    var tokens: Int?
    var milliseconds: Sample
    /// Counted at the kernels, twice the multiply-adds.
    var flops: Int
    var bound: Bound
    /// From the image to the first token, in milliseconds.
    var firstToken: Double?
    /// The last run that the row is about.
    var report: RunReport?
    var peakBytes: Int?

    /// Operations per second.
    var rate: Double { Double(flops) / milliseconds.median * 1e3 }

    /// Bytes of weights read per second, where reading is what takes the time.
    var bytesPerSecond: Double? {
      if case .reading(let byteCount) = bound { Double(byteCount) / milliseconds.median * 1e3 } else { nil }
    }
  }

  var records: [TableRow] { (visionRows + runs.answers.flatMap(answerRows)).map(record) }

  // MARK: - What was measured

  private var computeType: ModelComputeTypes { model.precision.computeType }

  /// How near a row came to the machine's limit, 1 for the limit itself.
  private func share(_ row: Row) -> Double {
    switch row.bound {
    case .products(let computeType): row.rate / (peaks.products[computeType]?.median ?? .nan)
    case .reading: (row.bytesPerSecond ?? .nan) / peaks.reading.median
    }
  }

  /// Vision encoder and projector for one view, and for all of the image's.
  private var visionRows: [Row] {
    guard let first = runs.vision.first else { return [] }
    func row(_ views: Int, _ milliseconds: [Double], _ flops: Int) -> Row {
      Row(
        policy: "any", test: "enc\(views)", milliseconds: Sample(milliseconds), flops: flops,
        bound: .products(computeType.vision))
    }
    let oneView = first.oneView.map { row(1, runs.vision.compactMap(\.oneView?.milliseconds), $0.flops) }
    let allViews = row(
      first.image.viewCount, runs.vision.map(\.image.timings).map { $0.encode + $0.project },
      first.image.flops.encode + first.image.flops.project)
    return [oneView, allViews].compactMap(\.self)
  }

  /// Prompt and decoding under one policy.
  private func answerRows(_ answers: [Pipeline.AnswerRun]) -> [Row] {
    guard let report = answers.last?.report else { return [] }
    let flops = report.flops
    let steps = report.tokens.count - 1
    // The head runs once for each token of the answer, the first of which the prompt gives.
    let headFlops = flops.head / max(report.tokens.count, 1)
    let images = runs.vision.map(\.image.timings)
    let firstTokens = zip(images, answers).map { $0.preprocess + $0.encode + $0.project + $1.promptMilliseconds }
    let firstToken = Sample(firstTokens).median
    let peakBytes = answers.map(\.report.peakResidentBytes).max()

    func row(_ test: String, _ tokens: Int, _ milliseconds: [Double], _ flops: Int, _ bound: Bound) -> Row {
      Row(
        policy: report.policy.method, test: test, tokens: tokens, milliseconds: Sample(milliseconds), flops: flops,
        bound: bound, firstToken: firstToken, report: report, peakBytes: peakBytes)
    }
    let prompt = row(
      "pp\(report.sequenceLength)", report.sequenceLength, answers.map(\.promptMilliseconds),
      flops.prefill + flops.rank + headFlops, .products(computeType.decoder))
    guard steps > 0 else { return [prompt] }
    let decoding = row(
      "tg\(steps)", steps, answers.map(\.decodeMilliseconds), flops.decode + steps * headFlops,
      .reading(byteCount: steps * model.llava.decodeWeightBytes))
    return [prompt, decoding]
  }

  // MARK: - As a record

  private func record(_ row: Row) -> TableRow {
    let speeds = row.tokens.map { tokens in row.milliseconds.map { Double(tokens) * 1e3 / $0 } }
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
      Field("policy", .text(row.policy), heading: "policy"),
      Field("test", .text(row.test), heading: "test"),
    ]
  }

  private func speedFields(_ row: Row, _ speeds: Sample?) -> [Field] {
    func spread(_ sample: Sample) -> String { "\(sample.median.formatted(2)) ± \(sample.deviation.formatted(2))" }
    let speed = speeds.map(spread) ?? spread(row.milliseconds) + " ms"
    return [
      Field("tokens", row.tokens.map(Value.integer) ?? .none),
      Field("tokens_per_second", speeds.map { .number($0.median) } ?? .none, heading: "t/s", text: speed),
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
      Field("gflop", Double(row.flops) / 1e9, heading: "GFLOP counted", decimals: 1),
      // The paper counts the visual tokens of the prompt alone, a multiply-add as one.
      Field(
        "gflop_paper", row.test.hasPrefix("pp") ? row.report.map { $0.paperFlops / 1e9 } : nil, heading: "GFLOP paper",
        decimals: 1),
      Field("gflop_per_second", row.rate / 1e9, heading: "GFLOP/s", decimals: 1),
      Field("gbyte_per_second", row.bytesPerSecond.map { $0 / 1e9 }, heading: "GB/s", decimals: 1),
      Field(
        "share_of_limit", .number(share(row)), heading: "of limit", text: (100 * share(row)).formatted(0) + "%"),
      Field(
        "kv_bytes", row.report.map { .integer($0.cacheBytes) } ?? .none, heading: "KV MiB",
        text: row.report.map { Self.mebibytes($0.cacheBytes) } ?? ""),
      Field(
        "peak_rss_bytes", row.peakBytes.map(Value.integer) ?? .none, heading: "peak MiB",
        text: row.peakBytes.map(Self.mebibytes) ?? ""),
    ]
  }

  private static func mebibytes(_ bytes: Int) -> String { (Double(bytes) / 1_048_576).formatted(0) }
}

/// What vision encoder, prompt and decoding cost, as a page.
struct PipelineReport {
  let records: [TableRow]

  /// The rows of one model in one arithmetic.
  private struct Group {
    var name: String
    var records: [TableRow]

    func row(_ policy: String, _ test: String) -> TableRow? {
      records.first { $0.text("policy") == policy && $0.text("test").hasPrefix(test) }
    }

    /// Policies in the order of the table.
    var policies: [String] {
      var names: [String] = []
      for record in records where record.text("test").hasPrefix("pp") { names.append(record.text("policy")) }
      return names
    }

    /// The vision encoder's milliseconds for the image.
    var visionEncoderMilliseconds: Double? { records.last { $0.text("test").hasPrefix("enc") }?.number("milliseconds") }
  }

  private var groups: [Group] {
    var groups: [Group] = []
    for record in records {
      let name = "\(record.text("model")), \(record.text("precision"))"
      if let index = groups.firstIndex(where: { $0.name == name }) {
        groups[index].records.append(record)
      } else {
        groups.append(Group(name: name, records: [record]))
      }
    }
    return groups
  }

  var report: Report {
    let groups = groups
    return Report(
      "What an answer costs", summary: groups.compactMap(Self.amdahl).joined(separator: " "),
      sections: [
        Report.Section(
          "Time",
          [
            bars("Time to the first token", groups, "pp", "first_token_ms", "ms, from the image"),
            bars("Prompt", groups, "pp", "milliseconds", "ms", deviation: "milliseconds_deviation"),
            bars("Decoding", groups, "tg", "tokens_per_second", "tokens/s", deviation: "tokens_per_second_deviation"),
          ].compactMap(\.self)),
        Report.Section(
          "Work and memory",
          [
            bars("Operations of the prompt", groups, "pp", "gflop", "GFLOP, counted"),
            bars("Keys and values", groups, "pp", "kv_bytes", "MiB", factor: 1 / 1_048_576),
          ].compactMap(\.self)),
        Report.Section("All numbers", [.table(Table(records))]),
      ],
      metadata: Report.Metadata.made()
        + ["limits", "libraries"].map { name in Report.Metadata(name, records.first?.text(name) ?? "") })
  }

  /// Which part of the way to the first token dropping can touch, and what could be won at best.
  private static func amdahl(_ group: Group) -> String? {
    guard let policy = group.policies.first, let visionTower = group.visionEncoderMilliseconds,
      let prompt = group.row(policy, "pp")?.number("milliseconds"), prompt > 0
    else { return nil }
    let share = prompt / (visionTower + prompt)
    return
      "\(group.name): with policy \(policy), the vision encoder takes \(visionTower.significant(3)) ms and the prompt "
      + "\(prompt.significant(3)) ms; dropping can touch the prompt alone, \(percent(share)) of them, and so make the first token at "
      + "most \((1 / (1 - share)).formatted(1)) times as fast."
  }

  /// A bar for each policy in each group; `nil` where nothing was measured.
  private func bars(
    _ title: String, _ groups: [Group], _ test: String, _ field: String, _ label: String, deviation: String? = nil,
    factor: Double = 1
  ) -> Report.Block? {
    var policies: [String] = []
    for policy in groups.flatMap(\.policies) where !policies.contains(policy) { policies.append(policy) }
    let series = policies.map { policy in
      BarPlot.Series(
        policy,
        groups.map { group -> BarPlot.Bar? in
          guard let record = group.row(policy, test), let value = record.number(field) else { return nil }
          let spread = deviation.flatMap(record.number).map { $0 * factor }
          return BarPlot.Bar(
            value * factor, low: spread.map { value * factor - $0 }, high: spread.map { value * factor + $0 })
        })
    }
    guard series.contains(where: { $0.bars.contains { $0 != nil } }) else { return nil }
    let caption = deviation == nil ? nil : "Medians; the thin lines are one standard deviation to each side."
    return .bars(BarPlot(title, caption: caption, axis: Axis(label), groups: groups.map(\.name), series: series))
  }
}

extension TableRow {
  fileprivate func text(_ name: String) -> String {
    if case .text(let text) = self[name] { text } else { "" }
  }

  fileprivate func number(_ name: String) -> Double? {
    switch self[name] {
    case .number(let number): number.isFinite ? number : nil
    case .integer(let integer): Double(integer)
    default: nil
    }
  }
}
