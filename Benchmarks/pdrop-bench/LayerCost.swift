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

/// `pdrop-bench layer-cost`: the time of a decoder layer by its rows, compared with the paper's linear cost model.
struct LayerCostCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "layer-cost",
    abstract: "Fits the time of a layer as a + b n + c n² for n rows, and compares the saving of PyramidDrop with it.")

  @OptionGroup(title: "Model") var modelOptions: ModelSourceOptions

  @Option(name: [.customShort("p"), .customLong("n-prompt")], help: "Text tokens of the prompt, besides one image.")
  var textTokens = 49

  @Option(
    help: "Rows to measure, at most the context length. (default: those of PyramidDrop's stages, and some in between)")
  var rows: NumberList<Int>?

  @OptionGroup(title: "Measurement") var bench: BenchOptions

  /// The layers of a synthetic model without `--layers`: two in each of four stages.
  private static let layerCount = 8

  func validate() throws {
    try checkRange("--n-prompt", textTokens, 1...1 << 20)
    guard let rows else { return }
    guard Set(rows.numbers).count >= 3, rows.numbers.allSatisfy({ $0 >= 1 }) else {
      throw ValidationError("--rows must contain at least three different numbers of at least 1, found \(rows.numbers)")
    }
  }

  func run() throws {
    var tableRows: [TableRow] = []
    for source in try modelOptions.sources() {
      for precision in modelOptions.precision.names {
        let model = try modelOptions.load(source, precision, threads: bench.threadCount, layers: Self.layerCount)
        let cost = try LayerCost(model, textTokens: textTokens, rows: rows?.numbers, threads: bench.threadCount)
        tableRows += try cost.measure(repetitions: bench.repetitions)
      }
    }
    try bench.print(tableRows, as: "pdrop_bench_layer_cost")
  }
}

/// The measurement of a decoder for prompts of several lengths, and with and without PyramidDrop.
struct LayerCost {
  let model: VisionLanguageModel
  let textTokens: Int
  let visualTokens: Int
  /// The prompt lengths to measure, ascending; by default the last one is the full prompt.
  let rows: [Int]
  let plan: DropPlan
  private let threads: Int

  /// - Parameter rows: `nil` for the rows of PyramidDrop's stages and some in between.
  init(_ model: VisionLanguageModel, textTokens: Int, rows: [Int]?, threads: Int) throws {
    self.model = model
    self.textTokens = textTokens
    self.threads = threads
    visualTokens = model.llava.configuration.imageForMeasuring().tokens
    plan = try DropPlan(PyramidDrop(), layerCount: model.layerCount, visualTokenCounts: [visualTokens])
    let full = textTokens + visualTokens
    let stages = plan.drops.map { textTokens + $0.keepCounts[0] }
    self.rows = rows.map { Set($0).sorted() } ?? Set(stages + [1, 2, 3, 4, 5, 6, 7, 8].map { $0 * full / 8 }).sorted()
  }

  /// A row for each length, with the fit and the savings.
  ///
  /// Lengths and policies are interleaved; the first turn is a warm-up.
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
    return zip(rows, layers).map { LayerCostRow(model, rows: $0, $1, fit, savings, threads: threads).tableRow }
  }

  /// The prefill time of a prompt, ranking included.
  private func prefillMilliseconds(_ layout: SequenceLayout, _ plan: DropPlan) -> Double {
    let text = model.llava.configuration.text
    let compute = ComputeContext(workers: Workers(count: threads))
    var state = DecoderState(text)
    let cache = KVCache(text, type: model.precision.cacheType)
    state.hidden = Matrix(randomRows: layout.rowCount, columns: text.hiddenSize, workers: compute.workers)
    var layout = layout
    return milliseconds { _ = model.llava.languageModel.prefill(&state, cache, &layout, plan, on: compute) }
  }
}

/// Measurements without a unique fit.
struct LayerCostError: UserFacingError {
  var rows: [Int]

  var category: ErrorCategory { .input }
  var problem: String { "the times for \(rows) rows have no unique fit; use --rows that are further apart" }
}

/// The prefill time of PyramidDrop relative to no dropping, by several models of cost.
struct LayerCostSavings {
  /// The paper's assumption: the cost of a layer is proportional to its visual tokens.
  let linearInVisualTokens: Double
  /// The cost of a layer is proportional to its rows, text included.
  let linearInRows: Double
  /// The cost of a layer is the fitted time.
  let fitted: Double
  /// The measured ratio.
  let measured: Double

  init(_ cost: LayerCost, _ fit: LayerCostFit, measured: Double) {
    let full = cost.textTokens + cost.visualTokens
    let perLayer = cost.plan.rowsPerLayer(
      rowCount: full, visualTokenCount: cost.visualTokens, layerCount: cost.model.layerCount)
    func mean(_ cost: (Int) -> Double) -> Double { perLayer.reduce(0) { $0 + cost($1) } / Double(perLayer.count) }
    linearInVisualTokens = mean { Double($0 - cost.textTokens) } / Double(cost.visualTokens)
    linearInRows = mean(Double.init) / Double(full)
    fitted = mean(fit.milliseconds) / fit.milliseconds(full)
    self.measured = measured
  }

  /// Such as `measured 47.1%; by the fit 46.9%; …`.
  var description: String {
    return "measured \(percent(measured)); by the fit \(percent(fitted)); linear in all rows \(percent(linearInRows)); "
      + "linear in visual tokens, as the paper assumes, \(percent(linearInVisualTokens))"
  }
}

/// A row of the table of layer costs.
struct LayerCostRow {
  let tableRow: TableRow

  init(
    _ model: VisionLanguageModel, rows: Int, _ time: Sample, _ fit: LayerCostFit, _ savings: LayerCostSavings,
    threads: Int
  ) {
    let fitted = fit.milliseconds(rows)
    let machine = Machine.current
    func percentage(_ part: Double) -> String { percent(part / fitted) }
    let n = Double(rows)
    let name = "\(model.name) \(model.precision.name)"
    tableRow = TableRow([
      Field("model", .text(model.name), heading: "model"),
      Field("precision", .text(model.precision.name), heading: "precision"),
      Field("threads", .integer(threads), heading: "threads"),
      Field("rows", .integer(rows), heading: "rows"),
      Field(
        "milliseconds", .number(time.median), heading: "ms/layer",
        text: "\(time.median.formatted(3)) ± \(time.deviation.formatted(3))"),
      Field("fitted_milliseconds", fitted, heading: "fit", decimals: 3),
      Field("constant_share", .number(fit.a / fitted), heading: "a", text: percentage(fit.a)),
      Field("linear_share", .number(fit.b * n / fitted), heading: "b n", text: percentage(fit.b * n)),
      Field("quadratic_share", .number(fit.c * n * n / fitted), heading: "c n²", text: percentage(fit.c * n * n)),
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
      Field("ratios", .text(savings.description), .note(heading: "\(name), PyramidDrop prefill time (% of baseline)")),
      Field("reason", .text(model.precision.reason), .note(heading: "backend")),
      Field("build_commit", .text(machine.commit), .note(heading: "commit")),
      Field("cpu_info", .text(machine.processor), .note(heading: "cpu")),
    ])
  }

  private static func formula(_ fit: LayerCostFit) -> String {
    func number(_ value: Double) -> String { value.significant(3) }
    return "t(n) = \(number(fit.a)) + \(number(fit.b)) n + \(number(fit.c)) n² ms, relative residual "
      + percent(fit.residual)
  }
}
