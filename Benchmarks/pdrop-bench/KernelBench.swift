import ArgumentParser
import CommandLineSupport
import Evaluation
import Kernels
import ModelFormats
import PDrop
import Reports

/// `pdrop-bench kernels`: the machine's own limits, and beside them every product and attention of a model.
struct KernelsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kernels",
    abstract: "Measures the machine's limits and a model's single products beside them.")

  @Option(help: "Whose shapes to take.")
  var synthetic = ModelPreset.llava15With7B

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
    var choices: [ComputeType: Kernels.Precision.Choice] = [:]
    for precision in precision.names {
      let choice = (Kernels.Precision(rawValue: precision.rawValue) ?? .auto).choice()
      choices[choice.computeType] = choice
    }
    let kernels = KernelBench(Set(choices.keys), repetitions: bench.repetitions, threads: bench.threadCount)
    var results: [(KernelResult, reason: String)] = []
    let shapes = configuration.decoderShapes(rows: rows.numbers) + configuration.visionShapes
    for computeType in ComputeType.allCases {
      guard let choice = choices[computeType] else { continue }
      for shape in shapes { results += kernels.products(shape, computeType).map { ($0, choice.reason) } }
      // Attention is never computed in integers.
      guard computeType != .int8 else { continue }
      for count in positions.numbers {
        let attention = kernels.attention(configuration.text.heads, positions: count, computeType)
        results += attention.map { ($0, "own kernels") }
      }
    }
    let machine = Machine.current
    let records = results.map { result, reason in
      let choice = [
        Field("threads", .integer(bench.threadCount), .note(heading: "threads")),
        Field("reason", .text(reason), .note(heading: "backend")),
      ]
      return TableRow(result.fields + choice + kernels.peaks.fields(machine))
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
        "share_of_products", .number(shareOfComputePeak.median), heading: "of products",
        text: percent(shareOfComputePeak)),
      Field("gbyte_per_second", Double(bytes) / seconds / 1e9, heading: "GB/s", decimals: 1),
      Field(
        "share_of_reading", .number(shareOfBandwidth.median), heading: "of reading", text: percent(shareOfBandwidth)),
      Field("samples_ms", .numbers(milliseconds.values)),
    ]
  }
}

/// What a kernel took, and what the machine could do in the same minute.
struct KernelResult {
  var name: String
  /// Such as `12288 x 4096`.
  var shape: String
  var rows: Int
  var precision: String
  /// Milliseconds of a call.
  var milliseconds = Sample()
  /// Operations of a call, twice the multiply-adds.
  var operations: Int
  /// Bytes of the weights, or of keys and values, that a call reads.
  var bytes: Int
  /// Rate over the limit measured right before it, of products and of reading.
  var shareOfComputePeak = Sample()
  var shareOfBandwidth = Sample()
}

/// Runs single kernels, and before every one the machine's limits.
final class KernelBench {
  private let compute: ComputeContext
  private(set) var peaks = Peaks()
  private let peakKernels: PeakKernels
  private let repetitions: Int

  /// So many bytes of weights are read before a call meets the same ones again: more than caches hold.
  private static let coldBytes = 256 << 20

  init(_ computeTypes: Set<ComputeType>, repetitions: Int, threads: Int) {
    peakKernels = PeakKernels(computeTypes, threads: threads)
    self.repetitions = repetitions
    compute = ComputeContext(workers: Workers(count: threads))
  }

  /// Measures a product for each of the numbers of rows.
  ///
  /// Weights are as cold as in a model: several copies take turns where one would stay in the caches.
  func products(_ shape: KernelShape, _ computeType: ComputeType) -> [KernelResult] {
    let weightBytes = shape.inputs * shape.outputs * (computeType == .f32 ? 4 : computeType == .bf16 ? 2 : 1)
    let layers = (0..<Self.copies(of: weightBytes)).map { copy in
      Linear(
        randomInputs: shape.inputs, outputs: shape.outputs, seed: UInt64(copy), for: computeType,
        workers: compute.workers)
    }
    var y = Matrix(rows: 0, columns: shape.outputs)
    return shape.rows.map { rows in
      let x = Matrix(randomRows: rows, columns: shape.inputs, workers: compute.workers)
      let result = KernelResult(
        name: shape.name, shape: "\(shape.outputs) x \(shape.inputs)", rows: rows, precision: computeType.rawValue,
        operations: 2 * rows * shape.inputs * shape.outputs, bytes: layers[0].weightByteCount)
      return measure(result, against: computeType, copies: layers.count) { copy in
        compute.matmul(&y, x, by: layers[copy], .output)
      }
    }
  }

  /// Measures attention over so many positions: of all of them as in a prompt, and of the last as in decoding.
  func attention(_ heads: HeadLayout, positions: Int, _ computeType: ComputeType) -> [KernelResult] {
    let element = computeType == .f32 ? ElementType.f32 : .bf16
    let variant = InstructionSet.attention(for: computeType)
    let bytes = 2 * positions * heads.keyValueColumns * element.byteCount
    let caches = (0..<Self.copies(of: bytes)).map { _ in
      CachedRows(heads, positions: positions, element, compute.workers)
    }
    var attentionOutput = Matrix(rows: 0, columns: heads.queryColumns)
    return [positions, 1].map { rows in
      let queries = Matrix(randomRows: rows, columns: heads.queryColumns, workers: compute.workers)
      let pairs = rows == 1 ? positions : positions * (positions + 1) / 2
      let result = KernelResult(
        name: "attention", shape: "\(positions) positions", rows: rows, precision: element == .f32 ? "f32" : "bf16",
        operations: 4 * heads.queryColumns * pairs, bytes: bytes)
      return measure(result, against: computeType, copies: caches.count) { copy in
        compute.causalAttention(
          &attentionOutput, queries: queries, keys: caches[copy].keys, values: caches[copy].values, heads: heads,
          with: variant)
      }
    }
  }

  private static func copies(of bytes: Int) -> Int { max(1, min(64, (coldBytes + bytes - 1) / bytes)) }

  /// Calls a kernel again and again, the machine's limits in between.
  ///
  /// - Parameter call: Runs the kernel over one of the copies of what it reads.
  private func measure(
    _ result: KernelResult, against computeType: ComputeType, copies: Int, _ call: (_ copy: Int) -> Void
  ) -> KernelResult {
    // A call of many rows takes long enough by itself; of few rows as many as there are copies.
    let calls = result.rows > 64 ? 1 : copies
    var result = result
    for repetition in 0...repetitions {
      let products = peaks.measureProducts(computeType, with: peakKernels)
      let reading = peaks.measureBandwidth(with: peakKernels)
      let time =
        milliseconds {
          for i in 0..<calls { call((repetition * calls + i) % copies) }
        } / Double(calls)
      // The first one warms up.
      guard repetition > 0 else { continue }
      result.milliseconds.append(time)
      result.shareOfComputePeak.append(Double(result.operations) / time * 1e3 / products)
      result.shareOfBandwidth.append(Double(result.bytes) / time * 1e3 / reading)
    }
    Log.write(
      "\(result.name) \(result.rows) rows \(result.precision): \(result.milliseconds.median.formatted(3)) ms")
    return result
  }
}

/// Keys and values of one layer; a class only because arrays hold no noncopyable elements.
private final class CachedRows {
  let keys: CacheRows
  let values: CacheRows

  init(_ heads: HeadLayout, positions: Int, _ element: ElementType, _ workers: Workers) {
    func filled() -> CacheRows {
      var rows = CacheRows(columns: heads.keyValueColumns, element: element)
      rows.append(Matrix(randomRows: positions, columns: heads.keyValueColumns, workers: workers))
      return rows
    }
    keys = filled()
    values = filled()
  }
}

/// A product as a model asks for it.
struct KernelShape {
  var name: String
  var inputs: Int
  var outputs: Int
  /// How many rows to try.
  var rows: [Int]
}

extension LLaVAConfiguration {
  /// The products of a decoder layer and of the head, with weights that share their input taken as one.
  func decoderShapes(rows: [Int]) -> [KernelShape] {
    let (d, m, heads) = (text.hiddenSize, text.intermediateSize, text.heads)
    return [
      KernelShape(name: "q/k/v", inputs: d, outputs: heads.queryColumns + 2 * heads.keyValueColumns, rows: rows),
      KernelShape(name: "o", inputs: heads.queryColumns, outputs: d, rows: rows),
      KernelShape(name: "gate/up", inputs: d, outputs: 2 * m, rows: rows),
      KernelShape(name: "down", inputs: m, outputs: d, rows: rows),
      KernelShape(name: "lm_head", inputs: d, outputs: text.vocabularySize, rows: rows),
    ]
  }

  /// The products of the vision encoder and the projector for one view.
  var visionShapes: [KernelShape] {
    let (d, m, patch) = (vision.hiddenSize, vision.intermediateSize, vision.patchSize)
    let (patches, rows) = ([vision.patchCount], [1 + vision.patchCount])
    return [
      KernelShape(name: "clip patch", inputs: 3 * patch * patch, outputs: d, rows: patches),
      KernelShape(name: "clip q/k/v", inputs: d, outputs: 3 * d, rows: rows),
      KernelShape(name: "clip out", inputs: d, outputs: d, rows: rows),
      KernelShape(name: "clip fc1", inputs: d, outputs: m, rows: rows),
      KernelShape(name: "clip fc2", inputs: m, outputs: d, rows: rows),
      KernelShape(name: "projector 1", inputs: d, outputs: text.hiddenSize, rows: patches),
      KernelShape(name: "projector 2", inputs: text.hiddenSize, outputs: text.hiddenSize, rows: patches),
    ]
  }
}
