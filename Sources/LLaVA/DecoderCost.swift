internal import Kernels
package import ModelFormats

/// Multiply-adds of the decoder's layers over a prompt, head and ranking left out.
///
/// A layer over `L` rows costs `L (2 d d_q + 2 d d_kv + 3 d m)` in products and `d_q L (L + 1)` in attention, every query
/// seeing the keys up to its own; `d_q` and `d_kv` are the columns of queries and of keys. Cached rows per layer say what
/// `L` is.
package func prefillMultiplyAdds(rowsPerLayer: [Int], _ configuration: TextConfiguration) -> Int {
  let (perRow, columns) = (productMultiplyAdds(configuration), configuration.heads.queryColumns)
  return rowsPerLayer.reduce(0) { $0 + $1 * perRow + columns * $1 * ($1 + 1) }
}

/// Multiply-adds of the decoder's layers over one generated token, which sees `rowsPerLayer` rows, its own included.
package func decodeMultiplyAdds(rowsPerLayer: [Int], _ configuration: TextConfiguration) -> Int {
  let (perRow, columns) = (productMultiplyAdds(configuration), configuration.heads.queryColumns)
  return rowsPerLayer.reduce(0) { $0 + perRow + 2 * columns * $1 }
}

/// Multiply-adds of a layer's products for one row.
private func productMultiplyAdds(_ configuration: TextConfiguration) -> Int {
  let (d, m, heads) = (configuration.hiddenSize, configuration.intermediateSize, configuration.heads)
  return 2 * d * heads.queryColumns + 2 * d * heads.keyValueColumns + 3 * d * m
}

/// Multiply-adds of the output head for one token.
package func headMultiplyAdds(_ configuration: TextConfiguration) -> Int {
  configuration.hiddenSize * configuration.vocabularySize
}
