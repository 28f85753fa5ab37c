package import ModelFormats

/// The cost of the visual tokens of a prompt by the paper's formula.
///
/// A layer costs `4 n d² + 2 n² d + 3 n d m` for `n` visual tokens; a multiply-add counts as one; text, tower, projector,
/// head, ranking and decoding are left out.
///
/// Source: PyramidDrop, section 4.1 and equation 4, which give 3.82, 1.78 and 2.01 TFLOPs for LLaVA-1.5-7B.
package func paperFlops(_ plan: DropPlan, visualTokenCount: Int, _ configuration: TextConfiguration) -> Double {
  let (d, m) = (Double(configuration.hiddenSize), Double(configuration.intermediateSize))
  var (total, n) = (0.0, Double(visualTokenCount))
  for layer in 0..<configuration.layerCount {
    if let drop = plan.drops.first(where: { $0.afterLayer == layer }) { n = Double(drop.keepCounts.reduce(0, +)) }
    total += 4 * n * d * d + 2 * n * n * d + 3 * n * d * m
  }
  return total
}
