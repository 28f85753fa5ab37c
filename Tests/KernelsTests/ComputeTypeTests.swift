import Kernels
import Storage
import TestSupport
import Testing

/// Matmuls in every compute type, with all kernels available on this machine.
@Suite struct ComputeTypeTests {
  /// This processor with all libraries, with and without AMX, for which they are not used, then every available ISA level
  /// without oneDNN.
  ///
  /// `InstructionSetTests` records the levels that are missing.
  static let processors =
    [Processor.current, .current.limited(to: .avx512BF16)]
    + InstructionSet.allCases.filter { $0 <= Processor.current.instructions }.map {
      Processor.current.limited(to: $0, withoutOneDNN: true)
    }

  /// Inputs around the chunks of 16, 32 and 64 elements and beyond the blocks of 512, 1024 and 2048; outputs around the
  /// tile of 4 and the panel of 64. Without optimisation the plain loops are slow.
  static let shapes =
    isOptimized ? [(1, 1), (15, 3), (33, 5), (64, 66), (130, 7), (2101, 9)] : [(1, 1), (33, 5), (130, 7)]

  @Test(arguments: processors, shapes)
  func `agrees with a plain loop`(processor: Processor, shape: (inputs: Int, outputs: Int)) {
    var numbers = SeededGenerator(UInt64(shape.inputs))
    let layer = StoredLayer(&numbers, shape.inputs, shape.outputs)
    for (element, computeType) in [
      (ElementType.f32, ComputeType.f32), (.f16, .f32), (.bf16, .f32), (.bf16, .bf16), (.f16, .bf16),
    ] {
      let (linear, weights) = layer.linear(element, computeType)
      for rows in [1, 2, 3, 7, 16, 17, 65] + (isOptimized ? [106] : []) {
        let x = numbers.floats(rows * shape.inputs)
        let compute = ComputeContext(workers: Workers(count: 2), processor: processor)
        var y = Matrix(rows: 0, columns: shape.outputs)
        compute.matmul(&y, Matrix(x, columns: shape.inputs), by: linear, .output)
        let once = y.values
        compute.matmulAdd(to: &y, Matrix(x, columns: shape.inputs), by: linear, .output)
        let twice = y.values

        let used = computeType == .bf16 ? x.map(roundedToBF16) : x
        for row in 0..<rows {
          for output in 0..<shape.outputs {
            let products = (0..<shape.inputs).map {
              Double(used[row * shape.inputs + $0]) * Double(weights[output * shape.inputs + $0])
            }
            let expected = products.reduce(Double(layer.bias[output]), +)
            // Each of inputs + 2 roundings has an error of 2^-24 of a partial sum, which is at most the sum of
            // magnitudes. The factor 2 covers the effect of errors on later partial sums.
            let magnitude = products.reduce(abs(Double(layer.bias[output]))) { $0 + abs($1) }
            let bound = Double(shape.inputs + 2) * magnitude * 0x1p-23
            let index = row * shape.outputs + output
            #expect(abs(Double(once[index]) - expected) <= bound, "\(element) \(computeType), \(rows) rows, \(index)")
            #expect(
              abs(Double(twice[index]) - 2 * expected) <= 3 * bound, "\(element) \(computeType), \(rows) rows, \(index)"
            )
          }
        }
      }
    }
  }

  /// Integer sums are exact, so all kernels give the same bits.
  @Test(arguments: processors, shapes)
  func `int8 is exact with any kernel`(processor: Processor, shape: (inputs: Int, outputs: Int)) {
    var numbers = SeededGenerator(UInt64(shape.inputs + 1))
    let layer = StoredLayer(&numbers, shape.inputs, shape.outputs)
    let (linear, weights) = layer.linear(.f32, .int8, biased: false)
    let quantized = weights.chunks(of: shape.inputs).map(quantizedRow)
    for rows in [1, 3, 16, 17, 40, 53] + (isOptimized ? [122] : []) {
      let x = numbers.floats(rows * shape.inputs, in: -3...3)
      let compute = ComputeContext(workers: Workers(count: 2), processor: processor)
      var y = Matrix(rows: 0, columns: shape.outputs)
      compute.matmul(&y, Matrix(x, columns: shape.inputs), by: linear, .output)
      let expected = x.chunks(of: shape.inputs).map(quantizedRow).flatMap { row in
        quantized.map { weight in
          let sum = zip(row.values, weight.values).reduce(0) { $0 + $1.0 * $1.1 }
          return Float(sum) * (row.scale * weight.scale)
        }
      }
      #expect(y.values == expected, "\(rows) rows")
      compute.matmulAdd(to: &y, Matrix(x, columns: shape.inputs), by: linear, .output)
      #expect(y.values == expected.map { $0 + $0 }, "\(rows) rows, added")
    }
  }

  @Test(arguments: processors, ComputeType.allCases)
  func `up to 16 rows are batch-invariant`(processor: Processor, computeType: ComputeType) {
    var numbers = SeededGenerator(5)
    let (inputs, outputs) = (1111, 70)
    let (linear, _) = StoredLayer(&numbers, inputs, outputs).linear(.f32, computeType)
    let x = numbers.floats(16 * inputs)
    let compute = ComputeContext(workers: Workers(count: 2), processor: processor)
    func result(_ rows: Range<Int>) -> [Float] {
      var y = Matrix(rows: 0, columns: outputs)
      let part = Array(x[rows.lowerBound * inputs..<rows.upperBound * inputs])
      compute.matmul(&y, Matrix(part, columns: inputs), by: linear, .output)
      return y.values
    }
    let together = result(0..<16)
    for row in 0..<16 { #expect(result(row..<row + 1) == Array(together[row * outputs..<(row + 1) * outputs])) }
    for count in [2, 3, 5, 6, 9, 15] { #expect(result(0..<count) == Array(together.prefix(count * outputs))) }
  }

  @Test(arguments: processors)
  func `int8 is batch-invariant for any number of rows`(processor: Processor) {
    var numbers = SeededGenerator(6)
    let (inputs, outputs) = (96, 70)
    let (linear, _) = StoredLayer(&numbers, inputs, outputs).linear(.bf16, .int8)
    let x = numbers.floats(50 * inputs)
    let compute = ComputeContext(workers: Workers(count: 2), processor: processor)
    let results = [1, 16, 17, 50].map { rows in
      var y = Matrix(rows: 0, columns: outputs)
      compute.matmul(&y, Matrix(Array(x.prefix(rows * inputs)), columns: inputs), by: linear, .output)
      return y.values
    }
    for result in results { #expect(result == Array(results[3].prefix(result.count))) }
  }

  @Test(arguments: processors, ComputeType.allCases)
  func `small-M outputs do not depend on the slice of the weight`(processor: Processor, computeType: ComputeType) {
    var numbers = SeededGenerator(8)
    let inputs = 77
    let weights = numbers.floats(150 * inputs)
    let x = numbers.floats(5 * inputs)
    let compute = ComputeContext(workers: Workers(count: 2), processor: processor)
    func result(_ outputs: Range<Int>) -> Matrix {
      let part = Array(weights[outputs.lowerBound * inputs..<outputs.upperBound * inputs])
      let linear = Linear(weight: Tensor(part, shape: [outputs.count, inputs]))
        .converted(to: computeType, workers: Workers(count: 1))
      var y = Matrix(rows: 0, columns: outputs.count)
      compute.matmul(&y, Matrix(x, columns: inputs), by: linear, .output)
      return y
    }
    let all = result(0..<150)
    let some = result(61..<131)
    for row in 0..<5 { #expect(some.rowValues(row) == Array(all.rowValues(row)[61..<131])) }
  }

  @Test(arguments: [Processor.current, .current.limited(withoutOneDNN: true)], ComputeType.allCases)
  func `gives the same bits for any number of threads`(processor: Processor, computeType: ComputeType) {
    var numbers = SeededGenerator(13)
    let (linear, _) = StoredLayer(&numbers, 96, 300).linear(.f16, computeType)
    for rows in [3, 70] {
      let x = numbers.floats(rows * 96)
      let results = [1, 2, 3, 8].map { threads in
        var y = Matrix(rows: 0, columns: 300)
        ComputeContext(workers: Workers(count: threads), processor: processor)
          .matmul(&y, Matrix(x, columns: 96), by: linear, .output)
        return y.values
      }
      for result in results { #expect(result == results[0]) }
    }
  }
}

/// A random layer in every element type of a checkpoint.
private struct StoredLayer {
  let inputs: Int
  let outputs: Int
  let bias: [Float]
  private let values: [Float]

  init(_ numbers: inout SeededGenerator, _ inputs: Int, _ outputs: Int) {
    (self.inputs, self.outputs) = (inputs, outputs)
    values = numbers.floats(inputs * outputs)
    bias = numbers.floats(outputs)
  }

  /// The layer with its weight at an odd address, and the weight values that its matmuls use, `[outputs, inputs]`.
  func linear(_ element: ElementType, _ computeType: ComputeType, biased: Bool = true) -> (Linear, [Float]) {
    var bytes = [UInt8(0)]
    for value in values {
      let bits: UInt32
      switch element {
      case .f32: bits = value.bitPattern
      case .f16: bits = UInt32(Float16(value).bitPattern)
      case .bf16: bits = value.bitPattern >> 16
      }
      for i in 0..<element.byteCount { bytes.append(UInt8(truncatingIfNeeded: bits >> (8 * i))) }
    }
    let tensor = Tensor(SharedBytes(copying: bytes), offset: 1, shape: [outputs, inputs], element: element)
    let linear = Linear(weight: tensor, bias: biased ? bias : nil)
      .converted(to: computeType, workers: Workers(count: 2))
    return (linear, computeType == .bf16 ? tensor.floats().map(roundedToBF16) : tensor.floats())
  }
}

/// Rounds to 8 significant bits, to nearest, ties to even.
private func roundedToBF16(_ x: Float) -> Float {
  guard x.isNormal else { return x }
  let unit = Float(sign: .plus, exponent: x.exponent - 7, significand: 1)
  return (x / unit).rounded(.toNearestOrEven) * unit
}

/// Symmetric int8 quantization of one row.
private func quantizedRow(_ x: [Float]) -> (values: [Int], scale: Float) {
  let largest = x.map(abs).max() ?? 0
  let inverse = 127 / largest
  return (x.map { Int(($0 * inverse).rounded(.toNearestOrEven)) }, largest / 127)
}

extension Array {
  fileprivate func chunks(of size: Int) -> [[Element]] {
    stride(from: 0, to: count, by: size).map { Array(self[$0..<$0 + size]) }
  }
}
