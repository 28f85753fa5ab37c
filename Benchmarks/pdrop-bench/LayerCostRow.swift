import BenchSupport
import Kernels
import PDrop

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
  let record: Record

  init(
    _ model: VisionLanguageModel, rows: Int, _ time: Sample, _ fit: LayerCostFit, _ savings: LayerCostSavings,
    threads: Int
  ) {
    let fitted = fit.milliseconds(rows)
    let machine = Machine.current
    func share(_ part: Double) -> String { (100 * part / fitted).formatted(1) + "%" }
    let n = Double(rows)
    let name = "\(model.name) \(model.precision.name)"
    record = Record([
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
