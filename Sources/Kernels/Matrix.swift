package import Storage

/// A row-major f32 matrix of activations, `[rows, columns]`, with one owner and capacity for more rows.
///
/// Rows are contiguous and the first one is 64-byte aligned. Views (`span`, `mutableSpan`) live as long as the borrow
/// that created them.
@safe package struct Matrix: ~Copyable {
  package let columns: Int
  package private(set) var rows: Int
  private var capacity: Int
  private(set) var base: UnsafeMutablePointer<Float>

  /// A matrix of zeros with capacity for at least `capacity` rows.
  package init(rows: Int, columns: Int, capacity: Int = 0) {
    precondition(rows >= 0 && columns > 0, "Matrix: \(rows) rows, \(columns) columns")
    self.rows = rows
    self.columns = columns
    self.capacity = max(rows, capacity, 1)
    unsafe base = allocateFloats(self.capacity * columns)
    unsafe base.initialize(repeating: 0, count: rows * columns)
  }

  /// A copy of row-major values.
  ///
  /// - Precondition: `values.count` is a multiple of `columns`.
  package init(_ values: [Float], columns: Int) {
    precondition(values.count.isMultiple(of: columns), "Matrix: \(values.count) values, \(columns) columns")
    self.init(rows: values.count / columns, columns: columns)
    for i in values.indices { unsafe base[i] = values[i] }
  }

  deinit { unsafe base.deallocate() }

  package var count: Int { rows * columns }

  /// All values, row-major.
  package var span: Span<Float> {
    @_lifetime(borrow self)
    get {
      let span = unsafe UnsafeBufferPointer(start: UnsafePointer(base), count: count).span
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  /// All values, row-major, for writing.
  package var mutableSpan: MutableSpan<Float> {
    @_lifetime(&self)
    mutating get {
      let span = unsafe UnsafeMutableBufferPointer(start: base, count: count).mutableSpan
      return unsafe _overrideLifetime(span, mutating: &self)
    }
  }

  /// A row, `[columns]`.
  @_lifetime(borrow self)
  package func row(_ index: Int) -> Span<Float> { span.row(index, columns: columns) }

  /// A copy of one row.
  package func rowValues(_ index: Int) -> [Float] {
    precondition(index >= 0 && index < rows, "rowValues: row \(index) of \(rows)")
    return unsafe [Float](UnsafeBufferPointer(start: base + index * columns, count: columns))
  }

  /// The bytes of all values in a copy.
  package func storedValues() -> SharedBytes {
    let size = count * MemoryLayout<Float>.stride
    return unsafe SharedBytes(count: size) { unsafe $0.copyMemory(from: base, byteCount: size) }
  }

  /// A copy of all values.
  package var values: [Float] { unsafe [Float](UnsafeBufferPointer(start: base, count: count)) }

  /// Reserves capacity for at least `capacity` rows and keeps the existing ones.
  package mutating func reserve(rows capacity: Int) {
    guard capacity > self.capacity else { return }
    let grown = unsafe allocateFloats(capacity * columns)
    unsafe grown.update(from: base, count: count)
    unsafe base.deallocate()
    unsafe base = grown
    self.capacity = capacity
  }

  /// Sets the number of rows; new rows are uninitialized.
  package mutating func resize(rows: Int) {
    precondition(rows >= 0, "resize: \(rows) rows")
    reserve(rows: rows)
    self.rows = rows
  }

  /// Keeps only the given rows, in order.
  ///
  /// - Precondition: `kept` is strictly ascending within `0..<rows`.
  package mutating func keepRows(_ kept: [Int]) {
    for (target, source) in kept.enumerated() where target != source {
      precondition(target < source && source < rows, "keepRows: row \(source) to \(target) of \(rows)")
      unsafe (base + target * columns).update(from: base + source * columns, count: columns)
    }
    rows = kept.count
  }

  /// Appends all rows of `other`. The capacity at least doubles when it is exhausted, so appending takes amortized
  /// constant time per row.
  package mutating func append(_ other: borrowing Matrix) {
    precondition(other.columns == columns, "append: \(other.columns) columns to \(columns)")
    if rows + other.rows > capacity { reserve(rows: max(rows + other.rows, 2 * capacity)) }
    unsafe (base + count).update(from: other.base, count: other.count)
    rows += other.rows
  }

  /// Inserts all rows of `other` before the first row.
  package mutating func prepend(_ other: borrowing Matrix) {
    precondition(other.columns == columns, "prepend: \(other.columns) columns to \(columns)")
    reserve(rows: rows + other.rows)
    unsafe (base + other.count).update(from: base, count: count)
    unsafe base.update(from: other.base, count: other.count)
    rows += other.rows
  }

  /// Overwrites the rows from `row` on with all rows of `other`.
  package mutating func replaceRows(from row: Int, with other: borrowing Matrix) {
    precondition(
      other.columns == columns && row >= 0 && row + other.rows <= rows,
      "replaceRows: \(other.rows)×\(other.columns) at \(row) of \(rows)×\(columns)")
    unsafe (base + row * columns).update(from: other.base, count: other.count)
  }

  /// Replaces all rows by a copy of a range of the rows of `other`.
  package mutating func assign(_ other: borrowing Matrix, rows range: Range<Int>) {
    precondition(
      other.columns == columns && range.lowerBound >= 0 && range.upperBound <= other.rows,
      "assign: rows \(range) of \(other.rows)×\(other.columns) to \(columns) columns")
    resize(rows: range.count)
    unsafe base.update(from: other.base + range.lowerBound * columns, count: count)
  }

  /// Overwrites one row with a row of a stored tensor, widened to f32.
  package mutating func setRow(_ row: Int, to tensor: Tensor, row source: Int) {
    precondition(
      tensor.columns == columns && row >= 0 && row < rows && source >= 0 && source < tensor.rows,
      "setRow: row \(source) of \(tensor.shape) to row \(row) of \(rows)×\(columns)")
    unsafe tensor.widen(source * columns..<(source + 1) * columns, into: base + row * columns)
  }
}

extension Span<Float> {
  /// Row `index` of a row-major matrix.
  @_lifetime(copy self)
  @inlinable package func row(_ index: Int, columns: Int) -> Span<Float> {
    extracting(index * columns..<(index + 1) * columns)
  }
}

extension MutableSpan<Float> {
  /// Row `index` of a row-major matrix, for writing; the only use of the underscored method.
  @_lifetime(&self)
  @inlinable package mutating func row(_ index: Int, columns: Int) -> MutableSpan<Float> {
    _mutatingExtracting(index * columns..<(index + 1) * columns)
  }
}
