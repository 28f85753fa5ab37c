/// Rows that are appended and read but never changed: the keys or the values of a layer, `[S, columns]`.
///
/// Stored as `f32`, or rounded to `bf16` in half the bytes.
@safe package struct CacheRows: ~Copyable {
  package let columns: Int
  package let element: ElementType
  package private(set) var rows = 0
  private var capacity = 0
  private(set) var base: UnsafeMutableRawPointer

  /// - Precondition: `element` is `f32` or `bf16`.
  package init(columns: Int, element: ElementType) {
    precondition(columns > 0 && element != .f16, "CacheRows: \(columns) columns of \(element)")
    self.columns = columns
    self.element = element
    unsafe base = .allocate(byteCount: 0, alignment: 64)
  }

  deinit { unsafe base.deallocate() }

  /// Bytes of all rows.
  package var byteCount: Int { rows * columns * element.byteCount }

  /// Makes room for at least `capacity` rows, keeping the present ones.
  package mutating func reserve(rows capacity: Int) {
    guard capacity > self.capacity else { return }
    let grown = unsafe allocateBytes(capacity * columns * element.byteCount)
    unsafe grown.copyMemory(from: base, byteCount: byteCount)
    unsafe base.deallocate()
    unsafe base = grown
    self.capacity = capacity
  }

  /// Appends all rows of `other`; the room at least doubles when it runs out, so appending costs its own rows on average.
  package mutating func append(_ other: borrowing Matrix) {
    precondition(other.columns == columns, "append: \(other.columns) columns to \(columns)")
    if rows + other.rows > capacity { reserve(rows: max(rows + other.rows, 2 * capacity)) }
    let end = unsafe base + byteCount
    if element == .f32 {
      unsafe end.copyMemory(from: other.base, byteCount: other.count * element.byteCount)
    } else {
      let values = other.span
      for i in values.indices {
        unsafe end.storeBytes(of: roundedBrain(values[i]), toByteOffset: 2 * i, as: UInt16.self)
      }
    }
    rows += other.rows
  }

  /// A copy of all rows, widened.
  package func widened() -> Matrix {
    var matrix = Matrix(rows: 0, columns: columns)
    matrix.resize(rows: rows)
    if element == .f32 {
      unsafe UnsafeMutableRawPointer(matrix.base).copyMemory(from: base, byteCount: byteCount)
    } else {
      unsafe widenBrain(base, into: matrix.base, count: matrix.count)
    }
    return matrix
  }
}

/// The bits of the nearest bfloat16, of two equally near ones of the even one; NaN stays NaN.
@inline(__always)
func roundedBrain(_ x: Float) -> UInt16 {
  let bits = x.bitPattern
  let nearest = (bits &+ 0x7FFF &+ (bits >> 16) & 1) >> 16
  let isNaN = bits & 0x7FFF_FFFF > 0x7F80_0000
  return UInt16(truncatingIfNeeded: isNaN ? bits >> 16 | 0x40 : nearest)
}
