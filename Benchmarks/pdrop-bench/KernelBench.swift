import BenchSupport
import CommandLineOptions
import Kernels

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
  var shareOfProducts = Sample()
  var shareOfReading = Sample()
}

/// Runs single kernels, and in front of every one the machine's limits.
final class KernelBench {
  private let compute: Compute
  private(set) var limits = Limits()
  private let limitKernels: LimitKernels
  private let repetitions: Int

  /// So many bytes of weights are read before a call meets the same ones again: more than caches hold.
  private static let coldBytes = 256 << 20

  init(_ arithmetics: Set<Arithmetic>, repetitions: Int, threads: Int) {
    limitKernels = LimitKernels(arithmetics, threads: threads)
    self.repetitions = repetitions
    compute = Compute(workers: Workers(count: threads))
  }

  /// Measures a product for each of the numbers of rows.
  ///
  /// Weights are as cold as in a model: several copies take turns where one would stay in the caches.
  func products(_ shape: KernelShape, _ arithmetic: Arithmetic) -> [KernelResult] {
    let weightBytes = shape.inputs * shape.outputs * (arithmetic == .f32 ? 4 : arithmetic == .bf16 ? 2 : 1)
    let layers = (0..<Self.copies(of: weightBytes)).map { copy in
      Linear(
        randomInputs: shape.inputs, outputs: shape.outputs, seed: UInt64(copy), for: arithmetic,
        workers: compute.workers)
    }
    var y = Matrix(rows: 0, columns: shape.outputs)
    return shape.rows.map { rows in
      let x = Matrix(randomRows: rows, columns: shape.inputs, workers: compute.workers)
      let result = KernelResult(
        name: shape.name, shape: "\(shape.outputs) x \(shape.inputs)", rows: rows, precision: arithmetic.rawValue,
        operations: 2 * rows * shape.inputs * shape.outputs, bytes: layers[0].weightByteCount)
      return measure(result, against: arithmetic, copies: layers.count) { copy in
        compute.multiply(&y, x, by: layers[copy], .output)
      }
    }
  }

  /// Measures attention over so many positions: of all of them as in a prompt, and of the last as in decoding.
  func attention(_ heads: HeadLayout, positions: Int, _ arithmetic: Arithmetic) -> [KernelResult] {
    let element = arithmetic == .f32 ? ElementType.f32 : .bf16
    let variant = arithmetic == .f32 ? AttentionVariant.exact : .fast
    let bytes = 2 * positions * heads.keyValueColumns * element.byteCount
    let caches = (0..<Self.copies(of: bytes)).map { _ in
      CachedRows(heads, positions: positions, element, compute.workers)
    }
    var attended = Matrix(rows: 0, columns: heads.queryColumns)
    return [positions, 1].map { rows in
      let queries = Matrix(randomRows: rows, columns: heads.queryColumns, workers: compute.workers)
      let pairs = rows == 1 ? positions : positions * (positions + 1) / 2
      let result = KernelResult(
        name: "attention", shape: "\(positions) positions", rows: rows, precision: element == .f32 ? "f32" : "bf16",
        operations: 4 * heads.queryColumns * pairs, bytes: bytes)
      return measure(result, against: arithmetic, copies: caches.count) { copy in
        compute.causalAttention(
          &attended, queries: queries, keys: caches[copy].keys, values: caches[copy].values, heads: heads,
          with: variant)
      }
    }
  }

  private static func copies(of bytes: Int) -> Int { max(1, min(64, (coldBytes + bytes - 1) / bytes)) }

  /// Calls a kernel again and again, the machine's limits in between.
  ///
  /// - Parameter call: Runs the kernel over one of the copies of what it reads.
  private func measure(
    _ result: KernelResult, against arithmetic: Arithmetic, copies: Int, _ call: (_ copy: Int) -> Void
  ) -> KernelResult {
    // A call of many rows takes long enough by itself; of few rows as many as there are copies.
    let calls = result.rows > 64 ? 1 : copies
    var result = result
    for repetition in 0...repetitions {
      let products = limits.measureProducts(arithmetic, with: limitKernels)
      let reading = limits.measureReading(with: limitKernels)
      let time =
        milliseconds {
          for i in 0..<calls { call((repetition * calls + i) % copies) }
        } / Double(calls)
      // The first one warms up.
      guard repetition > 0 else { continue }
      result.milliseconds.append(time)
      result.shareOfProducts.append(Double(result.operations) / time * 1e3 / products)
      result.shareOfReading.append(Double(result.bytes) / time * 1e3 / reading)
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
