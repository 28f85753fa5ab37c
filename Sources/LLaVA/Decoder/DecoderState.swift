package import Kernels
package import ModelFormats

/// The working memory of the decoder: rows on their way through the layers.
///
/// One owner at a time; requests that follow each other share it, so that they touch no new memory.
package struct DecoderState: ~Copyable {
  /// The residual stream, `[T, D]`.
  package var hidden: Matrix
  /// If set, the last row of `hidden` in front of the first layer and behind each layer is kept in `lastRows`.
  package var recordsLastRows = false
  package var lastRows: [[Float]] = []

  var normed: Matrix
  /// Queries of the layer that ran last, rotated.
  var queries: Matrix
  var keys: Matrix
  var values: Matrix
  var attended: Matrix
  var gate: Matrix
  var up: Matrix
  var rotary: RotaryTable
  /// The position of each row in the layer at work.
  private(set) var positions: [Int] = []

  package init(_ configuration: TextConfiguration) {
    func matrix(_ columns: Int) -> Matrix { Matrix(rows: 0, columns: columns) }
    let heads = configuration.heads
    hidden = matrix(configuration.hiddenSize)
    normed = matrix(configuration.hiddenSize)
    queries = matrix(heads.queryColumns)
    keys = matrix(heads.keyValueColumns)
    values = matrix(heads.keyValueColumns)
    attended = matrix(heads.queryColumns)
    gate = matrix(configuration.intermediateSize)
    up = matrix(configuration.intermediateSize)
    rotary = RotaryTable(
      headDimension: heads.headDimension, theta: configuration.ropeTheta, scaling: configuration.ropeScaling)
  }

  /// Sets `positions` for rows that go on where a layer's cache ends.
  mutating func place(_ rows: some Sequence<Int>, after cache: LayerCache) {
    positions.removeAll(keepingCapacity: true)
    for row in rows { positions.append(cache.nextPosition + row) }
  }

  /// Sets `positions` for rows that each go on where the cache of its own sequence ends.
  mutating func place(after caches: [KVCache], layer: Int) {
    positions.removeAll(keepingCapacity: true)
    for cache in caches { positions.append(cache.layers[layer].nextPosition) }
  }

  mutating func recordLastRow() {
    guard recordsLastRows, hidden.rows > 0 else { return }
    lastRows.append(hidden.rowValues(hidden.rows - 1))
  }
}
