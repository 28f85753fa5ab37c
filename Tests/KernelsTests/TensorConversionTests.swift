import Kernels
import Storage
import TestSupport
import Testing

/// Stored tensors in another type.
@Suite struct TensorConversionTests {
  private static let workers = Workers(count: 2)

  /// Values converted to f16, as bits.
  private static func halves(_ values: [Float]) -> [UInt16] {
    let tensor = Tensor(values, shape: [1, values.count]).converted(to: .floats(.f16), workers: workers)
    return tensor.storedBytes.copy(0..<2 * values.count).pairs
  }

  private static func expectHalves(_ values: [Float], sourceLocation: SourceLocation = #_sourceLocation) {
    let found = halves(values)
    let wrong = zip(values, found).filter { value, bits in
      value.isNaN ? !Float16(bitPattern: bits).isNaN : Float16(value).bitPattern != bits
    }
    #expect(wrong.isEmpty, "\(wrong.prefix(5).map { "\($0.0): \($0.1)" })", sourceLocation: sourceLocation)
  }

  @Test func `every f16 keeps its bits`() {
    let all = (0...UInt16.max).filter { !Float16(bitPattern: $0).isNaN }
    #expect(Self.halves(all.map { Float(Float16(bitPattern: $0)) }) == all)
  }

  /// Around the middle between any two neighbours, where rounding decides.
  @Test func `rounds to f16, to nearest, ties to even`() {
    var values: [Float] = []
    for bits in UInt16(0)..<0x7C00 {
      let (lower, upper) = (Float(Float16(bitPattern: bits)), Float(Float16(bitPattern: bits + 1)))
      let middle = upper.isFinite ? (lower + upper) / 2 : 65_520
      values += [middle.nextDown, middle, middle.nextUp, -middle.nextDown, -middle, -middle.nextUp]
    }
    Self.expectHalves(values)
  }

  @Test func `rounds any bits to f16 as Float16 does`() {
    var numbers = SeededGenerator(17)
    let count = isOptimized ? 2_000_000 : 20_000
    Self.expectHalves((0..<count).map { _ in Float(bitPattern: UInt32(truncatingIfNeeded: numbers.next())) })
    Self.expectHalves([
      0, -0.0, .infinity, -.infinity, .greatestFiniteMagnitude, 65_504, 65_519.996, 65_520, -65_520, 0x1p-24, 0x1p-25,
      0x1.000002p-25, 0x1p-26, 0x1.ffcp-15, 0x1.ffep-15, 0x1.fffffep-15, 0x1p-14, .leastNonzeroMagnitude,
    ])
  }

  @Test func `every NaN stays NaN in f16, with its sign`() {
    let patterns: [UInt32] = [0x7F80_0001, 0x7FFF_FFFF, 0xFF80_0001, 0xFFFF_FFFF, 0x7FC0_0000, 0x7F80_2000]
    for (bits, half) in zip(patterns, Self.halves(patterns.map(Float.init(bitPattern:)))) {
      #expect(Float16(bitPattern: half).isNaN && half >> 15 == UInt16(bits >> 31))
    }
  }

  @Test(arguments: [ElementType.f32, .f16, .bf16], [ElementType.f32, .f16, .bf16])
  func `converts between floats`(source: ElementType, target: ElementType) {
    var numbers = SeededGenerator(5)
    let values = numbers.floats(7 * 33, in: -2...2)
    let stored = Tensor(values, shape: [7, 33]).converted(to: .floats(source), workers: Self.workers)
    let converted = stored.converted(to: .floats(target), workers: Self.workers)
    #expect(converted.shape == [7, 33] && converted.type == .floats(target))
    let expected = stored.floats().map { value -> Float in
      switch target {
      case .f32: value
      case .f16: Float(Float16(value))
      case .bf16: Self.roundedToBF16(value)
      }
    }
    #expect(converted.floats().map(\.bitPattern) == expected.map(\.bitPattern))
  }

  private static func roundedToBF16(_ value: Float) -> Float {
    let isOdd = (value.bitPattern >> 16) & 1
    return Float(bitPattern: (value.bitPattern + 0x7FFF + isOdd) & 0xFFFF_0000)
  }

  /// The step of values from -1 to 1 in blocks of a type.
  ///
  /// In Q4_0 a scale is 1/8 of the largest magnitude; in the others all steps span the values.
  private static let steps: [(type: BlockType, step: Double)] = [
    (.q4zero, 1.0 / 8), (.q4K, 2.0 / 15), (.q5K, 2.0 / 31), (.q6K, 2.0 / 63), (.q8zero, 2.0 / 254),
  ]

  /// The error is spread evenly over half a step, and up to a step at the ends of the range.
  @Test(arguments: steps)
  func `converts floats of every type to blocks`(type: BlockType, step: Double) {
    var numbers = SeededGenerator(11)
    let (rows, columns) = (5, 512)
    let values = numbers.floats(rows * columns)
    let exact = Tensor(values, shape: [rows, columns])
    for element in [ElementType.f32, .f16, .bf16] {
      let stored = exact.converted(to: .floats(element), workers: Self.workers)
      let blocks = stored.converted(to: .blocks(type), workers: Self.workers)
      #expect(blocks.type == .blocks(type) && blocks.shape == [rows, columns])
      #expect(blocks.byteCount == rows * columns / type.valuesPerBlock * type.bytesPerBlock)
      let difference = Difference.absolute(blocks.floats(), stored.floats())
      #expect(difference.largest <= 1.05 * step, "\(difference)")
      let errors = zip(blocks.floats(), stored.floats()).map { Double($0 - $1) }
      let meanSquare = errors.map { $0 * $0 }.reduce(0, +) / Double(errors.count)
      #expect(meanSquare.squareRoot() <= 1.1 * step / 12.0.squareRoot())
    }
  }

  @Test(arguments: steps)
  func `a block with a value that is not finite has no numbers`(type: BlockType, step: Double) {
    var numbers = SeededGenerator(19)
    let size = type.valuesPerBlock
    for value in [Float.nan, .infinity, -.infinity] {
      var values = numbers.floats(4 * size)
      values[size + 3] = value
      let tensor = Tensor(values, shape: [2, 2 * size])
      let converted = tensor.converted(to: .blocks(type), workers: Self.workers).floats()
      for (i, value) in converted.enumerated() { #expect(value.isNaN == (i / size == 1), "\(i)") }
      #expect(!tensor.largestMagnitude(workers: Self.workers).isFinite)
    }
    #expect(Tensor([1, -3, 2, 0], shape: [2, 2]).largestMagnitude(workers: Self.workers) == 3)
  }

  @Test func `converts blocks to floats and to other blocks`() {
    var numbers = SeededGenerator(13)
    let blocks = Tensor(numbers.floats(3 * 256), shape: [3, 256])
      .converted(to: .blocks(.q4K), workers: Self.workers)
    #expect(blocks.converted(to: .floats(.f32), workers: Self.workers).floats() == blocks.floats())
    let halves = blocks.converted(to: .floats(.f16), workers: Self.workers).floats()
    #expect(halves == blocks.floats().map { Float(Float16($0)) })
    let eight = blocks.converted(to: .blocks(.q8zero), workers: Self.workers)
    // Half a step, or up to a step at the ends of the range.
    let step = Double(blocks.floats().map(abs).max() ?? 0) / 127
    #expect(Difference.absolute(eight.floats(), blocks.floats()).largest <= step)
  }

  @Test(arguments: [StoredType.floats(.f16), .blocks(.q4K), .blocks(.q8zero)])
  func `any number of threads gives the same bytes, and the same type no copy`(type: StoredType) {
    var numbers = SeededGenerator(19)
    let tensor = Tensor(numbers.floats(9 * 256), shape: [9, 256])
    let one = tensor.converted(to: type, workers: Workers(count: 1))
    let two = tensor.converted(to: type, workers: Self.workers)
    #expect(one.storedBytes.copy(0..<one.byteCount) == two.storedBytes.copy(0..<two.byteCount))
    let same = one.converted(to: type, workers: Self.workers)
    #expect(unsafe same.storedBytes.address(of: 0) == one.storedBytes.address(of: 0))
  }

  @Test func `refuses rows that are not whole blocks`() async {
    await #expect(processExitsWith: .failure) {
      _ = Tensor([Float](repeating: 1, count: 48), shape: [1, 48])
        .converted(to: .blocks(.q8zero), workers: Workers(count: 1))
    }
  }
}

extension [UInt8] {
  /// Little-endian 16-bit numbers.
  fileprivate var pairs: [UInt16] {
    stride(from: 0, to: count, by: 2).map { UInt16(self[$0]) | UInt16(self[$0 + 1]) << 8 }
  }
}
