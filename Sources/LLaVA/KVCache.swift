package import Kernels
package import ModelFormats

/// Keys and values of every decoder layer for one sequence.
///
/// After a drop, layers have different numbers of rows. Each layer keeps the keys and values of every token that it
/// saw; later drops never evict from earlier layers.
package final class KVCache {
  /// Keys and values of each layer, `[T, kvHeads · d]` each.
  package let layers: [LayerCache]

  /// - Parameter element: Element type of keys and values: `f32` or, rounded, `bf16`.
  package init(_ configuration: TextConfiguration, element: ElementType = .f32) {
    layers = (0..<configuration.layerCount).map { _ in
      LayerCache(columns: configuration.heads.keyValueColumns, element: element)
    }
  }

  private init(layers: [LayerCache]) { self.layers = layers }

  /// A copy with reserved capacity for `rows` in each layer that is not empty.
  package func copy(rows: Int) -> KVCache {
    KVCache(layers: layers.map { LayerCache(copying: $0, rows: $0.length == 0 ? 0 : rows) })
  }

  /// Number of cached rows in each layer.
  package var lengths: [Int] { layers.map(\.length) }

  /// Bytes of all cached rows.
  package var byteCount: Int { layers.reduce(0) { $0 + $1.byteCount } }
}
