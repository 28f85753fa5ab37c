import Kernels
import Storage
import TestSupport
import Testing

/// Linear layers whose weights are packed blocks.
@Suite struct BlockMatmulTests {
  private static func linear(_ type: BlockType, inputs: Int, outputs: Int) -> Linear {
    var numbers = SeededGenerator(UInt64(inputs + outputs))
    let weight = Tensor(numbers.floats(outputs * inputs), shape: [outputs, inputs])
    return Linear(weight: weight, bias: numbers.floats(outputs)).converted(
      to: .blocks, blockType: type, workers: Workers(count: 2))
  }

  private static func blocks(_ linear: Linear) throws -> BlockWeights {
    guard case .blocks(let weights) = linear.weight else { throw TestError("not converted") }
    return weights
  }

  private struct TestError: Error {
    var reason: String
    init(_ reason: String) { self.reason = reason }
  }

  private static func values(_ linear: Linear, _ x: [Float], processor: Processor = .current, threads: Int = 2)
    -> [Float]
  {
    var y = Matrix(rows: 0, columns: linear.outputSize)
    let compute = ComputeContext(workers: Workers(count: threads), processor: processor)
    compute.matmul(&y, Matrix(x, columns: linear.inputSize), by: linear, .output)
    return y.values
  }

  /// Activations are rounded to 1/127 of the largest of a block, for any number of rows.
  @Test(
    arguments: BlockWeights.types,
    [(1, 256, 16), (1, 512, 33), (5, 768, 130), (16, 256, 65), (17, 512, 200), (70, 256, 97)])
  func `agrees with the dequantized weights`(type: BlockType, shape: (rows: Int, inputs: Int, outputs: Int)) throws {
    let linear = Self.linear(type, inputs: shape.inputs, outputs: shape.outputs)
    let weights = try Self.blocks(linear)
    #expect(weights.type == type)
    var numbers = SeededGenerator(5)
    let x = numbers.floats(shape.rows * shape.inputs)
    let found = Self.values(linear, x)
    let exact = Self.values(Linear(weight: weights.stored(), bias: linear.bias), x)
    let (error, norm) = zip(found, exact).reduce((0.0, 0.0)) { sums, pair in
      (sums.0 + Double((pair.0 - pair.1) * (pair.0 - pair.1)), sums.1 + Double(pair.1 * pair.1))
    }
    // Uniform values up to 1 in steps of 1/127: a root mean square of 1/127/√12 beside 1/√3.
    let rounding = 1.0 / 127 / 2
    #expect((error / norm).squareRoot() <= 1.5 * rounding)
  }

  @Test(arguments: BlockWeights.types)
  func `a row has the same bits among any number of rows, and with any number of threads`(type: BlockType) {
    let (inputs, outputs) = (512, 150)
    let linear = Self.linear(type, inputs: inputs, outputs: outputs)
    var numbers = SeededGenerator(9)
    let x = numbers.floats(40 * inputs, in: -3...3)
    let alone = (0..<40).flatMap { row in
      Self.values(linear, Array(x[row * inputs..<(row + 1) * inputs]), threads: 1)
    }
    for rows in [2, 3, 7, 8, 9, 16, 17, 40] {
      #expect(
        Self.values(linear, Array(x.prefix(rows * inputs))) == Array(alone.prefix(rows * outputs)), "\(rows) rows")
    }
  }

  /// Their activations have scales for different numbers of values.
  @Test func `layers of different block sizes take the same input`() {
    let (q4K, q8) = (Self.linear(.q4K, inputs: 512, outputs: 40), Self.linear(.q8zero, inputs: 512, outputs: 24))
    var numbers = SeededGenerator(11)
    let x = numbers.floats(3 * 512)
    let compute = ComputeContext(workers: Workers(count: 2))
    var y = Matrix(rows: 0, columns: 40)
    var z = Matrix(rows: 0, columns: 24)
    compute.matmul(&y, &z, Matrix(x, columns: 512), by: q4K, q8, (.queries, .keys))
    #expect(y.values == Self.values(q4K, x) && z.values == Self.values(q8, x))
    #expect(compute.ledger.total(.encode) == 3 * 512 * 64)
  }

  @Test(arguments: InstructionSet.allCases.filter(\.isAvailable), BlockWeights.types)
  func `every instruction set agrees`(set: InstructionSet, type: BlockType) {
    let linear = Self.linear(type, inputs: 512, outputs: 40)
    var numbers = SeededGenerator(13)
    for rows in [1, 3, 16, 20] {
      let x = numbers.floats(rows * 512)
      let (found, expected) = (
        Self.values(linear, x, processor: .current.limited(to: set, withoutOneDNN: true)), Self.values(linear, x)
      )
      // Integer sums are equal; the roundings of two blocks of 256 inputs and of the scales differ.
      for (a, b) in zip(found, expected) { #expect(abs(a - b) <= 1e-4 * max(1, abs(b))) }
    }
  }

  @Test func `rows that are not whole blocks get another type or stay as stored`() throws {
    #expect(try Self.blocks(Self.linear(.q4K, inputs: 64, outputs: 8)).type == .q4zero)
    #expect(try Self.blocks(Self.linear(.q6K, inputs: 96, outputs: 8)).type == .q8zero)
    #expect(Self.linear(.q4K, inputs: 48, outputs: 8).computeType == .f32)
  }

  @Test(arguments: BlockType.allCases)
  func `stored blocks of any type are computed`(type: BlockType) throws {
    var numbers = SeededGenerator(21)
    let (inputs, outputs) = (512, 20)
    // Any codes, with scales of moderate size: the half 0x2C66 is 0.0687 in every place that a scale may have.
    var bytes = (0..<outputs * inputs / type.valuesPerBlock * type.bytesPerBlock).map { _ in
      UInt8(truncatingIfNeeded: numbers.next())
    }
    for start in stride(from: 0, to: bytes.count, by: type.bytesPerBlock) {
      for place in Self.scalePlaces(type) {
        bytes.replaceSubrange(start + place..<start + place + 2, with: [0x66, 0x2C])
      }
    }
    let stored = Linear(
      weight: Tensor(SharedBytes(copying: bytes), shape: [outputs, inputs], type: .blocks(type)))
    let packed = stored.converted(to: .blocks, workers: Workers(count: 2))
    #expect(try Self.blocks(packed).type == (type.conversion ?? type))
    let x = numbers.floats(2 * inputs)
    let (found, exact) = (Self.values(packed, x), Self.values(stored, x))
    let largest = exact.map(abs).max() ?? 0
    #expect(largest > 0)
    for (a, b) in zip(found, exact) { #expect(abs(a - b) <= 0.02 * largest, "\(a), expected \(b)") }
  }

  /// The offsets of a block's f16 scales.
  private static func scalePlaces(_ type: BlockType) -> [Int] {
    switch type {
    case .q4zero, .q5zero, .q8zero, .iq4NL, .iq4XS: [0]
    case .q4one, .q5one, .q4K, .q5K: [0, 2]
    case .q2K: [80, 82]
    case .q3K: [108]
    case .q6K: [208]
    }
  }
}
