extension Span<Float> {
  /// Row `index` of a row-major block of rows.
  @_lifetime(copy self)
  @inlinable package func row(_ index: Int, columns: Int) -> Span<Float> {
    extracting(index * columns..<(index + 1) * columns)
  }
}

extension MutableSpan<Float> {
  /// Row `index` of a row-major block of rows, to be written; the only place that uses the underscored name.
  @_lifetime(&self)
  @inlinable package mutating func row(_ index: Int, columns: Int) -> MutableSpan<Float> {
    _mutatingExtracting(index * columns..<(index + 1) * columns)
  }
}
