import CKernels
import TestSupport
import Testing

/// The C kernels for block-quantized weights, compared with the stored definition.
@Suite struct BlockKernelTests {
  @Test(arguments: StoredBlocks.names)
  func `stored blocks decode to the reference bits`(name: String, type: UInt32) throws {
    let golden = try Goldens.tensors("gguf/blocks/\(name).safetensors")
    let expected = try golden.floats("f32")
    let found = dequantized(pdrop_block_type(rawValue: type), try golden.bytes("raw"), count: expected.count)
    #expect(found.map(\.bitPattern) == expected.map(\.bitPattern))
  }

  @Test(arguments: [("q4_0", 2), ("q5_0", 6), ("q8_0", 8), ("iq4_nl", 20)] as [(String, UInt32)])
  func `multiples of a scale become Q8_0 without a change`(name: String, type: UInt32) throws {
    let golden = try Goldens.tensors("gguf/blocks/\(name).safetensors")
    let expected = try golden.floats("f32")
    let stored = try golden.bytes("raw")
    var bytes = [UInt8](repeating: 0, count: expected.count / 32 * 34)
    unsafe pdrop_convert_blocks_to_q8_0(pdrop_block_type(rawValue: type), stored, expected.count, &bytes)
    #expect(dequantized(pdrop_q8_0, bytes, count: expected.count) == expected)
  }

  @Test(arguments: StoredBlocks.packed, [1, 15, 16])
  func `packing and unpacking keep every bit`(type: StoredBlocks.Kind, rows: Int) {
    var numbers = SeededGenerator(3)
    for inputs in type.widths {
      let stored = StoredBlocks(type, rows: rows, inputs: inputs, &numbers)
      let group = stored.groups()
      var back = [UInt8](repeating: 0, count: stored.bytes.count)
      unsafe pdrop_unpack_group(type.code, group.start, Int32(rows), inputs, &back, stored.rowBytes)
      #expect(back == stored.bytes, "\(inputs) inputs")
    }
  }

  /// Every instruction set, 1 to 16 rows, widths with partial spans, and outputs with a partial group.
  @Test(arguments: StoredBlocks.packed)
  func `GEMM agrees with the definition and ignores other rows`(type: StoredBlocks.Kind) {
    var numbers = SeededGenerator(5)
    for inputs in type.widths {
      let (rows, outputs) = (Int(PDROP_MAX_SMALL_ROWS), 21)
      let stored = StoredBlocks(type, rows: outputs, inputs: inputs, &numbers)
      let (weights, groups) = (stored.floats(), stored.groups())
      var x = numbers.floats(rows * inputs)
      // Rows of zeros, of equal values, of tiny and of huge values.
      for i in 0..<inputs { x[i] = 0 }
      for i in inputs..<2 * inputs { x[i] = -1 }
      for i in 2 * inputs..<3 * inputs { x[i] *= 1e-20 }
      for i in 3 * inputs..<4 * inputs { x[i] *= 1e20 }
      let expected = (0..<rows).map {
        definition(x[$0 * inputs..<($0 + 1) * inputs], weights, blockSize: type.size, outputs: outputs)
      }
      for level in levels {
        let all = product(level, x, rows: rows, groups, type, inputs: inputs, outputs: outputs)
        for row in 0..<rows {
          for output in 0..<outputs {
            let (value, size) = expected[row][output]
            // Some roundings per span, of sums up to three times the products' magnitudes: a code of zero is among the
            // codes of a sub-block, so the minimum is a weight.
            let bound = Double(inputs / 256 + 8) * 3 * 0x1p-23 * size
            #expect(abs(Double(all[row * outputs + output]) - value) <= bound, "level \(level), row \(row)")
          }
        }
        for count in 1..<rows {
          let some = product(level, x, rows: count, groups, type, inputs: inputs, outputs: outputs)
          #expect(some == Array(all.prefix(count * outputs)), "level \(level), \(count) rows")
        }
        let slice = product(
          level, x, rows: rows, groups, type, inputs: inputs, outputs: outputs - 16, firstGroup: 1)
        for row in 0..<rows {
          #expect(
            slice[row * (outputs - 16)..<(row + 1) * (outputs - 16)] == all[row * outputs + 16..<(row + 1) * outputs])
        }
        let twice = product(level, x, rows: rows, groups, type, inputs: inputs, outputs: outputs, addingTo: all)
        #expect(twice == all.map { 2 * $0 })
      }
    }
  }

  /// More rows than share the unpacked weights, and a rest of each size that is computed in another way.
  @Test(arguments: StoredBlocks.packed, [17, 24, 47, 529, 535])
  func `many rows have the bits of a few, with every instruction set`(type: StoredBlocks.Kind, rows: Int) {
    var numbers = SeededGenerator(7)
    let (inputs, outputs) = (type.widths.last!, 53)
    let groups = StoredBlocks(type, rows: outputs, inputs: inputs, &numbers).groups()
    let x = numbers.floats(rows * inputs, in: -2...2)
    for level in levels {
      let all = product(level, x, rows: rows, groups, type, inputs: inputs, outputs: outputs)
      let twice = product(level, x, rows: rows, groups, type, inputs: inputs, outputs: outputs, addingTo: all)
      #expect(twice == all.map { 2 * $0 })
      for row in [0, 1, 15, 16, rows - 2, rows - 1] {
        let alone = product(
          level, Array(x[row * inputs..<(row + 1) * inputs]), rows: 1, groups, type, inputs: inputs, outputs: outputs)
        #expect(alone == Array(all[row * outputs..<(row + 1) * outputs]), "level \(level), row \(row)")
      }
    }
  }

  @Test func `an activation that is not finite spoils its row alone`() {
    var numbers = SeededGenerator(9)
    let stored = StoredBlocks(.q4K, rows: 16, inputs: 512, &numbers)
    let groups = stored.groups()
    var x = numbers.floats(3 * 512)
    for level in levels {
      let clean = product(level, x, rows: 3, groups, .q4K, inputs: 512, outputs: 16)
      for bad in [Float.nan, .infinity, -.infinity] {
        let kept = x[700]
        x[700] = bad
        let found = product(level, x, rows: 3, groups, .q4K, inputs: 512, outputs: 16)
        x[700] = kept
        #expect(found[0..<16] == clean[0..<16] && found[32..<48] == clean[32..<48])
        #expect(found[16..<32].allSatisfy { $0.isNaN })
      }
    }
  }

  @Test(arguments: StoredBlocks.packed)
  func `quantization errs less than scales from minimum and maximum`(type: StoredBlocks.Kind) {
    var numbers = SeededGenerator(13)
    let (blocks, size) = (5 * 256 / type.size, type.size)
    let bell = (0..<blocks * size).map { _ in numbers.floats(6).reduce(0, +) / 50 }
    let others = [bell.map { $0 * $0 }, bell.map { -abs($0) }, bell.map { $0 < 0.05 ? $0 : 40 * $0 }]
    for values in [bell] + others {
      let bytes = quantized(type, values)
      let found = dequantized(type.code, bytes, count: values.count)
      var sums = (found: 0.0, plain: 0.0)
      for block in 0..<blocks {
        let part = block * size..<(block + 1) * size
        let plain = plainlyQuantized(type, Array(values[part]))
        let error = part.reduce(0) { $0 + squared(found[$1] - values[$1]) }
        let plainError = part.reduce(0) { $0 + squared(plain[$1 - part.lowerBound] - values[$1]) }
        #expect(error <= plainError * (1 + 0x1p-16), "block \(block)")
        sums.found += error
        sums.plain += plainError
        // Blocks do not depend on each other.
        let own = type.bytes * block..<type.bytes * (block + 1)
        #expect(quantized(type, Array(values[part])) == Array(bytes[own]))
      }
      // Measured: 0.79 to 0.89 on normally distributed weights.
      if values == bell { #expect(sums.found < 0.92 * sums.plain) }
    }
  }

  @Test(arguments: StoredBlocks.packed)
  func `importance lowers the error where it counts`(type: StoredBlocks.Kind) {
    var numbers = SeededGenerator(17)
    let values = numbers.floats(4 * type.size)
    let importance = values.indices.map { $0 % 7 == 0 ? Float(100) : 1 }
    func error(_ bytes: [UInt8]) -> Double {
      let found = dequantized(type.code, bytes, count: values.count)
      return values.indices.reduce(0) { $0 + Double(importance[$1]) * squared(found[$1] - values[$1]) }
    }
    #expect(error(quantized(type, values, importance: importance)) < error(quantized(type, values)))
    let none = [Float](repeating: 0, count: values.count)
    #expect(
      dequantized(type.code, quantized(type, values, importance: none), count: values.count).allSatisfy { $0.isFinite })
  }

  @Test(arguments: StoredBlocks.packed)
  func `blocks of extreme weights are finite, and of infinite or missing ones not numbers`(type: StoredBlocks.Kind) {
    for value: Float in [0, 1e-38, 1e-7, 1e6, .greatestFiniteMagnitude, .infinity, -.infinity, .nan] {
      var values = [Float](repeating: value, count: type.size)
      values[1] = -value
      let found = dequantized(type.code, quantized(type, values), count: values.count)
      #expect(found.allSatisfy { value.isFinite ? $0.isFinite : $0.isNaN }, "\(value)")
      if value == 0 { #expect(found.allSatisfy { $0 == 0 }) }
    }
  }

  // MARK: - Helpers

  /// Raw values of the instruction sets that this processor supports.
  private let levels = Array(0...pdrop_detect_isa().rawValue)

  private func squared(_ x: Float) -> Double { Double(x) * Double(x) }

  private func roundedToBF16(_ x: Float) -> Float {
    let bits = x.bitPattern
    return Float(bitPattern: (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
  }

  private func quantized(_ type: StoredBlocks.Kind, _ values: [Float], importance: [Float]? = nil) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: values.count / type.size * type.bytes)
    if let importance {
      unsafe pdrop_quantize_blocks(type.code, values, importance, values.count, &bytes)
    } else {
      unsafe pdrop_quantize_blocks(type.code, values, nil, values.count, &bytes)
    }
    return bytes
  }

  /// A block with the scales that put its largest and smallest weight on the outermost codes.
  private func plainlyQuantized(_ type: StoredBlocks.Kind, _ x: [Float]) -> [Float] {
    func half(_ x: Float) -> Float { Float(Float16(x)) }
    func code(_ x: Float, _ scale: Float, _ codes: ClosedRange<Float>) -> Float {
      scale == 0 ? 0 : min(max((x / scale).rounded(.toNearestOrEven), codes.lowerBound), codes.upperBound)
    }
    func extreme(_ x: some Sequence<Float>) -> Float { x.max { abs($0) < abs($1) } ?? 0 }
    switch type {
    case .q4Zero, .q8Zero:
      let codes: ClosedRange<Float> = type == .q4Zero ? -8...7 : -127...127
      let scale = half(extreme(x) / codes.lowerBound)
      return x.map { scale * code($0, scale, codes) }
    case .q6K:
      let parts = stride(from: 0, to: 256, by: 16).map { x[$0..<$0 + 16] }
      let d = half(extreme(parts.map { extreme($0) / -32 }) / -128)
      return parts.flatMap { part in
        let scale = d * code(extreme(part) / -32, d, -128...127)
        return part.map { scale * code($0, scale, -32...31) }
      }
    case .q4K, .q5K:
      let highest: Float = type == .q4K ? 15 : 31
      let parts = stride(from: 0, to: 256, by: 32).map { x[$0..<$0 + 32] }
      let minima = parts.map { max(0, -$0.min()!) }
      let scales = zip(parts, minima).map { (max(0, $0.max()!) + $1) / highest }
      let (d, dmin) = (half(scales.max()! / 63), half(minima.max()! / 63))
      return parts.indices.flatMap { i in
        let (scale, minimum) = (d * code(scales[i], d, 0...63), dmin * code(minima[i], dmin, 0...63))
        return parts[i].map { scale * code($0 + minimum, scale, 0...highest) - minimum }
      }
    }
  }

  /// Products of one row with activations in int8, scaled by the largest of each block of weights, and sums of magnitudes.
  private func definition(
    _ x: ArraySlice<Float>, _ weights: [Float], blockSize: Int, outputs: Int
  ) -> [(value: Double, size: Double)] {
    var rounded: [Double] = []
    for start in stride(from: x.startIndex, to: x.endIndex, by: blockSize) {
      let part = x[start..<start + blockSize]
      let largest = part.map(abs).max()!
      let inverse = largest == 0 ? 0 : 127 / largest
      rounded += part.map { Double(($0 * inverse).rounded(.toNearestOrEven)) * Double(largest / 127) }
    }
    return (0..<outputs).map { output in
      let row = weights[output * x.count..<(output + 1) * x.count]
      let largest = Double(row.map(abs).max()!)
      return (
        zip(rounded, row).reduce(0) { $0 + $1.0 * Double($1.1) }, rounded.reduce(0) { $0 + abs($1) } * largest
      )
    }
  }

  private func product(
    _ level: UInt32, _ x: [Float], rows: Int, _ groups: AlignedBytes, _ type: StoredBlocks.Kind, inputs: Int,
    outputs: Int, firstGroup: Int = 0, addingTo y: [Float]? = nil
  ) -> [Float] {
    let isa = pdrop_isa(rawValue: level)
    let input = AlignedBytes(count: pdrop_block_input_bytes(Int32(rows), inputs))
    let scratch = AlignedBytes(count: pdrop_block_scratch_bytes(isa, Int32(rows), outputs))
    var y = y ?? [Float](repeating: 7, count: rows * outputs)
    let add = y.first != 7
    for first in stride(from: 0, to: rows, by: Int(PDROP_MAX_SMALL_ROWS)) {
      unsafe x.withUnsafeBufferPointer {
        unsafe pdrop_quantize_block_input(
          isa, type.code, $0.baseAddress! + first * inputs, inputs, min(PDROP_MAX_SMALL_ROWS, Int32(rows - first)),
          inputs, input.start + pdrop_block_input_bytes(Int32(first), 256), Int32(rows))
      }
    }
    unsafe pdrop_gemm_blocks(
      isa, type.code, input.start, Int32(rows), groups.start + firstGroup * pdrop_group_bytes(type.code, inputs),
      inputs, outputs, &y, outputs, add, scratch.start)
    return y
  }
}

private func dequantized(_ type: pdrop_block_type, _ bytes: [UInt8], count: Int) -> [Float] {
  var values = [Float](repeating: 0, count: count)
  unsafe pdrop_dequantize_blocks(type, bytes, count, &values)
  return values
}

/// Bytes aligned to 64, freed with the last reference.
@safe private final class AlignedBytes {
  let start: UnsafeMutableRawPointer

  init(count: Int) {
    unsafe start = .allocate(byteCount: count, alignment: 64)
    unsafe start.initializeMemory(as: UInt8.self, repeating: 0xAA, count: count)
  }

  deinit { unsafe start.deallocate() }
}

/// Stored rows with random codes and scales of scales.
struct StoredBlocks {
  /// The types that are packed.
  enum Kind: CaseIterable, Sendable {
    case q4Zero, q8Zero, q4K, q5K, q6K

    var code: pdrop_block_type {
      switch self {
      case .q4Zero: pdrop_q4_0
      case .q8Zero: pdrop_q8_0
      case .q4K: pdrop_q4_k
      case .q5K: pdrop_q5_k
      case .q6K: pdrop_q6_k
      }
    }

    var size: Int { Int(pdrop_block_values(code)) }

    var bytes: Int { pdrop_block_bytes(code) }

    /// One span, several, and where blocks have 32 weights, parts of one.
    var widths: [Int] { size == 32 ? [32, 256, 288, 736] : [256, 768] }

    /// Places of f16 scales in a block.
    var scales: [Int] {
      switch self {
      case .q4Zero, .q8Zero: [0]
      case .q4K, .q5K: [0, 2]
      case .q6K: [208]
      }
    }
  }

  static let packed = Kind.allCases

  /// File names of reference blocks and the numbers of their types.
  static let names: [(String, UInt32)] = [
    ("q4_0", 2), ("q4_1", 3), ("q5_0", 6), ("q5_1", 7), ("q8_0", 8), ("q2_k", 10), ("q3_k", 11), ("q4_k", 12),
    ("q5_k", 13), ("q6_k", 14), ("iq4_nl", 20), ("iq4_xs", 23),
  ]

  let kind: Kind
  let rows: Int
  let inputs: Int
  var bytes: [UInt8]

  var rowBytes: Int { inputs / kind.size * kind.bytes }

  /// Random bytes, and scales of either sign that range from subnormal to 1; the second block of a row is all ones.
  init(_ kind: Kind, rows: Int, inputs: Int, _ numbers: inout SeededGenerator) {
    (self.kind, self.rows, self.inputs) = (kind, rows, inputs)
    bytes = (0..<rows * inputs / kind.size * kind.bytes).map { _ in UInt8(numbers.next(0...255)) }
    for block in 0..<rows * inputs / kind.size {
      let start = block * kind.bytes
      if inputs > kind.size && block % (inputs / kind.size) == 1 {
        for i in start..<start + kind.bytes { bytes[i] = 255 }
      }
      for place in kind.scales {
        let magnitude: Float = block % 5 == 3 ? 1e-6 : 0.01
        let scale = Float16(numbers.floats(1)[0] * (block % 7 == 5 ? 1 : magnitude)).bitPattern
        (bytes[start + place], bytes[start + place + 1]) = (UInt8(scale & 255), UInt8(scale >> 8))
      }
    }
  }

  mutating func clear(row: Int) {
    for i in row * rowBytes..<(row + 1) * rowBytes { bytes[i] = 0 }
  }

  func floats() -> [Float] { dequantized(kind.code, bytes, count: rows * inputs) }

  fileprivate func groups() -> AlignedBytes {
    let size = pdrop_group_bytes(kind.code, inputs)
    let packed = AlignedBytes(count: (rows + 15) / 16 * size)
    unsafe bytes.withUnsafeBytes { from in
      for row in stride(from: 0, to: rows, by: 16) {
        unsafe pdrop_pack_group(
          kind.code, from.baseAddress! + row * rowBytes, rowBytes, Int32(min(16, rows - row)), inputs,
          packed.start + row / 16 * size)
      }
    }
    return packed
  }
}
