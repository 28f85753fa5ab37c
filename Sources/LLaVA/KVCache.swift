import BasicContainers
package import Kernels
package import ModelFormats

/// Keys and values of every decoder layer for one sequence.
///
/// After a drop, layers have different numbers of rows. Each layer keeps the keys and values of every token that it
/// saw; later drops never evict from earlier layers. A class, as a generation state can be copied and its cache is not.
package final class KVCache {
  /// Keys and values of each layer, `[kvHeads, T, d]` each.
  private(set) var layers: RigidArray<LayerCache>

  package init(_ configuration: TextConfiguration, type: CacheType = .f32) {
    layers = RigidArray(capacity: configuration.layerCount)
    for _ in 0..<configuration.layerCount {
      layers.append(LayerCache(configuration.heads, type: type))
    }
  }

  private init(copying other: KVCache, rows: Int) {
    layers = RigidArray(capacity: other.layers.count)
    for index in 0..<other.layers.count {
      let isEmpty = other.layers[index].length == 0
      layers.append(LayerCache(copying: other.layers[index], rows: isEmpty ? 0 : rows))
    }
  }

  /// A cache of `layerCount` layers, of which the first ones are those of `layer` and the others are empty.
  ///
  /// - Parameters:
  ///   - count: Number of layers that `layer` returns.
  ///   - layer: Returns the layer of an index.
  package init<Failure: Error>(
    _ configuration: TextConfiguration, type: CacheType, count: Int, layer: (Int) throws(Failure) -> LayerCache
  ) throws(Failure) {
    precondition(count <= configuration.layerCount, "KVCache: \(count) of \(configuration.layerCount) layers")
    layers = RigidArray(capacity: configuration.layerCount)
    for index in 0..<configuration.layerCount {
      if index < count {
        layers.append(try layer(index))
      } else {
        layers.append(LayerCache(configuration.heads, type: type))
      }
    }
  }

  /// Calls `body` with a layer.
  package func withLayer<Result, Failure: Error>(
    _ index: Int, _ body: (borrowing LayerCache) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try body(layers[index])
  }

  /// A copy with reserved capacity for `rows` in each layer that is not empty.
  package func copy(rows: Int) -> KVCache { KVCache(copying: self, rows: rows) }

  /// Removes the last rows of each layer, which must be decoded ones, down to these numbers of rows.
  package func truncate(to lengths: [Int]) {
    precondition(lengths.count == layers.count, "truncate: \(lengths.count) lengths for \(layers.count) layers")
    for (index, rows) in lengths.enumerated() { layers[index].truncate(to: rows) }
  }

  /// Removes the last `count` rows of each layer, which must be decoded ones.
  package func removeLast(_ count: Int) {
    for index in 0..<layers.count { layers[index].truncate(to: layers[index].length - count) }
  }

  /// Number of cached rows in each layer.
  package var lengths: [Int] { (0..<layers.count).map { layers[$0].length } }

  /// Bytes of all cached rows.
  package var byteCount: Int { (0..<layers.count).reduce(0) { $0 + layers[$1].byteCount } }

  /// Reserves capacity for `rows` more rows of a layer.
  func reserve(layer: Int, moreRows rows: Int) { layers[layer].reserve(rows: layers[layer].length + rows) }

  /// Appends a range of the rows of new keys and values to a layer; the last one has the position `lastPosition`.
  func append(
    layer: Int, keys: borrowing Matrix, values: borrowing Matrix, rows: Range<Int>, lastPosition: Int,
    workers: Workers
  ) {
    layers[layer].append(keys: keys, values: values, rows: rows, lastPosition: lastPosition, workers: workers)
  }
}
