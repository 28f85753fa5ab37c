import Kernels
import Storage
import TestSupport
import Testing

@Suite struct ConversionTests {
  @Test func `rounds to bf16, to nearest, ties to even`() {
    // One unit in the last place of 1 is 2^-7.
    let cases: [(Float, Float)] = [
      (1, 1), (1 + 0x1p-8, 1), (1 + 0x1.8p-7, 1 + 0x1p-6), (1 + 0x1.0002p-8, 1 + 0x1p-7),
      (-1 - 0x1.8p-7, -1 - 0x1p-6),
      (0, 0), (-0.0, -0.0), (.infinity, .infinity), (-.infinity, -.infinity), (.greatestFiniteMagnitude, .infinity),
      (0x1p-133, 0x1p-133), (0x1p-134, 0), (0x1.8p-133, 0x1p-132),
    ]
    let rounded = Tensor(cases.map(\.0), shape: [1, cases.count]).rounded(workers: Workers(count: 1))
    #expect(rounded.element == .bf16)
    for (found, expected) in zip(rounded.floats(), cases.map(\.1)) {
      #expect(found.bitPattern == expected.bitPattern, "\(found), expected \(expected)")
    }
  }

  @Test func `every NaN stays NaN in bf16`() {
    let bits: [UInt32] = [0x7F80_0001, 0x7FFF_FFFF, 0xFF80_0001, 0xFFFF_FFFF, 0x7FC0_0000]
    let rounded = Tensor(bits.map(Float.init(bitPattern:)), shape: [bits.count]).rounded(workers: Workers(count: 1))
    for value in rounded.floats() { #expect(value.isNaN) }
  }

  /// From 11 to 8 significant bits: half a unit in the last place is 2^-8 of the power of two below the value.
  @Test func `rounds every finite f16 within half a unit`() {
    let all = (0...UInt16.max).filter { Float16(bitPattern: $0).isFinite }
    let halves = Tensor(SharedBytes(copying: all), shape: [8, all.count / 8], element: .f16)
    let found = halves.rounded(workers: Workers(count: 2)).floats()
    #expect(found.count == all.count)
    for (bits, value) in zip(all, found) {
      let half = Float(Float16(bitPattern: bits))
      let halfUnit = half == 0 ? 0 : Float(sign: .plus, exponent: half.exponent - 8, significand: 1)
      #expect(abs(value - half) <= halfUnit, "\(half) became \(value)")
    }
  }

  @Test(arguments: [ElementType.f32, .f16, .bf16])
  func `int8 error is at most half a step`(element: ElementType) {
    var numbers = SeededGenerator(3)
    let (rows, columns) = (9, 131)
    let values = numbers.floats(rows * columns, in: -4...4)
    let tensor: Tensor
    switch element {
    case .f32: tensor = Tensor(values, shape: [rows, columns])
    case .f16:
      let bits = values.map { Float16($0).bitPattern }
      tensor = Tensor(SharedBytes(copying: bits), shape: [rows, columns], element: .f16)
    case .bf16: tensor = Tensor(values, shape: [rows, columns]).rounded(workers: Workers(count: 1))
    }
    let weights = Int8Weights(quantizing: tensor, workers: Workers(count: 2))
    let (stored, found) = (tensor.floats(), weights.floats())
    for row in 0..<rows {
      let part = row * columns..<(row + 1) * columns
      let largest = stored[part].map(abs).max() ?? 0
      // Half a step, plus the roundings of the scale, its inverse and two multiplications, each 2^-24 of 127 steps.
      let bound = Double(largest) / 127 * (0.5 + 4 * 127 * 0x1p-24)
      for i in part { #expect(abs(Double(found[i]) - Double(stored[i])) <= bound) }
      #expect(part.contains { abs(found[$0]) >= largest * (1 - 0x1p-20) }, "the largest value keeps its magnitude")
    }
    #expect(weights.byteCount == rows * (columns + 8))
  }

  @Test func `rows of zeros and of tiny values become zeros`() {
    let values: [Float] = [0, 0, 0, 0x1p-130, -0x1p-140, 0x1p-149]
    let weights = Int8Weights(quantizing: Tensor(values, shape: [2, 3]), workers: Workers(count: 1))
    #expect(weights.floats() == [0, 0, 0, 0, 0, 0])
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity], ComputeType.allCases)
  func `NaN and infinities stay in their row`(bad: Float, computeType: ComputeType) {
    let linear = Linear(weight: Tensor([1, 2, 3, 4, -5, 6], shape: [2, 3]))
      .converted(to: computeType, workers: Workers(count: 1))
    var y = Matrix(rows: 0, columns: 2)
    let x = Matrix([1, 1, 1, 1, bad, 1], columns: 3)
    ComputeContext(workers: Workers(count: 1)).matmul(&y, x, by: linear, .output)
    #expect(y.rowValues(0).allSatisfy { $0.isFinite })
    #expect(y.rowValues(1).allSatisfy { !$0.isFinite })
  }

  @Test func `rows too long for 32-bit sums stay f32`() {
    let count = Int8Weights.maxInputCount + 1
    let linear = Linear(weight: Tensor([Float](repeating: 1, count: count), shape: [1, count]))
    #expect(linear.converted(to: .int8, workers: Workers(count: 1)).computeType == .f32)
  }

  /// The largest possible sums: 127 · 127 · 65,536, computed as 255 · 127 · 65,536 < 2^31.
  @Test func `rows of the maximum length do not overflow`() {
    let count = Int8Weights.maxInputCount
    let ones = [Float](repeating: 127, count: count)
    let linear = Linear(weight: Tensor(ones, shape: [1, count])).converted(to: .int8, workers: Workers(count: 1))
    for processor in ComputeTypeTests.processors {
      var y = Matrix(rows: 0, columns: 1)
      ComputeContext(workers: Workers(count: 1), processor: processor)
        .matmul(&y, Matrix(ones, columns: count), by: linear, .output)
      #expect(y.values == [Float(127 * 127 * count)])
    }
  }
}
