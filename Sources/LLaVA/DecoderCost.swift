internal import Kernels
package import ModelFormats
internal import TokenDropping

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

/// Multiply-adds of ranking the visual tokens of a prompt, beyond the layers themselves.
///
/// A drop that scores `L` rows, of which `R` leave, makes `R` keys for nothing, and values too where it weighs them, unless it
/// scores with a layer that has run. A query costs `d d_q`, its attention `L d_q`, norms `L d_kv`, weights `L` a head, and a line
/// nine a visual token.
package func rankMultiplyAdds(
  _ plan: DropPlan, rowCount: Int, visualTokenCounts: [Int], _ configuration: TextConfiguration
) -> Int {
  let (d, heads) = (configuration.hiddenSize, configuration.heads)
  var visual = visualTokenCounts.reduce(0, +)
  let text = rowCount - visual
  return plan.drops.reduce(0) { total, drop in
    let (rows, kept) = (text + visual, drop.keepCounts.reduce(0, +))
    defer { visual = kept }
    guard drop.ranking.readsLayer else { return total }
    let unused = drop.scoresWithNextLayer ? (visual - kept) * d * heads.keyValueColumns : 0
    let attention = (drop.scoresWithNextLayer ? d * heads.queryColumns : 0) + rows * heads.queryColumns
    switch drop.ranking {
    case .attention, .attentionWithoutRotation: return total + unused + attention
    case .attentionDebiased: return total + unused + attention + 9 * visual
    case .valueWeighted:
      return total + 2 * unused + attention + rows * (heads.keyValueColumns + heads.headCount)
    case .keyNorm: return total + unused + rows * heads.keyValueColumns
    case .random, .uniform: return total
    }
  }
}
