import Kernels
import Storage
import TestSupport
import Testing

@Suite struct MatmulTests {
  struct Shape: Sendable, CustomTestStringConvertible {
    var rows: Int
    var inputs: Int
    var outputs: Int
    var testDescription: String { "\(rows)×\(inputs)→\(outputs)" }
  }

  /// Outputs around the panel width of 64, with a single row and with several.
  static let shapes = [
    Shape(rows: 1, inputs: 1, outputs: 1), Shape(rows: 1, inputs: 33, outputs: 65),
    Shape(rows: 2, inputs: 64, outputs: 63),
    Shape(rows: 7, inputs: 100, outputs: 64), Shape(rows: 3, inputs: 17, outputs: 2050),
  ]

  @Test(arguments: shapes)
  func `agrees with a plain loop`(shape: Shape) {
    var numbers = SeededGenerator(7)
    let x = numbers.floats(shape.rows * shape.inputs)
    let weight = numbers.floats(shape.outputs * shape.inputs)
    let bias = numbers.floats(shape.outputs)
    let linear = Linear(weight: Tensor(weight, shape: [shape.outputs, shape.inputs]), bias: bias)
    let compute = ComputeContext(workers: Workers(count: 2))
    var y = Matrix(rows: 0, columns: shape.outputs)
    compute.matmul(&y, Matrix(x, columns: shape.inputs), by: linear, .output)
    let once = y.values
    compute.matmulAdd(to: &y, Matrix(x, columns: shape.inputs), by: linear, .output)
    let twice = y.values

    // Sums of `inputs` products of values up to 1, each rounded to 24 bits.
    let bound = Double(shape.inputs + 2) * Double(shape.inputs + 1) * 0x1p-23
    for row in 0..<shape.rows {
      for column in 0..<shape.outputs {
        let products = (0..<shape.inputs).map {
          Double(x[row * shape.inputs + $0]) * Double(weight[column * shape.inputs + $0])
        }
        let expected = products.reduce(Double(bias[column]), +)
        let index = row * shape.outputs + column
        #expect(abs(Double(once[index]) - expected) <= bound)
        #expect(abs(Double(twice[index]) - 2 * expected) <= 2 * bound)
      }
    }
    #expect(compute.ledger.total(.encode) == 2 * shape.rows * shape.inputs * shape.outputs)
  }

  @Test(arguments: [ElementType.f16, .bf16])
  func `f16 and bf16 weights give the same bits as widened weights`(element: ElementType) {
    var numbers = SeededGenerator(11)
    let (rows, inputs, outputs) = (5, 48, 130)
    let bits = (0..<inputs * outputs).map { _ in
      element == .f16
        ? Float16(numbers.floats(1)[0]).bitPattern : UInt16(truncatingIfNeeded: numbers.floats(1)[0].bitPattern >> 16)
    }
    let stored = Tensor(SharedBytes(copying: bits), shape: [outputs, inputs], element: element)
    let widened = Tensor(stored.floats(), shape: [outputs, inputs])
    let x = Matrix(numbers.floats(rows * inputs), columns: inputs)
    let compute = ComputeContext(workers: Workers(count: 2))
    var y = Matrix(rows: 0, columns: outputs)
    var z = Matrix(rows: 0, columns: outputs)
    compute.matmul(&y, x, by: Linear(weight: stored), .output)
    compute.matmul(&z, x, by: Linear(weight: widened), .output)
    #expect(y.values == z.values)
  }

  @Test func `reads an f32 weight at an odd address`() {
    let bytes =
      [UInt8(0)]
      + ([1.5, -2, 3, 4] as [Float]).flatMap { value in
        littleEndianBytes(value)
      }
    let tensor = Tensor(SharedBytes(copying: bytes), offset: 1, shape: [2, 2], element: .f32)
    var y = Matrix(rows: 0, columns: 2)
    ComputeContext(workers: Workers(count: 1)).matmul(
      &y, Matrix([1, 10], columns: 2), by: Linear(weight: tensor), .output)
    #expect(y.values == [-18.5, 43])
  }

  @Test(arguments: [17, 70], [ElementType.f32, .bf16])
  func `many rows in f32 need no OpenBLAS`(rows: Int, element: ElementType) {
    var numbers = SeededGenerator(17)
    let (inputs, outputs) = (96, 2050)
    let stored = Tensor(numbers.floats(inputs * outputs), shape: [outputs, inputs])
    let weight = element == .bf16 ? stored.rounded(workers: Workers(count: 1)) : stored
    let x = Matrix(numbers.floats(rows * inputs), columns: inputs)
    func product(_ processor: Processor) -> [Float] {
      var y = Matrix(rows: 0, columns: outputs)
      let compute = ComputeContext(workers: Workers(count: 2), processor: processor)
      compute.matmul(&y, x, by: Linear(weight: weight), .output)
      compute.matmulAdd(to: &y, x, by: Linear(weight: weight), .output)
      return y.values
    }
    let found = product(.current.limited(withoutOpenBLAS: true))
    // Twice the sum of 96 products of values up to 1, each rounded to 24 bits.
    expectClose(found, product(.current), Double(2 * inputs * inputs) * 0x1p-23, "without OpenBLAS")
  }

  @Test func `gives the same bits for any number of threads`() {
    var numbers = SeededGenerator(13)
    let linear = Linear(weight: Tensor(numbers.floats(2304 * 96), shape: [2304, 96]))
    let x = numbers.floats(70 * 96)
    let results = [1, 2, 3, 8].map { threads in
      var y = Matrix(rows: 0, columns: 2304)
      ComputeContext(workers: Workers(count: threads, processors: threads)).matmul(
        &y, Matrix(x, columns: 96), by: linear, .output)
      return y.values
    }
    for result in results { #expect(result == results[0]) }
  }

  @Test func `refuses mismatched shapes`() async {
    await #expect(processExitsWith: .failure) {
      var y = Matrix(rows: 0, columns: 3)
      let linear = Linear(weight: Tensor([Float](repeating: 0, count: 12), shape: [3, 4]))
      ComputeContext(workers: Workers(count: 1)).matmul(&y, Matrix(rows: 2, columns: 5), by: linear, .output)
    }
  }

  private func littleEndianBytes(_ value: Float) -> [UInt8] {
    [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: value.bitPattern >> $0) }
  }
}
