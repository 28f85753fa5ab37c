import BenchSupport
import CommandLineOptions
import Kernels
import LLaVA
import ModelFormats
import PDrop
import TokenDropping

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
    visualTokens = model.llava.configuration.pictureForMeasuring.tokens
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
  func measure(repetitions: Int) throws -> [Record] {
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
    let compute = Compute(workers: Workers(count: threads))
    var state = DecoderState(text)
    let cache = KVCache(text, element: model.precision.cacheElement)
    state.hidden = Matrix(randomRows: layout.rowCount, columns: text.hiddenSize, workers: compute.workers)
    var layout = layout
    return milliseconds { _ = model.llava.languageModel.prefill(&state, cache, &layout, plan, on: compute) }
  }
}

/// Measurements that no curve can be put through.
struct LayerCostError: Error, CustomStringConvertible {
  var rows: [Int]

  var description: String { "no curve fits the times for \(rows) rows; give --rows that are further apart" }
}
