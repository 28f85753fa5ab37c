/// Rotated keys and values of one layer for one sequence; a class only because arrays hold no noncopyable elements.
package final class LayerCache {
  package private(set) var keys: CacheRows
  package private(set) var values: CacheRows
  /// The position of the next token in this layer.
  package private(set) var nextPosition = 0

  package init(columns: Int, element: ElementType) {
    keys = CacheRows(columns: columns, element: element)
    values = CacheRows(columns: columns, element: element)
  }

  /// A copy with room for `rows` in all.
  package init(copying other: LayerCache, rows: Int) {
    keys = CacheRows(copying: other.keys, capacity: rows)
    values = CacheRows(copying: other.values, capacity: rows)
    nextPosition = other.nextPosition
  }

  package var length: Int { keys.rows }

  package var byteCount: Int { keys.byteCount + values.byteCount }

  /// Makes room for `rows` in all, so that decoding moves nothing.
  package func reserve(rows: Int) {
    keys.reserve(rows: rows)
    values.reserve(rows: rows)
  }

  /// Appends some rows of new keys and values, of which the last stands at `lastPosition`.
  package func append(
    keys newKeys: borrowing Matrix, values newValues: borrowing Matrix, rows: Range<Int>, lastPosition: Int
  ) {
    keys.append(newKeys, rows: rows)
    values.append(newValues, rows: rows)
    nextPosition = lastPosition + 1
  }
}
