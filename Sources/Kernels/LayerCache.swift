import CKernels
import Storage

/// The data type of a KV cache.
package enum CacheType: String, Sendable, CaseIterable {
  case f32
  /// Rounded to bf16.
  case bf16
  /// Rounded to integers of at most 127 in magnitude, with an f32 scale for each row and key-value head.
  case int8

  /// Bytes of the keys or the values of a row.
  package func rowByteCount(_ heads: HeadLayout) -> Int {
    switch self {
    case .f32: 4 * heads.keyValueColumns
    case .bf16: 2 * heads.keyValueColumns
    case .int8: heads.keyValueColumns + 4 * heads.keyValueHeadCount
    }
  }

  var code: pdrop_kv_type {
    switch self {
    case .f32: pdrop_kv_f32
    case .bf16: pdrop_kv_bf16
    case .int8: pdrop_kv_int8
    }
  }
}

/// Keys or values of one layer, `[S, kvHeads · d]`; rows are appended and never changed.
@safe package struct CacheRows: ~Copyable {
  package let heads: HeadLayout
  package let type: CacheType
  package private(set) var rows = 0
  private var capacity = 0
  /// The elements of all rows, then room for more.
  private(set) var base: UnsafeMutableRawPointer
  /// The scales of all rows, `[S, kvHeads]`, for int8.
  private(set) var scales: UnsafeMutablePointer<Float>

  package init(_ heads: HeadLayout, type: CacheType) {
    self.heads = heads
    self.type = type
    unsafe base = .allocate(byteCount: 0, alignment: 64)
    unsafe scales = .allocate(capacity: 0)
  }

  deinit {
    unsafe base.deallocate()
    unsafe scales.deallocate()
  }

  package var columns: Int { heads.keyValueColumns }

  private var elementByteCount: Int { type == .f32 ? 4 : type == .bf16 ? 2 : 1 }

  /// Bytes of all rows with their scales, without unused capacity.
  package var byteCount: Int { rows * type.rowByteCount(heads) }

  /// Reserves capacity for at least `capacity` rows and keeps the existing ones.
  package mutating func reserve(rows capacity: Int) {
    guard capacity > self.capacity else { return }
    let rowBytes = columns * elementByteCount
    let grown = unsafe allocateBytes(capacity * rowBytes)
    unsafe grown.copyMemory(from: base, byteCount: rows * rowBytes)
    unsafe base.deallocate()
    unsafe base = grown
    if type == .int8 {
      let grown = unsafe allocateFloats(capacity * heads.keyValueHeadCount)
      unsafe grown.update(from: scales, count: rows * heads.keyValueHeadCount)
      unsafe scales.deallocate()
      unsafe scales = grown
    }
    self.capacity = capacity
  }

  /// A copy of all rows of `other`, with a capacity of at least `capacity` rows.
  package init(copying other: borrowing CacheRows, capacity: Int) {
    self.init(other.heads, type: other.type)
    reserve(rows: max(capacity, other.rows))
    unsafe base.copyMemory(from: other.base, byteCount: other.rows * columns * elementByteCount)
    if type == .int8 { unsafe scales.update(from: other.scales, count: other.rows * heads.keyValueHeadCount) }
    rows = other.rows
  }

  /// Appends all rows of `other`.
  package mutating func append(_ other: borrowing Matrix) {
    append(other, rows: 0..<other.rows, workers: Workers(count: 1))
  }

  /// Appends a range of the rows of `other`, converted in parallel. The capacity at least doubles when it is exhausted,
  /// so appending takes amortized constant time per row.
  package mutating func append(_ other: borrowing Matrix, rows range: Range<Int>, workers: Workers) {
    precondition(
      other.columns == columns && range.lowerBound >= 0 && range.upperBound <= other.rows,
      "append: rows \(range) of \(other.rows)×\(other.columns) to \(columns) columns")
    if rows + range.count > capacity { reserve(rows: max(rows + range.count, 2 * capacity)) }
    let (source, size) = unsafe (other.base + range.lowerBound * columns, heads.headDimension)
    let (type, columns, rowScales, rowBytes) = (type, columns, heads.keyValueHeadCount, columns * elementByteCount)
    let target = unsafe base + rows * rowBytes
    let scales = unsafe type == .int8 ? self.scales + rows * rowScales : self.scales
    let taskRows = max(1, 16_384 / columns)
    workers.run(tasks: (range.count + taskRows - 1) / taskRows) { task, _ in
      let (first, count) = (task * taskRows, min(taskRows, range.count - task * taskRows))
      let (from, to) = unsafe (source + first * columns, target + first * rowBytes)
      switch type {
      case .f32: unsafe to.copyMemory(from: from, byteCount: count * rowBytes)
      case .bf16: unsafe pdrop_round_f32_to_bf16(from, count * columns, to.assumingMemoryBound(to: UInt16.self))
      case .int8:
        let numbers = unsafe to.assumingMemoryBound(to: Int8.self)
        for head in 0..<count * rowScales {
          var sum: Int32 = 0
          unsafe scales[first * rowScales + head] = pdrop_quantize_s8(
            from + head * size, size, numbers + head * size, &sum)
        }
      }
    }
    rows += range.count
  }

  /// A copy of all rows as f32.
  package func widened() -> Matrix {
    var matrix = Matrix(rows: 0, columns: columns)
    matrix.resize(rows: rows)
    switch type {
    case .f32: unsafe UnsafeMutableRawPointer(matrix.base).copyMemory(from: base, byteCount: byteCount)
    case .bf16: unsafe widenBF16(base, into: matrix.base, count: matrix.count)
    case .int8:
      let numbers = unsafe base.assumingMemoryBound(to: Int8.self)
      for i in 0..<matrix.count { unsafe matrix.base[i] = Float(numbers[i]) * scales[i / heads.headDimension] }
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

  package init(_ heads: HeadLayout, type: CacheType) {
    keys = CacheRows(heads, type: type)
    values = CacheRows(heads, type: type)
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
    keys newKeys: borrowing Matrix, values newValues: borrowing Matrix, rows: Range<Int>, lastPosition: Int,
    workers: Workers
  ) {
    keys.append(newKeys, rows: rows, workers: workers)
    values.append(newValues, rows: rows, workers: workers)
    nextPosition = lastPosition + 1
  }
}
