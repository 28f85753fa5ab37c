package import Kernels

/// Keys and values of every decoder layer for one request.
///
/// Layers hold different numbers of rows once visual tokens have been dropped between them: a layer keeps what its own stage
/// saw, and nothing is taken from it later.
package struct KVCache: ~Copyable {
  package let layers: [LayerCache]

  /// - Parameter element: How keys and values are stored, `f32` or, rounded, `bf16`.
  package init(layerCount: Int, columns: Int, element: ElementType = .f32) {
    layers = (0..<layerCount).map { _ in LayerCache(columns: columns, element: element) }
  }

  /// Cached rows per layer.
  package var lengths: [Int] { layers.map(\.length) }

  /// Bytes of all cached rows.
  package var byteCount: Int { layers.reduce(0) { $0 + $1.byteCount } }
}

/// Rotated keys and values of one layer; a class only because arrays hold no noncopyable elements. The cache owns it.
package final class LayerCache {
  private(set) var keys: CacheRows
  private(set) var values: CacheRows
  /// The position of the next token in this layer.
  private(set) var nextPosition = 0

  init(columns: Int, element: ElementType) {
    keys = CacheRows(columns: columns, element: element)
    values = CacheRows(columns: columns, element: element)
  }

  package var length: Int { keys.rows }

  var byteCount: Int { keys.byteCount + values.byteCount }

  /// Makes room for `rows` in all, so that decoding moves nothing.
  func reserve(rows: Int) {
    keys.reserve(rows: rows)
    values.reserve(rows: rows)
  }

  /// Appends rows whose last one stands at `lastPosition`.
  func append(keys newKeys: borrowing Matrix, values newValues: borrowing Matrix, lastPosition: Int) {
    keys.append(newKeys)
    values.append(newValues)
    nextPosition = lastPosition + 1
  }
}
