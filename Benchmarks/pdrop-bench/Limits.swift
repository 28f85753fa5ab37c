import BenchSupport
import Kernels

/// What the machine could do at its best, each time that it was tried.
///
/// Tried again and again between other measurements, since a machine's mood changes.
struct Limits {
  /// Floating-point or integer operations per second of large square products.
  private(set) var products: [Arithmetic: Sample] = [:]
  /// Bytes per second.
  private(set) var reading = Sample()

  /// Tries a product, and returns its rate.
  @discardableResult
  mutating func measureProducts(_ arithmetic: Arithmetic, with kernels: LimitKernels) -> Double {
    let rate = kernels.productRate(arithmetic)
    products[arithmetic, default: Sample()].append(rate)
    return rate
  }

  /// Tries to read, and returns the rate.
  @discardableResult
  mutating func measureReading(with kernels: LimitKernels) -> Double {
    let rate = kernels.readingRate()
    reading.append(rate)
    return rate
  }

  /// Tries everything, in memory that is then given back.
  mutating func measure(_ arithmetics: Set<Arithmetic>, threads: Int) {
    let kernels = LimitKernels(arithmetics, threads: threads)
    for arithmetic in arithmetics { measureProducts(arithmetic, with: kernels) }
    measureReading(with: kernels)
  }

  /// Such as `f32 497, bf16 1012 GOP/s; reading 45.2 GB/s`.
  var description: String {
    let rates = Arithmetic.allCases.compactMap { arithmetic in
      products[arithmetic].map { "\(arithmetic) \(($0.median / 1e9).formatted(0))" }
    }
    return "\(rates.joined(separator: ", ")) GOP/s; reading \((reading.median / 1e9).formatted(1)) GB/s"
  }
}

/// What the limits are tried with: a large square product in each arithmetic, and memory to read.
final class LimitKernels {
  private let compute: Compute
  private let readingTest: ReadingTest
  private let input: Matrix
  private var result: Matrix
  private let layers: [Arithmetic: Linear]

  /// Rows of the product, and numbers in each of them.
  private static let (rows, side) = (2048, 4096)
  private static let readBytes = 512 << 20

  init(_ arithmetics: Set<Arithmetic>, threads: Int) {
    let workers = Workers(count: threads)
    compute = Compute(workers: workers)
    readingTest = ReadingTest(byteCount: Self.readBytes, workers: workers)
    input = Matrix(randomRows: Self.rows, columns: Self.side, workers: workers)
    result = Matrix(rows: 0, columns: Self.side)
    func layer(_ arithmetic: Arithmetic) -> Linear {
      Linear(randomInputs: Self.side, outputs: Self.side, for: arithmetic, workers: workers)
    }
    layers = Dictionary(uniqueKeysWithValues: arithmetics.map { ($0, layer($0)) })
    // The first time is never the best.
    for layer in layers.values { compute.multiply(&result, input, by: layer, .output) }
  }

  /// Operations per second of a product: of the better of two.
  func productRate(_ arithmetic: Arithmetic) -> Double {
    guard let layer = layers[arithmetic] else { preconditionFailure("LimitKernels: no product in \(arithmetic)") }
    let operations = 2 * Double(Self.rows * Self.side * Self.side)
    return operations / bestMilliseconds { compute.multiply(&result, input, by: layer, .output) } * 1e3
  }

  /// Bytes read per second: of the better of two times.
  func readingRate() -> Double {
    Double(readingTest.byteCount) / bestMilliseconds { readingTest(workers: compute.workers) } * 1e3
  }

  private func bestMilliseconds(_ body: () -> Void) -> Double { min(milliseconds(body), milliseconds(body)) }
}

extension Linear {
  /// A layer of random weights, for products in an arithmetic: stored in f32 for that, else made from bf16.
  init(randomInputs inputs: Int, outputs: Int, seed: UInt64 = 0, for arithmetic: Arithmetic, workers: Workers) {
    let weight = Tensor(
      randomShape: [outputs, inputs], deviation: 1 / Float(inputs).squareRoot(),
      element: arithmetic == .f32 ? .f32 : .bf16, seed: seed, workers: workers)
    self = Linear(weight: weight).converted(to: arithmetic, workers: workers)
  }
}

extension Matrix {
  /// Random activations.
  init(randomRows rows: Int, columns: Int, workers: Workers) {
    let values = Tensor(randomShape: [rows, columns], deviation: 1, element: .f32, seed: 1, workers: workers)
    self.init(values.floats(), columns: columns)
  }
}
