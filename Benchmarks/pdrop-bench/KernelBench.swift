import ArgumentParser
import BasicContainers
import CommandLineSupport
import Evaluation
import Kernels
import ModelFormats
import PDrop
import Reports

/// `pdrop-bench kernels`: each matmul and attention of a model, compared with the peaks of the machine.
struct KernelsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kernels",
    abstract: "Measures the peaks of the machine, and single matmuls and attention of a model relative to them.")

  @Option(help: "Published model whose shapes to measure.")
  var synthetic = ModelPreset.llava15With7B

  @Option(help: "Compute precisions to measure.")
  var precision = NameList<Precision>([.f32, .bf16, .int8])

  @Option(help: "Rows of the decoder's matmuls: a prompt, a batch, one token.")
  var rows = NumberList<Int>([625, 16, 1])

  @Option(help: "Positions in the KV cache for attention.")
  var positions = NumberList<Int>([625, 2389])

  @OptionGroup(title: "Measurement") var bench: BenchOptions

  func validate() throws {
    for (option, list) in [("--rows", rows), ("--positions", positions)] {
      if let number = list.numbers.first(where: { !(1...1_000_000).contains($0) }) {
        throw ValidationError("\(option) must be 1 to 1000000, found \(number)")
      }
    }
  }

  func run() throws {
    let configuration = synthetic.configuration
    var choices: [ComputeType: ComputeType.Choice] = [:]
    for precision in precision.names {
      let choice = ComputeType.best(for: precision.computeType)
      choices[choice.computeType] = choice
    }
    let kernels = KernelBench(Set(choices.keys), repetitions: bench.repetitions, threads: bench.threadCount)
    var results: [(KernelResult, reason: String)] = []
    let shapes = configuration.decoderShapes(rows: rows.numbers) + configuration.visionShapes
    for computeType in ComputeType.allCases {
      guard let choice = choices[computeType] else { continue }
      for shape in shapes { results += kernels.matmuls(shape, computeType).map { ($0, choice.summary()) } }
      // Attention in int8 has int8 scores only, so that it is compared with bf16, in which it reads an int8 cache too.
      let scores: [ScoreType] =
        computeType == .bf16 && InstructionSet.avx512VNNI.isAvailable ? [.float, .int8] : [.float]
      let caches: [CacheType] = computeType == .f32 ? [.f32] : computeType == .bf16 ? [.bf16, .int8] : []
      for count in positions.numbers {
        for cache in caches {
          for scores in scores {
            let attention = kernels.attention(
              configuration.text.heads, positions: count, computeType, scores, cache: cache)
            results += attention.map { ($0, "own kernels") }
          }
        }
      }
      if let vision = configuration.vision, computeType != .int8 {
        for scores in scores {
          results.append((kernels.visionAttention(vision, computeType, scores), "own kernels"))
        }
      }
    }
    let machine = Machine.current
    let rows = results.map { result, reason in
      let choice = [
        Field("threads", .integer(bench.threadCount), .note(heading: "threads")),
        Field("reason", .text(reason), .note(heading: "backend")),
      ]
      return TableRow(result.fields + choice + kernels.peaks.fields(machine))
    }
    try bench.print(rows, as: "pdrop_bench_kernels")
  }
}

extension KernelResult {
  var fields: [Field] {
    let seconds = milliseconds.median / 1e3
    func percent(_ fraction: Sample) -> String { (100 * fraction.median).formatted(0) + "%" }
    return [
      Field("kernel", .text(name), heading: "kernel"),
      Field("shape", .text(shape), heading: "shape"),
      Field("rows", .integer(rows), heading: "rows"),
      Field("precision", .text(precision), heading: "precision"),
      Field("milliseconds", milliseconds.median, heading: "ms", decimals: 3),
      Field("milliseconds_deviation", .number(milliseconds.deviation)),
      Field("gop_per_second", Double(operations) / seconds / 1e9, heading: "GOP/s", decimals: 1),
      Field(
        "share_of_compute_peak", .number(fractionOfComputePeak.median), heading: "% of compute peak",
        text: percent(fractionOfComputePeak)),
      Field("gbyte_per_second", Double(bytes) / seconds / 1e9, heading: "GB/s", decimals: 1),
      Field(
        "share_of_bandwidth", .number(fractionOfBandwidth.median), heading: "% of memory bandwidth",
        text: percent(fractionOfBandwidth)),
      Field("samples_ms", .numbers(milliseconds.values)),
    ]
  }
}

/// The time of a kernel, and its throughput relative to the peaks measured right before each call.
struct KernelResult {
  var name: String
  /// The shape of the weight, `12288 x 4096`, or the positions of attention.
  var shape: String
  var rows: Int
  var precision: String
  /// Milliseconds per call.
  var milliseconds = Sample()
  /// Operations per call, two per multiply-add.
  var operations: Int
  /// Bytes of weights, or of keys and values, that a call reads.
  var bytes: Int
  /// Throughput relative to the compute peak and to memory bandwidth, 1 for the peak itself.
  var fractionOfComputePeak = Sample()
  var fractionOfBandwidth = Sample()
}

/// The measurement of single kernels; the peaks of the machine are measured before each call.
final class KernelBench {
  private let compute: ComputeContext
  private(set) var peaks = Peaks()
  private let peakKernels: PeakKernels
  private let repetitions: Int

  /// The bytes of weights to read before the same weights are read again: more than the caches hold.
  private static let coldBytes = 256 << 20

  init(_ computeTypes: Set<ComputeType>, repetitions: Int, threads: Int) {
    peakKernels = PeakKernels(computeTypes, threads: threads)
    self.repetitions = repetitions
    compute = ComputeContext(workers: Workers(count: threads))
  }

  /// The results of a matmul for each number of rows.
  ///
  /// Weights are cold, as in a model: calls cycle through several copies, as a single one would stay in the caches.
  func matmuls(_ shape: KernelShape, _ computeType: ComputeType) -> [KernelResult] {
    func layer(_ copy: Int) -> Linear {
      Linear(
        randomInputs: shape.inputs, outputs: shape.outputs, seed: UInt64(copy), for: computeType,
        workers: compute.workers)
    }
    let first = layer(0)
    let layers = [first] + (1..<Self.copies(of: first.weightByteCount)).map(layer)
    var y = Matrix(rows: 0, columns: shape.outputs)
    return shape.rows.map { rows in
      let x = Matrix(randomRows: rows, columns: shape.inputs, workers: compute.workers)
      let result = KernelResult(
        name: shape.name, shape: "\(shape.outputs) x \(shape.inputs)", rows: rows, precision: computeType.rawValue,
        operations: 2 * rows * shape.inputs * shape.outputs, bytes: first.weightByteCount)
      return measure(result, against: computeType, copies: layers.count) { copy in
        compute.matmul(&y, x, by: layers[copy], .output)
      }
    }
  }

  /// The results of attention over a number of positions: all queries as in prefill, and with float scores the last one
  /// as in decode.
  func attention(
    _ heads: HeadLayout, positions: Int, _ computeType: ComputeType, _ scores: ScoreType, cache type: CacheType
  ) -> [KernelResult] {
    let bytes = 2 * positions * type.rowByteCount(heads)
    var caches = RigidArray<LayerCache>(capacity: Self.copies(of: bytes))
    while !caches.isFull { caches.append(filledCache(heads, positions: positions, type)) }
    let copies = caches.count
    var attentionOutput = Matrix(rows: 0, columns: heads.queryColumns)
    return (scores == .float ? [positions, 1] : [positions]).map { rows in
      let queries = Matrix(randomRows: rows, columns: heads.queryColumns, workers: compute.workers)
      let pairs = rows == 1 ? positions : positions * (positions + 1) / 2
      let result = KernelResult(
        name: "attention" + scores.suffix, shape: "\(positions) positions", rows: rows, precision: type.rawValue,
        operations: 4 * heads.queryColumns * pairs, bytes: bytes)
      return measure(result, against: computeType, copies: copies) { copy in
        compute.causalAttention(
          &attentionOutput, queries: queries, keys: caches[copy].keys, values: caches[copy].values, heads: heads,
          with: AttentionKernel(for: computeType, scores: scores))
      }
    }
  }

  /// The result of the vision encoder's attention over one view; keys and values are f32.
  func visionAttention(_ vision: VisionConfiguration, _ computeType: ComputeType, _ scores: ScoreType) -> KernelResult {
    let (rows, columns) = (vision.rowsPerView, vision.hiddenSize)
    func random() -> Matrix { Matrix(randomRows: rows, columns: columns, workers: compute.workers) }
    let queries = random()
    let keys = random()
    let values = random()
    var output = Matrix(rows: 0, columns: columns)
    let result = KernelResult(
      name: "vision attention" + scores.suffix, shape: "\(vision.headCount) heads of \(vision.heads.headDimension)",
      rows: rows, precision: computeType.rawValue, operations: 4 * columns * rows * rows, bytes: 3 * rows * columns * 4)
    return measure(result, against: computeType, copies: 1) { _ in
      compute.fullAttention(
        &output, queries: queries, keys: keys, values: values, heads: vision.heads, sequences: 1,
        with: AttentionKernel(for: computeType, scores: scores))
    }
  }

  /// A cache of random keys and values.
  private func filledCache(_ heads: HeadLayout, positions: Int, _ type: CacheType) -> LayerCache {
    func random() -> Matrix {
      Matrix(randomRows: positions, columns: heads.keyValueColumns, workers: compute.workers)
    }
    var cache = LayerCache(heads, type: type)
    cache.append(
      keys: random(), values: random(), rows: 0..<positions, lastPosition: positions - 1, workers: compute.workers)
    return cache
  }

  private static func copies(of bytes: Int) -> Int { max(1, min(64, (coldBytes + bytes - 1) / bytes)) }

  /// Measures repeated calls of a kernel, with the peaks of the machine before each repetition.
  ///
  /// - Parameter call: Runs the kernel on one of the copies of its weights.
  private func measure(
    _ result: KernelResult, against computeType: ComputeType, copies: Int, _ call: (_ copy: Int) -> Void
  ) -> KernelResult {
    // A call with many rows is long enough to time alone. With few rows, one call per copy is timed.
    let calls = result.rows > 64 ? 1 : copies
    var result = result
    for repetition in 0...repetitions {
      let computePeak = peaks.measureCompute(computeType, with: peakKernels)
      let bandwidth = peaks.measureBandwidth(with: peakKernels)
      let time =
        milliseconds {
          for i in 0..<calls { call((repetition * calls + i) % copies) }
        } / Double(calls)
      // The first repetition is a warm-up.
      guard repetition > 0 else { continue }
      result.milliseconds.append(time)
      result.fractionOfComputePeak.append(Double(result.operations) / time * 1e3 / computePeak)
      result.fractionOfBandwidth.append(Double(result.bytes) / time * 1e3 / bandwidth)
    }
    Log.write(
      "\(result.name) \(result.rows) rows \(result.precision): \(result.milliseconds.median.formatted(3)) ms")
    return result
  }
}

extension ScoreType {
  /// What the name of a kernel ends with.
  fileprivate var suffix: String { self == .float ? "" : ", \(rawValue) scores" }
}

/// The shape of a matmul of a model.
struct KernelShape {
  var name: String
  var inputs: Int
  var outputs: Int
  /// The numbers of input rows to measure.
  var rows: [Int]
}

extension LLaVAConfiguration {
  /// The matmuls of a decoder layer and of the head; weights with the same input are combined.
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

  /// The matmuls of the vision encoder and the projector for one view; none for a language model alone.
  var visionShapes: [KernelShape] {
    guard let vision else { return [] }
    let (d, m, patch) = (vision.hiddenSize, vision.intermediateSize, vision.patchSize)
    let (patches, rows) = ([vision.patchCount], [vision.rowsPerView])
    return [
      KernelShape(name: "vision patch", inputs: 3 * patch * patch, outputs: d, rows: patches),
      KernelShape(name: "vision q/k/v", inputs: d, outputs: 3 * d, rows: rows),
      KernelShape(name: "vision out", inputs: d, outputs: d, rows: rows),
      KernelShape(name: "vision fc1", inputs: d, outputs: m, rows: rows),
      KernelShape(name: "vision fc2", inputs: m, outputs: d, rows: rows),
      KernelShape(name: "projector 1", inputs: d, outputs: text.hiddenSize, rows: patches),
      KernelShape(name: "projector 2", inputs: text.hiddenSize, outputs: text.hiddenSize, rows: patches),
    ]
  }
}
