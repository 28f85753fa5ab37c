package import Kernels
package import ModelFormats

/// Keys and values of every decoder layer for one sequence, which owns them.
///
/// Layers hold different numbers of rows once visual tokens have been dropped between them: a layer keeps what its own stage
/// saw, and nothing is taken from it later.
package final class KVCache {
  package let layers: [LayerCache]

  /// - Parameter element: How keys and values are stored, `f32` or, rounded, `bf16`.
  package init(_ configuration: TextConfiguration, element: ElementType = .f32) {
    layers = (0..<configuration.layerCount).map { _ in
      LayerCache(columns: configuration.heads.keyValueColumns, element: element)
    }
  }

  private init(layers: [LayerCache]) { self.layers = layers }

  /// A copy, with room for `rows` in each layer that holds any.
  package func copy(rows: Int) -> KVCache {
    KVCache(layers: layers.map { LayerCache(copying: $0, rows: $0.length == 0 ? 0 : rows) })
  }

  /// Cached rows per layer.
  package var lengths: [Int] { layers.map(\.length) }

  /// Bytes of all cached rows.
  package var byteCount: Int { layers.reduce(0) { $0 + $1.byteCount } }
}
