import CKernels
import Storage

/// Keys or values of one layer, `[S, columns]`; rows are appended and never changed.
///
/// Stored as f32, or rounded to bf16, which takes half the memory.
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

  /// Bytes of all rows, without unused capacity.
  package var byteCount: Int { rows * columns * element.byteCount }

  /// Reserves capacity for at least `capacity` rows and keeps the existing ones.
  package mutating func reserve(rows capacity: Int) {
    guard capacity > self.capacity else { return }
    let grown = unsafe allocateBytes(capacity * columns * element.byteCount)
    unsafe grown.copyMemory(from: base, byteCount: byteCount)
    unsafe base.deallocate()
    unsafe base = grown
    self.capacity = capacity
  }

  /// A copy of all rows of `other`, with a capacity of at least `capacity` rows.
  package init(copying other: borrowing CacheRows, capacity: Int) {
    self.init(columns: other.columns, element: other.element)
    reserve(rows: max(capacity, other.rows))
    unsafe base.copyMemory(from: other.base, byteCount: other.byteCount)
    rows = other.rows
  }

  /// Appends all rows of `other`.
  package mutating func append(_ other: borrowing Matrix) { append(other, rows: 0..<other.rows) }

  /// Appends a range of the rows of `other`. The capacity at least doubles when it is exhausted, so appending takes
  /// amortized constant time per row.
  package mutating func append(_ other: borrowing Matrix, rows range: Range<Int>) {
    precondition(
      other.columns == columns && range.lowerBound >= 0 && range.upperBound <= other.rows,
      "append: rows \(range) of \(other.rows)×\(other.columns) to \(columns) columns")
    if rows + range.count > capacity { reserve(rows: max(rows + range.count, 2 * capacity)) }
    let end = unsafe base + byteCount
    let (source, count) = unsafe (other.base + range.lowerBound * columns, range.count * columns)
    if element == .f32 {
      unsafe end.copyMemory(from: source, byteCount: count * element.byteCount)
    } else {
      unsafe pdrop_round_f32_to_bf16(source, count, end.assumingMemoryBound(to: UInt16.self))
    }
    rows += range.count
  }

  /// A copy of all rows, widened to f32.
  package func widened() -> Matrix {
    var matrix = Matrix(rows: 0, columns: columns)
    matrix.resize(rows: rows)
    if element == .f32 {
      unsafe UnsafeMutableRawPointer(matrix.base).copyMemory(from: base, byteCount: byteCount)
    } else {
      unsafe widenBF16(base, into: matrix.base, count: matrix.count)
    }
    return matrix
  }
}

/// KV cache of one layer for one sequence: keys after RoPE, and values.
package struct LayerCache: ~Copyable {
  package private(set) var keys: CacheRows
  package private(set) var values: CacheRows
  /// The position of the next token in this layer.
  package private(set) var nextPosition = 0

  package init(columns: Int, element: ElementType) {
    keys = CacheRows(columns: columns, element: element)
    values = CacheRows(columns: columns, element: element)
  }

  /// A copy with a capacity of at least `rows` rows.
  package init(copying other: borrowing LayerCache, rows: Int) {
    keys = CacheRows(copying: other.keys, capacity: rows)
    values = CacheRows(copying: other.values, capacity: rows)
    nextPosition = other.nextPosition
  }

  /// Rows in the cache.
  package var length: Int { keys.rows }

  /// Bytes of keys and values, without unused capacity.
  package var byteCount: Int { keys.byteCount + values.byteCount }

  /// Reserves capacity for `rows` rows in total, so that decode needs no reallocation.
  package mutating func reserve(rows: Int) {
    keys.reserve(rows: rows)
    values.reserve(rows: rows)
  }

  /// Appends a range of the rows of new keys and values; the last appended row has the position `lastPosition`.
  package mutating func append(
    keys newKeys: borrowing Matrix, values newValues: borrowing Matrix, rows: Range<Int>, lastPosition: Int
  ) {
    keys.append(newKeys, rows: rows)
    values.append(newValues, rows: rows)
    nextPosition = lastPosition + 1
  }
}
