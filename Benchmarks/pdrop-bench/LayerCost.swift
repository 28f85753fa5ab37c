import ArgumentParser
import CommandLineSupport
import Evaluation
import Kernels
import LLaVA
import ModelFormats
import PDrop
import Reports
import Storage
import TokenDropping

/// `pdrop-bench layer-cost`: what a decoder layer costs by its rows, and how far the paper's assumption of a cost linear in
/// them holds.
struct LayerCostCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "layer-cost",
    abstract: "Fits a layer's time as a + b n + c n² for n rows, and compares PyramidDrop's saving with it.")

  @OptionGroup(title: "Model") var modelOptions: ModelSourceOptions

  @Option(name: [.customShort("p"), .customLong("n-prompt")], help: "Text tokens of the prompt, beside one image.")
  var textTokens = 49

  @Option(
    help: "Rows to measure; the largest must not exceed the context. (default: of PyramidDrop's stages and between)")
  var rows: NumberList<Int>?

  @OptionGroup(title: "Measuring") var bench: BenchOptions

  /// Layers of a made-up model unless `--layers` says otherwise: two in each of four stages.
  private static let layerCount = 8

  func validate() throws {
    guard textTokens >= 1 else { throw ValidationError("--n-prompt must be at least 1, found \(textTokens)") }
    guard let rows else { return }
    guard Set(rows.numbers).count >= 3, rows.numbers.allSatisfy({ $0 >= 1 }) else {
      throw ValidationError("--rows must be three different numbers of 1 or more at least, found \(rows.numbers)")
    }
  }

  func run() throws {
    var records: [TableRow] = []
    for source in try modelOptions.sources() {
      for precision in modelOptions.precision.names {
        let model = try modelOptions.load(source, precision, threads: bench.threadCount, layers: Self.layerCount)
        let cost = try LayerCost(model, textTokens: textTokens, rows: rows?.numbers, threads: bench.threadCount)
        records += try cost.measure(repetitions: bench.repetitions)
      }
    }
    try bench.print(records, as: "pdrop_bench_layer_cost")
  }
}

/// Measures a model's decoder over prompts of several lengths, and with and without PyramidDrop.
struct LayerCost {
  let model: VisionLanguageModel
  let textTokens: Int
  let visualTokens: Int
  /// The lengths to measure, the full prompt last unless others were asked for.
  let rows: [Int]
  let plan: DropPlan
  private let threads: Int

  /// - Parameter rows: `nil` for those of PyramidDrop's stages and some between.
  init(_ model: VisionLanguageModel, textTokens: Int, rows: [Int]?, threads: Int) throws {
    self.model = model
    self.textTokens = textTokens
    self.threads = threads
    visualTokens = model.llava.configuration.imageForMeasuring.tokens
    plan = try DropPlan(PyramidDrop(), layerCount: model.layerCount, visualTokenCounts: [visualTokens])
    let full = textTokens + visualTokens
    let stages = plan.drops.map { textTokens + $0.keepCounts[0] }
    self.rows = rows.map { Set($0).sorted() } ?? Set(stages + [1, 2, 3, 4, 5, 6, 7, 8].map { $0 * full / 8 }).sorted()
  }

  /// Rows that each layer sees under PyramidDrop.
  var rowsPerLayer: [Int] {
    (0..<model.layerCount).map { layer in
      textTokens + (plan.drops.last { $0.afterLayer <= layer }?.keepCounts[0] ?? visualTokens)
    }
  }

  /// The table: a row for each length, and with it the fit and the savings.
  ///
  /// Lengths and policies take turns; the first turn warms up.
  func measure(repetitions: Int) throws -> [TableRow] {
    var layers = rows.map { _ in Sample() }
    var (without, with) = (Sample(), Sample())
    for turn in 0...repetitions {
      for (index, count) in rows.enumerated() {
        let time = prefillMilliseconds(SequenceLayout(rowCount: count), .none) / Double(model.layerCount)
        if turn > 0 { layers[index].append(time) }
      }
      let layout = SequenceLayout(rowCount: textTokens + visualTokens, visualSpans: [1..<1 + visualTokens])
      let times = (prefillMilliseconds(layout, .none), prefillMilliseconds(layout, plan))
      if turn > 0 {
        without.append(times.0)
        with.append(times.1)
      }
      Log.write("turn \(turn) of \(repetitions): \(model.name) \(model.precision.name)")
    }
    guard let fit = LayerCostFit(zip(rows, layers).map { (rows: $0, milliseconds: $1.median) }) else {
      throw LayerCostError(rows: rows)
    }
    let savings = LayerCostSavings(self, fit, measured: with.median / without.median)
    return zip(rows, layers).map { LayerCostRow(model, rows: $0, $1, fit, savings, threads: threads).record }
  }

  /// What the decoder takes for a prompt, ranking included.
  private func prefillMilliseconds(_ layout: SequenceLayout, _ plan: DropPlan) -> Double {
    let text = model.llava.configuration.text
    let compute = ComputeContext(workers: Workers(count: threads))
    var state = DecoderState(text)
    let cache = KVCache(text, element: model.precision.cacheElement)
    state.hidden = Matrix(randomRows: layout.rowCount, columns: text.hiddenSize, workers: compute.workers)
    var layout = layout
    return milliseconds { _ = model.llava.languageModel.prefill(&state, cache, &layout, plan, on: compute) }
  }
}

/// Measurements that no curve can be put through.
struct LayerCostError: UserFacingError {
  var rows: [Int]

  var category: ErrorCategory { .input }
  var problem: String { "no curve fits the times for \(rows) rows; give --rows that are further apart" }
}

/// PyramidDrop's prefill over that without dropping, by several reckonings.
struct LayerCostSavings {
  /// As in the paper: a layer costs as much as it has visual tokens.
  let linearInVisualTokens: Double
  /// A layer costs as much as it has rows, text included.
  let linearInRows: Double
  /// A layer costs what the fit says.
  let fitted: Double
  /// What it was.
  let measured: Double

  init(_ cost: LayerCost, _ fit: LayerCostFit, measured: Double) {
    let perLayer = cost.rowsPerLayer
    let full = cost.textTokens + cost.visualTokens
    func mean(_ cost: (Int) -> Double) -> Double { perLayer.reduce(0) { $0 + cost($1) } / Double(perLayer.count) }
    linearInVisualTokens = mean { Double($0 - cost.textTokens) } / Double(cost.visualTokens)
    linearInRows = mean(Double.init) / Double(full)
    fitted = mean(fit.milliseconds) / fit.milliseconds(full)
    self.measured = measured
  }

  /// Such as `PyramidDrop takes 47.1% of the time …`.
  var description: String {
    func percent(_ ratio: Double) -> String { (100 * ratio).formatted(1) + "%" }
    return "measured \(percent(measured)); by the fit \(percent(fitted)); linear in all rows \(percent(linearInRows)); "
      + "linear in visual tokens, as the paper assumes, \(percent(linearInVisualTokens))"
  }
}

/// A row of the table of layer costs.
struct LayerCostRow {
  let record: TableRow

  init(
    _ model: VisionLanguageModel, rows: Int, _ time: Sample, _ fit: LayerCostFit, _ savings: LayerCostSavings,
    threads: Int
  ) {
    let fitted = fit.milliseconds(rows)
    let machine = Machine.current
    func share(_ part: Double) -> String { (100 * part / fitted).formatted(1) + "%" }
    let n = Double(rows)
    let name = "\(model.name) \(model.precision.name)"
    record = TableRow([
      Field("model", .text(model.name), heading: "model"),
      Field("precision", .text(model.precision.name), heading: "precision"),
      Field("threads", .integer(threads), heading: "threads"),
      Field("rows", .integer(rows), heading: "rows"),
      Field(
        "milliseconds", .number(time.median), heading: "ms of a layer",
        text: "\(time.median.formatted(3)) ± \(time.deviation.formatted(3))"),
      Field("fitted_milliseconds", fitted, heading: "fit", decimals: 3),
      Field("constant_share", .number(fit.a / fitted), heading: "a", text: share(fit.a)),
      Field("linear_share", .number(fit.b * n / fitted), heading: "b n", text: share(fit.b * n)),
      Field("quadratic_share", .number(fit.c * n * n / fitted), heading: "c n²", text: share(fit.c * n * n)),
      Field("samples_ms", .numbers(time.values)),
      Field("a_ms", .number(fit.a)),
      Field("b_ms", .number(fit.b)),
      Field("c_ms", .number(fit.c)),
      Field("relative_residual", .number(fit.residual)),
      Field("fit", .text(Self.formula(fit)), .note(heading: name)),
      Field("ratio_measured", .number(savings.measured)),
      Field("ratio_fit", .number(savings.fitted)),
      Field("ratio_linear_in_rows", .number(savings.linearInRows)),
      Field("ratio_paper", .number(savings.linearInVisualTokens)),
      Field("ratios", .text(savings.description), .note(heading: "\(name), PyramidDrop's prefill over none's")),
      Field("reason", .text(model.precision.reason), .note(heading: "backend")),
      Field("build_commit", .text(machine.commit), .note(heading: "commit")),
      Field("cpu_info", .text(machine.processor), .note(heading: "cpu")),
    ])
  }

  private static func formula(_ fit: LayerCostFit) -> String {
    func number(_ value: Double) -> String { value.significant(3) }
    return "t(n) = \(number(fit.a)) + \(number(fit.b)) n + \(number(fit.c)) n² ms, off by "
      + (100 * fit.residual).formatted(1) + "%"
  }
}
