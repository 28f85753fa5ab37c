import ArgumentParser
import BenchSupport
import CommandLineOptions
import Kernels
import ModelFormats
import PDrop

/// `pdrop-bench kernels`: the machine's own limits, and beside them every product and attention of a model.
struct KernelsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kernels",
    abstract: "Measures the machine's limits and a model's single products beside them.")

  @Option(help: "Whose shapes to take.")
  var synthetic = PublishedShape.llava15With7B

  @Option(help: "Arithmetic to measure.")
  var precision = NameList<PDrop.Precision>([.f32, .bf16, .int8])

  @Option(help: "Rows of the decoder's products: a prompt, a batch, one token.")
  var rows = NumberList<Int>([625, 16, 1])

  @Option(help: "Positions that attention looks at.")
  var positions = NumberList<Int>([625, 2389])

  @OptionGroup(title: "Measuring") var bench: BenchOptions

  func validate() throws {
    for (option, list) in [("--rows", rows), ("--positions", positions)] {
      if let number = list.numbers.first(where: { !(1...1_000_000).contains($0) }) {
        throw ValidationError("\(option) must be from 1 to 1000000, found \(number)")
      }
    }
  }

  func run() throws {
    let configuration = synthetic.configuration
    var choices: [Arithmetic: Kernels.Precision.Choice] = [:]
    for precision in precision.names {
      let choice = (Kernels.Precision(rawValue: precision.rawValue) ?? .auto).choice()
      choices[choice.arithmetic] = choice
    }
    let kernels = KernelBench(Set(choices.keys), repetitions: bench.repetitions, threads: bench.threadCount)
    var results: [(KernelResult, reason: String)] = []
    let shapes = configuration.decoderShapes(rows: rows.numbers) + configuration.visionShapes
    for arithmetic in Arithmetic.allCases {
      guard let choice = choices[arithmetic] else { continue }
      for shape in shapes { results += kernels.products(shape, arithmetic).map { ($0, choice.reason) } }
      // Attention is never computed in whole numbers.
      guard arithmetic != .int8 else { continue }
      for count in positions.numbers {
        let attention = kernels.attention(configuration.text.heads, positions: count, arithmetic)
        results += attention.map { ($0, "own kernels") }
      }
    }
    let machine = Machine.current
    let records = results.map { result, reason in
      let choice = [
        Field("threads", .integer(bench.threadCount), .note(heading: "threads")),
        Field("reason", .text(reason), .note(heading: "backend")),
      ]
      return Record(result.fields + choice + kernels.limits.fields(machine))
    }
    try bench.print(records, as: "pdrop_bench_kernels")
  }
}

extension KernelResult {
  var fields: [Field] {
    let seconds = milliseconds.median / 1e3
    func percent(_ share: Sample) -> String { (100 * share.median).formatted(0) + "%" }
    return [
      Field("kernel", .text(name), heading: "kernel"),
      Field("shape", .text(shape), heading: "shape"),
      Field("rows", .integer(rows), heading: "rows"),
      Field("precision", .text(precision), heading: "precision"),
      Field("milliseconds", milliseconds.median, heading: "ms", decimals: 3),
      Field("milliseconds_deviation", .number(milliseconds.deviation)),
      Field("gop_per_second", Double(operations) / seconds / 1e9, heading: "GOP/s", decimals: 1),
      Field(
        "share_of_products", .number(shareOfProducts.median), heading: "of products",
        text: percent(shareOfProducts)),
      Field("gbyte_per_second", Double(bytes) / seconds / 1e9, heading: "GB/s", decimals: 1),
      Field(
        "share_of_reading", .number(shareOfReading.median), heading: "of reading", text: percent(shareOfReading)),
      Field("samples_ms", .numbers(milliseconds.values)),
    ]
  }
}
