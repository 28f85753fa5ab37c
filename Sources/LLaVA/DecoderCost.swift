internal import Kernels
package import ModelFormats

/// Multiply-adds of the decoder's layers over a prompt, head and ranking left out.
///
/// A layer over `L` rows costs `L (2 d d_q + 2 d d_kv + 3 d m)` in products and `d_q L (L + 1)` in attention, every query
/// seeing the keys up to its own; `d_q` and `d_kv` are the columns of queries and of keys. Cached rows per layer say what
/// `L` is.
package func prefillMultiplyAdds(rowsPerLayer: [Int], _ configuration: TextConfiguration) -> Int {
  let (d, m, heads) = (configuration.hiddenSize, configuration.intermediateSize, configuration.heads)
  let perRow = 2 * d * heads.queryColumns + 2 * d * heads.keyValueColumns + 3 * d * m
  return rowsPerLayer.reduce(0) { $0 + $1 * perRow + heads.queryColumns * $1 * ($1 + 1) }
}
