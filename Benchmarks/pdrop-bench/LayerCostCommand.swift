import ArgumentParser
import BenchSupport
import CommandLineOptions
import PDrop

/// `pdrop-bench layer-cost`: what a decoder layer costs by its rows, and how far the paper's assumption of a cost linear in
/// them holds.
struct LayerCostCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "layer-cost",
    abstract: "Fits a layer's time as a + b n + c n² for n rows, and compares PyramidDrop's saving with it.")

  @OptionGroup(title: "Model") var modelOptions: ModelSourceOptions

  @Option(name: [.customShort("p"), .customLong("n-prompt")], help: "Text tokens of the prompt, beside one picture.")
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
    var records: [Record] = []
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
