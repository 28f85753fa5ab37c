import CKernels
package import Storage

/// The data type of a KV cache.
package enum CacheType: String, Sendable, CaseIterable {
  case f32
  /// Rounded to bf16.
  case bf16
  /// Rounded to integers of at most 127 in magnitude, with an f32 scale for each row and key-value head.
  case int8

  /// Bytes of the keys or the values of a row.
  package func rowByteCount(_ heads: HeadLayout) -> Int {
    elementByteCount * heads.keyValueColumns + (self == .int8 ? 4 * heads.keyValueHeadCount : 0)
  }

  /// Bytes of an element, without the scale of its row.
  package var elementByteCount: Int { self == .f32 ? 4 : self == .bf16 ? 2 : 1 }

  var code: pdrop_kv_type {
    switch self {
    case .f32: pdrop_kv_f32
    case .bf16: pdrop_kv_bf16
    case .int8: pdrop_kv_int8
    }
  }
}

/// Keys or values of one layer, `[kvHeads, S, d]`; rows are appended and never changed.
///
/// The rows of a head follow each other, as attention reads them: row by row, a head would touch a page per row.
@safe package struct CacheRows: ~Copyable {
  package let heads: HeadLayout
  package let type: CacheType
  package private(set) var rows = 0
  /// Rows that the memory of each head has room for.
  private(set) var capacity: Int
  /// `[kvHeads, capacity, d]` elements.
  private(set) var base: UnsafeMutableRawPointer
  /// `[kvHeads, capacity]` scales, for int8.
  private(set) var scales: UnsafeMutablePointer<Float>

  package init(_ heads: HeadLayout, type: CacheType) { self.init(heads, type, capacity: 0) }

  private init(_ heads: HeadLayout, _ type: CacheType, capacity: Int) {
    self.heads = heads
    self.type = type
    self.capacity = capacity
    unsafe base = allocateBytes(heads.keyValueColumns * capacity * type.elementByteCount)
    unsafe scales = allocateFloats(type == .int8 ? heads.keyValueHeadCount * capacity : 0)
  }

  deinit {
    unsafe base.deallocate()
    unsafe scales.deallocate()
  }

  package var columns: Int { heads.keyValueColumns }

  /// Bytes of a row of one head, without its scale.
  private var headByteCount: Int { heads.headDimension * type.elementByteCount }

  /// Bytes of all rows with their scales, without unused capacity.
  package var byteCount: Int { rows * type.rowByteCount(heads) }

  /// Reserves capacity for at least `capacity` rows and keeps the existing ones.
  package mutating func reserve(rows capacity: Int) {
    guard capacity > self.capacity else { return }
    var grown = CacheRows(heads, type, capacity: capacity)
    grown.copyRows(of: self)
    unsafe swap(&base, &grown.base)
    unsafe swap(&scales, &grown.scales)
    self.capacity = capacity
  }

  /// Copies all rows of `other` into memory that has room for them.
  private mutating func copyRows(of other: borrowing CacheRows) {
    for head in 0..<heads.keyValueHeadCount {
      unsafe (base + head * capacity * headByteCount).copyMemory(
        from: other.base + head * other.capacity * headByteCount, byteCount: other.rows * headByteCount)
      guard type == .int8 else { continue }
      unsafe (scales + head * capacity).update(from: other.scales + head * other.capacity, count: other.rows)
    }
    rows = other.rows
  }

  /// A copy of all rows of `other`, with a capacity of at least `capacity` rows.
  package init(copying other: borrowing CacheRows, capacity: Int) {
    self.init(other.heads, other.type, capacity: max(capacity, other.rows))
    copyRows(of: other)
  }

  /// Appends all rows of `other`, `[T, kvHeads · d]`.
  package mutating func append(_ other: borrowing Matrix) {
    append(other, rows: 0..<other.rows, workers: Workers(count: 1))
  }

  /// Appends a range of the rows of `other`, `[T, kvHeads · d]`, converted in parallel. The capacity at least doubles
  /// when it is exhausted, so appending takes amortized constant time per row.
  package mutating func append(_ other: borrowing Matrix, rows range: Range<Int>, workers: Workers) {
    precondition(
      other.columns == columns && range.lowerBound >= 0 && range.upperBound <= other.rows,
      "append: rows \(range) of \(other.rows)×\(other.columns) to \(columns) columns")
    if rows + range.count > capacity { reserve(rows: max(rows + range.count, 2 * capacity)) }
    let new = unsafe NewRows(
      source: other.base + range.lowerBound * columns, count: range.count, target: base, scales: scales, heads: heads,
      type: type, capacity: capacity, end: rows)
    workers.run(tasks: new.taskCount, new) { new, task, _ in new.convert(task) }
    rows += range.count
  }

  /// A copy of the elements of all rows as stored, `[kvHeads, S, d]`.
  package func storedElements() -> SharedBytes {
    let size = rows * headByteCount
    return unsafe SharedBytes(count: heads.keyValueHeadCount * size) { bytes in
      for head in 0..<heads.keyValueHeadCount {
        unsafe (bytes + head * size).copyMemory(from: base + head * capacity * headByteCount, byteCount: size)
      }
    }
  }

  /// A copy of the scales of all rows, `[kvHeads, S]`; `nil` unless the type is int8.
  package func storedScales() -> SharedBytes? {
    guard type == .int8 else { return nil }
    let size = rows * MemoryLayout<Float>.stride
    return unsafe SharedBytes(count: heads.keyValueHeadCount * size) { bytes in
      for head in 0..<heads.keyValueHeadCount {
        unsafe (bytes + head * size).copyMemory(from: scales + head * capacity, byteCount: size)
      }
    }
  }

  /// Rows from the bytes of `storedElements` and `storedScales`.
  ///
  /// - Precondition: The bytes are those of `rows` rows.
  package init(
    _ heads: HeadLayout, type: CacheType, rows: Int, elements: SharedBytes, scales stored: SharedBytes?, capacity: Int
  ) {
    precondition(rows >= 0, "CacheRows: \(rows) rows")
    self.init(heads, type, capacity: max(capacity, rows))
    let (count, size) = (heads.keyValueHeadCount, rows * headByteCount)
    let scaleSize = type == .int8 ? rows * MemoryLayout<Float>.stride : 0
    precondition(
      elements.count == count * size && (stored?.count ?? 0) == count * scaleSize,
      "CacheRows: \(elements.count) and \(stored?.count ?? 0) bytes for \(rows) rows of \(heads) in \(type)")
    for head in 0..<count {
      unsafe (base + head * self.capacity * headByteCount).copyMemory(
        from: elements.address(of: head * size), byteCount: size)
      guard let stored else { continue }
      unsafe UnsafeMutableRawPointer(scales + head * self.capacity).copyMemory(
        from: stored.address(of: head * scaleSize), byteCount: scaleSize)
    }
    self.rows = rows
  }

  /// Removes the rows after the first `count`.
  package mutating func truncate(to count: Int) {
    precondition(0...rows ~= count, "truncate: \(rows) rows to \(count)")
    rows = count
  }

  /// A copy of all rows as f32, `[S, kvHeads · d]`.
  package func widened() -> Matrix {
    var matrix = Matrix(rows: 0, columns: columns)
    matrix.resize(rows: rows)
    let size = heads.headDimension
    for row in 0..<rows {
      for head in 0..<heads.keyValueHeadCount {
        let place = head * capacity + row
        let (from, to) = unsafe (base + place * headByteCount, matrix.base + row * columns + head * size)
        switch type {
        case .f32: unsafe UnsafeMutableRawPointer(to).copyMemory(from: from, byteCount: headByteCount)
        case .bf16: unsafe widenBF16(from, into: to, count: size)
        case .int8:
          let numbers = unsafe from.assumingMemoryBound(to: Int8.self)
          for i in 0..<size { unsafe to[i] = Float(numbers[i]) * scales[place] }
        }
      }
    }
    return matrix
  }
}

/// Rows that are converted to the type of a cache and written after its last row, some per task.
@safe private struct NewRows {
  /// `[count, kvHeads · d]`.
  let source: UnsafePointer<Float>
  let count: Int
  /// `[kvHeads, capacity, d]` elements.
  let target: UnsafeMutableRawPointer
  /// `[kvHeads, capacity]`, for int8.
  let scales: UnsafeMutablePointer<Float>
  let heads: HeadLayout
  let type: CacheType
  let capacity: Int
  /// Rows in the cache.
  let end: Int

  private var taskRows: Int { max(1, 16_384 / heads.keyValueColumns) }
  var taskCount: Int { (count + taskRows - 1) / taskRows }

  func convert(_ task: Int) {
    let (size, headBytes) = (heads.headDimension, heads.headDimension * type.elementByteCount)
    for row in task * taskRows..<min((task + 1) * taskRows, count) {
      for head in 0..<heads.keyValueHeadCount {
        let from = unsafe source + row * heads.keyValueColumns + head * size
        let place = head * capacity + end + row
        let to = unsafe target + place * headBytes
        switch type {
        case .f32: unsafe to.copyMemory(from: from, byteCount: headBytes)
        case .bf16: unsafe pdrop_round_f32_to_bf16(from, size, to.assumingMemoryBound(to: UInt16.self))
        case .int8:
          var sum: Int32 = 0
          unsafe scales[place] = pdrop_quantize_s8(from, size, to.assumingMemoryBound(to: Int8.self), &sum)
        }
      }
    }
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

  /// Keys and values with the same number of rows.
  package init(keys: consuming CacheRows, values: consuming CacheRows, nextPosition: Int) {
    precondition(keys.rows == values.rows, "LayerCache: \(keys.rows) keys, \(values.rows) values")
    self.keys = keys
    self.values = values
    self.nextPosition = nextPosition
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

  /// Removes the rows after the first `count`, whose positions must follow each other.
  package mutating func truncate(to count: Int) {
    nextPosition -= length - count
    keys.truncate(to: count)
    values.truncate(to: count)
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
