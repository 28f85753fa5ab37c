internal import CQuantKernels

/// The left side of a product in the numbers that its arithmetic multiplies, converted once for all panels.
@safe struct ProductInput {
  let rows: Int
  /// Row-major, or packed for our own kernels when the rows are few.
  let base: UnsafeRawPointer
  let rowBytes: Int
  let isPacked: Bool
  /// Int8: what a row's numbers, stored with 128 added, count.
  let scales: UnsafePointer<Float>?
}

extension Compute {
  /// Most rows of a product by our own kernels: beyond, the libraries' packing pays for itself.
  static let smallRowCount = Int(pdrop_small_rows)

  /// Converts `x` to what products with `linear` read, in memory that lasts until the next product.
  func prepare(_ x: borrowing Matrix, for linear: Linear) -> ProductInput {
    let (rows, columns) = (x.rows, x.columns)
    let source = unsafe x.base
    let isPacked = rows <= Self.smallRowCount && !isPartOfMany
    let bytes: Int
    switch linear.arithmetic {
    case .f32: bytes = 4
    case .bf16: bytes = 2
    case .int8: bytes = 1
    }
    let rowBytes = columns * bytes
    // Scales, rows, and the rows packed, each on a boundary of 64 bytes.
    let scaleBytes = (rows * 4 + 63) / 64 * 64
    let convertedBytes = bytes == 4 ? 0 : (rows * rowBytes + 63) / 64 * 64
    let packedBytes = isPacked ? pdrop_packed_bytes(Int32(rows), rowBytes) : 0
    let memory = unsafe sharedScratch(byteCount: scaleBytes + convertedBytes + packedBytes)
    let scales = unsafe memory.bindMemory(to: Float.self, capacity: rows)
    let converted = unsafe memory + scaleBytes

    let blockRows = max(1, 65_536 / max(columns, 1))
    if bytes != 4 {
      workers.run(tasks: (rows + blockRows - 1) / blockRows) { task, _ in
        for row in task * blockRows..<min((task + 1) * blockRows, rows) {
          let (from, to) = unsafe (source + row * columns, converted + row * rowBytes)
          if bytes == 2 {
            unsafe pdrop_round_f32_to_bf16(from, columns, to.assumingMemoryBound(to: UInt16.self))
          } else {
            unsafe scales[row] = pdrop_quantize_u8(from, columns, to.assumingMemoryBound(to: UInt8.self))
          }
        }
      }
    }
    let rowMajor = bytes == 4 ? UnsafeRawPointer(source) : UnsafeRawPointer(converted)
    guard isPacked else {
      return unsafe ProductInput(
        rows: rows, base: rowMajor, rowBytes: rowBytes, isPacked: false, scales: UnsafePointer(scales))
    }
    let packed = unsafe converted + convertedBytes
    unsafe pdrop_pack_rows(rowMajor, rowBytes, Int32(rows), rowBytes, packed)
    return unsafe ProductInput(
      rows: rows, base: UnsafeRawPointer(packed), rowBytes: rowBytes, isPacked: true, scales: UnsafePointer(scales))
  }
}
