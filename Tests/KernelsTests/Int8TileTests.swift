import Kernels
import TestSupport
import Testing

/// The int8 matmul in AMX tiles gives the bits of the portable kernels.
@Suite(.enabled(if: InstructionSet.avx512AMX.isAvailable, "needs AMX"))
struct Int8TileTests {
  /// Rows, inputs and outputs: parts of tiles, pairs and blocks, and one more.
  private static let sizes =
    isOptimized
    ? [
      (1, 1, 1), (3, 64, 16), (15, 63, 15), (16, 65, 17), (17, 64, 31), (31, 130, 32), (32, 128, 33), (33, 200, 70),
      (48, 64, 128), (49, 192, 129), (64, 4096, 40), (65, 4097, 33), (40, 8300, 48), (512, 66, 34), (513, 4160, 34),
      (545, 70, 300), (1041, 4100, 64),
    ] : [(1, 1, 1), (17, 64, 31), (33, 130, 70)]

  @Test(arguments: sizes)
  func `agrees with portable kernels bit for bit`(rows: Int, inputs: Int, outputs: Int) {
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

  @Test func `the bits of a row do not depend on the other rows`() {
    var numbers = SeededGenerator(3)
    let workers = Workers(count: 2)
    let linear = Linear(weight: Tensor(numbers.floats(96 * 200), shape: [96, 200])).converted(
      to: .int8, workers: workers)
    let rows = numbers.floats(100 * 200)
    func matmul(_ range: Range<Int>) -> [Float] {
      var y = Matrix(rows: 0, columns: 96)
      ComputeContext(workers: workers).matmul(
        &y, Matrix(Array(rows[range.lowerBound * 200..<range.upperBound * 200]), columns: 200), by: linear, .output)
      return y.values
    }
    let all = matmul(0..<100)
    for range in [0..<1, 3..<19, 20..<37, 64..<97] {
      #expect(matmul(range) == Array(all[range.lowerBound * 96..<range.upperBound * 96]))
    }
  }
}
