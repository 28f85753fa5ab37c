import CKernels
import Storage

extension Tensor {
  /// The tensor in another type, as a copy in memory; `self` if it has the type.
  ///
  /// Floats are rounded to nearest, ties to even. Blocks are quantized with the least squared error that the search of
  /// scales finds.
  ///
  /// - Precondition: For blocks, rows are whole blocks, and the type is Q4_0, Q4_K, Q5_K, Q6_K or Q8_0.
  package func converted(to target: StoredType, workers: Workers) -> Tensor {
    if type == target { return self }
    if target == .floats(.bf16) { return rounded(workers: workers) }
    let columns = columns
    precondition(
      (shape.last ?? 1).isMultiple(of: target.valuesPerBlock), "converted: \(shape) to \(target.name)")
    let rowBytes = target.byteCount(columns)
    let bytes = unsafe SharedBytes(count: target.byteCount(count)) { result in
      unsafe forEachRow(workers: workers) { row, values in
        let destination = unsafe result + row * rowBytes
        switch target {
        case .floats(.f32): unsafe destination.copyMemory(from: values, byteCount: rowBytes)
        case .floats(.f16):
          for i in 0..<columns {
            unsafe destination.storeBytes(of: narrowedF16(values[i]), toByteOffset: 2 * i, as: UInt16.self)
          }
        case .floats(.bf16): preconditionFailure("converted above")
        case .blocks(let type): unsafe pdrop_quantize_blocks(type.code, values, nil, columns, destination)
        }
      }
    }
    return Tensor(bytes, shape: shape, type: target)
  }

  /// The largest magnitude of the values; not a number if one of them is not.
  package func largestMagnitude(workers: Workers) -> Float {
    let bits = unsafe SharedBytes(count: rows * 4) { result in
      let largest = unsafe result.bindMemory(to: UInt32.self, capacity: rows)
      let columns = columns
      unsafe forEachRow(workers: workers) { row, values in
        // As integers, magnitudes are in the same order, and NaN is above infinity.
        var bits: UInt32 = 0
        for i in 0..<columns { bits = max(bits, unsafe values[i].bitPattern & 0x7FFF_FFFF) }
        unsafe largest[row] = bits
      }
    }
    return Float(bitPattern: (0..<rows).reduce(0) { max($0, bits.littleEndian(4 * $1, as: UInt32.self)) })
  }

  /// The tensor with its columns multiplied by factors, `[columns]`, in f32, in parallel.
  package func multiplied(columns factors: [Float], workers: Workers) -> Tensor {
    let columns = self.columns
    precondition(factors.count == columns, "multiplied: \(factors.count) factors, \(columns) columns")
    let bytes = unsafe SharedBytes(count: rows * columns * ElementType.f32.byteCount) { result in
      let products = unsafe result.bindMemory(to: Float.self, capacity: rows * columns)
      unsafe forEachRow(workers: workers) { row, values in
        for i in 0..<columns { unsafe products[row * columns + i] = values[i] * factors[i] }
      }
    }
    return Tensor(bytes, shape: shape, type: .floats(.f32))
  }
}

/// The bits of a value rounded to f16, to nearest, ties to even; too large magnitudes become infinite.
///
/// An addition in f32 rounds to the step of f16, as its sum has as many bits below the step as f32 has above it.
private func narrowedF16(_ value: Float) -> UInt16 {
  let sign = UInt16(truncatingIfNeeded: value.bitPattern >> 16) & 0x8000
  let magnitude = value.magnitude
  guard magnitude < 65_520 else { return sign | (value.isNaN ? 0x7E00 : 0x7C00) }
  if magnitude < 0x1p-14 {
    // Subnormal: the step is 2^-24, which is that of f32 at 0.5.
    return sign | UInt16(truncatingIfNeeded: (magnitude + 0.5).bitPattern &- Float(0.5).bitPattern)
  }
  let bits = magnitude.bitPattern
  let rounded = bits &+ 0x0FFF &+ (bits >> 13) & 1
  return sign | UInt16(truncatingIfNeeded: (rounded &- 112 << 23) >> 13)
}
