package import Kernels
package import ModelFormats
package import TokenDropping

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

/// The cost of the visual tokens of a prompt by the paper's formula.
///
/// A layer costs `4 n d² + 2 n² d + 3 n d m` for `n` visual tokens; a multiply-add counts as one; text, vision encoder, projector,
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

/// What a prompt costs under one plan of drops or another, by closed formulas: nothing is run.
package struct PrefillCost: Sendable {
  package let configuration: TextConfiguration
  /// Tokens of the prompt beside its images.
  package let textTokens: Int
  /// Tokens of each image.
  package let visualTokenCounts: [Int]
  /// Views of all images that the vision encoder has to look at.
  package let viewCount: Int
  /// How keys and values are kept.
  package let cacheElement: ElementType

  package init(
    _ configuration: TextConfiguration, textTokens: Int, visualTokenCounts: [Int], viewCount: Int,
    cacheElement: ElementType
  ) {
    self.configuration = configuration
    self.textTokens = textTokens
    self.visualTokenCounts = visualTokenCounts
    self.viewCount = viewCount
    self.cacheElement = cacheElement
  }

  package var visualTokenCount: Int { visualTokenCounts.reduce(0, +) }
  private var layerCount: Int { configuration.layerCount }
  private var rowCount: Int { textTokens + visualTokenCount }

  /// The drops that a policy plans for the prompt.
  package func plan(_ policy: any TokenDroppingPolicy) throws(DropPolicyError) -> DropPlan {
    try DropPlan(policy, layerCount: layerCount, visualTokenCounts: visualTokenCounts)
  }

  /// Visual tokens in each stage, from all to what the last layers see.
  package func tokensPerStage(_ plan: DropPlan) -> [Int] {
    [visualTokenCount] + plan.drops.map { $0.keepCounts.reduce(0, +) }
  }

  /// Visual tokens, mean over layers: what papers that compare methods at 192, 128 or 64 tokens mean for methods of several
  /// stages.
  package func averageTokens(_ plan: DropPlan) -> Double {
    let visual = rowsPerLayer(plan).reduce(0) { $0 + $1 - textTokens }
    return Double(visual) / Double(layerCount)
  }

  /// Visual tokens, mean over stages, however long these are.
  package func stageAverageTokens(_ plan: DropPlan) -> Double {
    let stages = tokensPerStage(plan)
    return Double(stages.reduce(0, +)) / Double(stages.count)
  }

  /// Operations of the decoder's layers over the prompt and of ranking, as they are counted at the kernels.
  package func flops(_ plan: DropPlan) -> Int {
    2 * prefillMultiplyAdds(rowsPerLayer: rowsPerLayer(plan), configuration)
      + 2 * rankMultiplyAdds(plan, rowCount: rowCount, visualTokenCounts: visualTokenCounts, configuration)
  }

  /// `flops` over those without dropping.
  package func flopsShare(_ plan: DropPlan) -> Double { Double(flops(plan)) / Double(max(1, flops(.none))) }

  /// The paper's count for the visual tokens.
  package func paperFlops(_ plan: DropPlan) -> Double {
    LLaVA.paperFlops(plan, visualTokenCount: visualTokenCount, configuration)
  }

  /// Keys and values after the prompt.
  package func cacheBytes(_ plan: DropPlan) -> Int {
    KVCache.byteCount(rowsPerLayer: rowsPerLayer(plan), configuration, element: cacheElement)
  }

  /// From the decoded images to the first token; ranking, a hundredth of the layers, is left out.
  package func firstTokenSeconds(_ plan: DropPlan, _ timing: PrefillTiming) -> Double {
    rowsPerLayer(plan).reduce(Double(viewCount) * timing.secondsPerView + timing.headSeconds) {
      $0 + timing.layerSeconds($1)
    }
  }

  private func rowsPerLayer(_ plan: DropPlan) -> [Int] {
    plan.rowsPerLayer(rowCount: rowCount, visualTokenCount: visualTokenCount, layerCount: layerCount)
  }
}

/// Bytes that computing takes beside weights and caches, by the shapes of what is computed.
package struct WorkingMemory: Sendable, Equatable {
  /// The decoder's, which stays from one request to the next.
  package let decoder: Int
  /// The vision encoder's and the projector's, and the features on their way into the prompt.
  package let visionEncoder: Int

  package var total: Int { decoder + visionEncoder }

  /// - Parameters:
  ///   - rows: Of the longest prompt.
  ///   - views: Of the image with the most of them.
  ///   - visualTokens: Of all images of a prompt.
  ///   - sequences: Decoded together.
  package init(_ model: LLaVAModel, rows: Int, views: Int, visualTokens: Int, sequences: Int) {
    let (text, vision) = (model.configuration.text, model.configuration.vision)
    let float = ElementType.f32.byteCount
    func converted(_ computeType: ComputeType) -> Int {
      switch computeType {
      case .f32: 0
      case .bf16: 2
      case .int8: 1
      }
    }

    // The matrices of `DecoderState`, a product's input in the numbers that it multiplies, and logits, twice.
    let heads = text.heads
    let columns = 2 * text.hiddenSize + 2 * heads.queryColumns + 2 * heads.keyValueColumns + 2 * text.intermediateSize
    let input =
      converted(model.languageModel.layers.first?.queries.computeType ?? .f32)
      * max(text.hiddenSize, text.intermediateSize)
    decoder = rows * (float * columns + input) + 2 * float * sequences * text.vocabularySize

    // The matrices of `VisionScratch` and their source, the pixels and the patches cut from them, and the projector's.
    let (visionRows, side) = (views * (1 + vision.patchCount), vision.imageSize)
    let visionColumns = 7 * vision.hiddenSize + vision.intermediateSize
    let visionEncoderInput =
      converted(model.vision.layers.first?.queries.computeType ?? .f32)
      * max(vision.hiddenSize, vision.intermediateSize)
    let embedding = float * 2 * views * 3 * side * side
    let projector = float * 2 * visionRows * text.hiddenSize
    visionEncoder =
      visionRows * (float * visionColumns + visionEncoderInput) + embedding + projector
      + 2 * float * visualTokens * text.hiddenSize
  }
}

extension KVCache {
  /// Bytes of caches that hold so many rows in each layer.
  package static func byteCount(
    rowsPerLayer: [Int], _ configuration: TextConfiguration, element: ElementType
  ) -> Int {
    rowsPerLayer.reduce(0, +) * 2 * configuration.heads.keyValueColumns * element.byteCount
  }
}

/// What a decoder layer takes for `n` rows, as `a + b n + c n²`: what it takes at least, products, and attention.
package struct LayerCostFit: Sendable, Equatable {
  /// Milliseconds.
  package let a: Double
  /// Milliseconds per row.
  package let b: Double
  /// Milliseconds per row and row.
  package let c: Double
  /// Root of the mean squared relative difference between the fit and what it was fitted to.
  package let residual: Double

  /// Fits what was measured so that the squared relative differences are least: short times count as much as long ones.
  ///
  /// - Parameter measured: At least three different numbers of rows and their milliseconds, all above zero.
  /// - Returns: `nil` when the measurements do not say what the curve is.
  package init?(_ measured: [(rows: Int, milliseconds: Double)]) {
    guard Set(measured.map(\.rows)).count >= 3, let most = measured.map(\.rows).max(), most > 0,
      measured.allSatisfy({ $0.milliseconds > 0 })
    else { return nil }
    // Columns of like size: the rows as shares of the most.
    var matrix: [Double] = []
    for (rows, milliseconds) in measured {
      let share = Double(rows) / Double(most)
      matrix += [1 / milliseconds, share / milliseconds, share * share / milliseconds]
    }
    guard let x = leastSquares(matrix, columns: 3, measured.map { _ in 1 }) else { return nil }
    let fit = Self(a: x[0], b: x[1] / Double(most), c: x[2] / Double(most * most), residual: 0)
    let differences = measured.map { fit.milliseconds($0.rows) / $0.milliseconds - 1 }
    let meanSquare = differences.reduce(0) { $0 + $1 * $1 } / Double(differences.count)
    self.init(a: fit.a, b: fit.b, c: fit.c, residual: meanSquare.squareRoot())
  }

  private init(a: Double, b: Double, c: Double, residual: Double) {
    (self.a, self.b, self.c, self.residual) = (a, b, c, residual)
  }

  /// Milliseconds for so many rows.
  package func milliseconds(_ rows: Int) -> Double { a + Double(rows) * (b + Double(rows) * c) }
}
