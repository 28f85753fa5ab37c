import Kernels
import TestSupport
import Testing

/// Matmuls in AMX tiles, in int8 and bf16.
@Suite(.enabled(if: InstructionSet.avx512AMX.isAvailable, "needs AMX"))
struct TileMatmulTests {
  /// Rows, inputs and outputs: parts of tiles, pairs and blocks, and one more.
  private static let sizes =
    isOptimized
    ? [
      (1, 1, 1), (3, 64, 16), (15, 63, 15), (16, 65, 17), (17, 64, 31), (31, 130, 32), (32, 128, 33), (33, 200, 70),
      (48, 64, 128), (49, 192, 129), (64, 4096, 40), (65, 4097, 33), (40, 8300, 48), (512, 66, 34), (513, 4160, 34),
      (545, 70, 300), (1041, 4100, 64),
    ] : [(1, 1, 1), (17, 64, 31), (33, 130, 70)]

  @Test(arguments: sizes)
  func `int8 agrees with portable kernels bit for bit`(rows: Int, inputs: Int, outputs: Int) {
    var numbers = SeededGenerator(UInt64(rows * inputs + outputs))
    let workers = Workers(count: 2)
    let bias = numbers.floats(outputs)
    let weight = Tensor(numbers.floats(outputs * inputs), shape: [outputs, inputs])
    let linear = Linear(weight: weight, bias: bias).converted(to: .int8, workers: workers)
    let x = Matrix(numbers.floats(rows * inputs), columns: inputs)
    let residual = numbers.floats(rows * outputs)
    let results = [Processor.current, .current.limited(to: .portable, withoutOneDNN: true)].map { processor in
      let compute = ComputeContext(workers: workers, processor: processor)
      var plain = Matrix(rows: 0, columns: outputs)
      var activated = Matrix(rows: 0, columns: outputs)
      var sum = Matrix(residual, columns: outputs)
      compute.matmul(&plain, x, by: linear, .output, forcesLargeKernels: true)
      compute.matmul(&activated, x, by: linear, .output, activation: .quickGELU, forcesLargeKernels: true)
      compute.matmulAdd(to: &sum, x, by: linear, .output, forcesLargeKernels: true)
      return [plain.values, activated.values, sum.values]
    }
    #expect(results[0] == results[1])
  }

  @Test(arguments: sizes)
  func `bf16 agrees with plain loops`(rows: Int, inputs: Int, outputs: Int) {
    // Sums of powers of two are exact in any order.
    var numbers = SeededGenerator(UInt64(rows * inputs + outputs))
    func powers(_ count: Int) -> [Float] { numbers.floats(count).map { $0 < 0 ? -0.5 : $0 < 0.5 ? 1 : 2 } }
    let (x, w, bias, residual) = (
      powers(rows * inputs), powers(outputs * inputs), powers(outputs), powers(rows * outputs)
    )
    let linear = Linear(weight: Tensor(w, shape: [outputs, inputs]), bias: bias)
      .converted(to: .bf16, workers: Workers(count: 2))
    let compute = ComputeContext(workers: Workers(count: 2))
    var plain = Matrix(rows: 0, columns: outputs)
    var sum = Matrix(residual, columns: outputs)
    compute.matmul(&plain, Matrix(x, columns: inputs), by: linear, .output, forcesLargeKernels: true)
    compute.matmulAdd(to: &sum, Matrix(x, columns: inputs), by: linear, .output, forcesLargeKernels: true)
    let (found, added) = (plain.values, sum.values)
    // All values of the first and the last row, and of the first and the last column.
    for row in 0..<rows {
      for column in row == 0 || row == rows - 1 ? Array(0..<outputs) : [0, outputs - 1] {
        let product = (0..<inputs).reduce(Float(0)) { $0 + x[row * inputs + $1] * w[column * inputs + $1] }
        let place = row * outputs + column
        #expect(found[place] == product + bias[column] && added[place] == residual[place] + product + bias[column])
      }
    }
  }

  @Test(arguments: [ComputeType.int8, .bf16])
  func `the bits of a row do not depend on the other rows`(computeType: ComputeType) {
    var numbers = SeededGenerator(3)
    let (workers, inputs, outputs) = (Workers(count: 2), 4500, 96)
    let linear = Linear(weight: Tensor(numbers.floats(outputs * inputs), shape: [outputs, inputs]))
      .converted(to: computeType, workers: workers)
    let rows = numbers.floats(100 * inputs)
    func matmul(_ range: Range<Int>) -> [Float] {
      var y = Matrix(rows: 0, columns: outputs)
      let part = Array(rows[range.lowerBound * inputs..<range.upperBound * inputs])
      ComputeContext(workers: workers).matmul(
        &y, Matrix(part, columns: inputs), by: linear, .output, forcesLargeKernels: true)
      return y.values
    }
    let all = matmul(0..<100)
    for range in [0..<1, 3..<19, 20..<37, 64..<97] {
      #expect(matmul(range) == Array(all[range.lowerBound * outputs..<range.upperBound * outputs]))
    }
  }
}
