package import Kernels
package import ModelFormats
package import TokenDropping

/// Multiply-adds of the decoder's layers over a prompt, without head and ranking.
///
/// A layer over `T` rows costs `T (2 D Q + 2 D K + 3 D F)` in matmuls and `Q T (T + 1)` in causal attention. `Q = H ·
/// d` and `K = kvHeads · d` are the columns of queries and keys.
///
/// - Parameter rowsPerLayer: `T` of each layer: the rows of its KV cache.
package func prefillMultiplyAdds(rowsPerLayer: [Int], _ configuration: TextConfiguration) -> Int {
  let (perRow, columns) = (matmulMultiplyAdds(configuration), configuration.heads.queryColumns)
  return rowsPerLayer.reduce(0) { $0 + $1 * perRow + columns * $1 * ($1 + 1) }
}

/// Multiply-adds of the decoder's layers over one generated token.
///
/// - Parameter rowsPerLayer: Rows of the KV cache of each layer, the token's own included.
package func decodeMultiplyAdds(rowsPerLayer: [Int], _ configuration: TextConfiguration) -> Int {
  let (perRow, columns) = (matmulMultiplyAdds(configuration), configuration.heads.queryColumns)
  return rowsPerLayer.reduce(0) { $0 + perRow + 2 * columns * $1 }
}

/// Multiply-adds of a layer's matmuls for one row.
private func matmulMultiplyAdds(_ configuration: TextConfiguration) -> Int {
  let (d, m, heads) = (configuration.hiddenSize, configuration.intermediateSize, configuration.heads)
  return 2 * d * heads.queryColumns + 2 * d * heads.keyValueColumns + 3 * d * m
}

/// Multiply-adds of the output head for one token.
package func headMultiplyAdds(_ configuration: TextConfiguration) -> Int {
  configuration.hiddenSize * configuration.vocabularySize
}

/// Multiply-adds of ranking the visual tokens of a prompt, in addition to the layers themselves.
///
/// A drop scores `T` rows and removes `R` of them. If it scores with the next layer, the keys of the `R` rows count as
/// ranking, and so do their values if it weights by them. The last row's query costs `D Q`, its attention `T Q`, norms
/// `T K`, weights `T` per head, and the least-squares line 9 per visual token; `Q` and `K` as in `prefillMultiplyAdds`.
/// Text raters cost that for each of them, and `D` for each pair of a text and a visual token; their number depends on
/// the prompt, so the result is an upper bound, with all text tokens as raters. The choice by coverage costs `D` for each
/// pair of visual tokens of an image.
package func rankMultiplyAdds(
  _ plan: DropPlan, rowCount: Int, visualTokenCounts: [Int], _ configuration: TextConfiguration
) -> Int {
  let (d, heads) = (configuration.hiddenSize, configuration.heads)
  let text = rowCount - visualTokenCounts.reduce(0, +)
  var visual = plan.enteringTokens(of: rowCount - text)
  var current = plan.selection?.counts ?? visualTokenCounts
  return plan.drops.reduce(0) { total, drop in
    let (rows, kept) = (text + visual, drop.keepCounts.reduce(0, +))
    defer { (visual, current) = (kept, drop.keepCounts) }
    let total = total + coverageMultiplyAdds(drop, current, d)
    guard drop.ranking.needsScoringLayer else { return total }
    let unused = drop.scoresWithNextLayer ? (visual - kept) * d * heads.keyValueColumns : 0
    let attention = (drop.scoresWithNextLayer ? d * heads.queryColumns : 0) + rows * heads.queryColumns
    switch drop.ranking {
    case .attention, .attentionWithoutRotation: return total + unused + attention
    case .attentionDebiased: return total + unused + attention + 9 * visual
    case .valueWeighted:
      return total + 2 * unused + attention + rows * (heads.keyValueColumns + heads.headCount)
    case .keyNorm: return total + unused + rows * heads.keyValueColumns
    case .textRaters: return total + unused + text * (attention + visual * d)
    case .random, .uniform: return total
    }
  }
}

/// Multiply-adds of a choice by coverage among tokens of images: cosines of all pairs, and norms.
private func coverageMultiplyAdds(_ drop: DropPlan.Drop, _ counts: [Int], _ columns: Int) -> Int {
  guard drop.choice != .top else { return 0 }
  return zip(counts, drop.keepCounts).enumerated().reduce(0) { total, image in
    let padding = drop.droppedFirst.isEmpty ? 0 : drop.droppedFirst[image.offset].count
    let candidates = max(0, image.element.0 - padding)
    return total + (image.element.1 < candidates ? candidates * (candidates + 1) * columns : 0)
  }
}

/// Cost of the visual tokens of a prompt by the paper's formula.
///
/// In the paper's letters, a layer costs `4 n d² + 2 n² d + 3 n d m` for `n` visual tokens, hidden size `d` and
/// intermediate size `m`. A multiply-add counts as one. Text, vision encoder, projector, head, ranking and decode are
/// not included.
///
/// Source: PyramidDrop, section 4.1 and equation 4, which give 3.82, 1.78 and 2.01 TFLOPs for LLaVA-1.5-7B.
package func paperFlops(_ plan: DropPlan, visualTokenCount: Int, _ configuration: TextConfiguration) -> Double {
  let (d, m) = (Double(configuration.hiddenSize), Double(configuration.intermediateSize))
  var (total, n) = (0.0, Double(plan.enteringTokens(of: visualTokenCount)))
  for layer in 0..<configuration.layerCount {
    if let drop = plan.drops.first(where: { $0.afterLayer == layer }) { n = Double(drop.keepCounts.reduce(0, +)) }
    total += 4 * n * d * d + 2 * n * n * d + 3 * n * d * m
  }
  return total
}

/// Cost of a prompt under any drop plan, by closed formulas; the model is not run.
package struct PrefillCost: Sendable {
  package let configuration: TextConfiguration
  /// Text tokens of the prompt.
  package let textTokens: Int
  /// Visual tokens of each image.
  package let visualTokenCounts: [Int]
  /// Views of all images that the vision encoder has to encode.
  package let viewCount: Int
  /// Element type of the KV cache.
  package let cacheType: CacheType
  /// Multiply-adds of the selection of visual tokens before the decoder.
  package var selectionMultiplyAdds: @Sendable (Preselection) -> Int = { _ in 0 }

  package init(
    _ configuration: TextConfiguration, textTokens: Int, visualTokenCounts: [Int], viewCount: Int,
    cacheType: CacheType
  ) {
    self.configuration = configuration
    self.textTokens = textTokens
    self.visualTokenCounts = visualTokenCounts
    self.viewCount = viewCount
    self.cacheType = cacheType
  }

  package var visualTokenCount: Int { visualTokenCounts.reduce(0, +) }
  private var layerCount: Int { configuration.layerCount }
  private var rowCount: Int { textTokens + visualTokenCount }

  /// The drops that a policy plans for the prompt.
  package func plan(_ policy: any TokenDroppingPolicy) throws(DropPolicyError) -> DropPlan {
    try DropPlan(policy, layerCount: layerCount, visualTokenCounts: visualTokenCounts)
  }

  /// Visual tokens in each stage: those that enter the decoder in the first, those of the last layers in the last.
  package func tokensPerStage(_ plan: DropPlan) -> [Int] {
    [plan.enteringTokens(of: visualTokenCount)] + plan.drops.map { $0.keepCounts.reduce(0, +) }
  }

  /// Average retained tokens: visual tokens per layer, as a mean over layers.
  ///
  /// Papers that compare multi-stage methods at 192, 128 or 64 tokens use this number.
  package func averageTokens(_ plan: DropPlan) -> Double {
    let visual = rowsPerLayer(plan).reduce(0) { $0 + $1 - textTokens }
    return Double(visual) / Double(layerCount)
  }

  /// Visual tokens per stage, as a mean over stages of any length.
  package func stageAverageTokens(_ plan: DropPlan) -> Double {
    let stages = tokensPerStage(plan)
    return Double(stages.reduce(0, +)) / Double(stages.count)
  }

  /// Operations of the decoder's layers over the prompt, of selection and of ranking, equal to those counted in the
  /// kernels.
  package func flops(_ plan: DropPlan) -> Int {
    2 * prefillMultiplyAdds(rowsPerLayer: rowsPerLayer(plan), configuration)
      + 2 * rankMultiplyAdds(plan, rowCount: rowCount, visualTokenCounts: visualTokenCounts, configuration)
      + 2 * (plan.selection.map { selectionMultiplyAdds($0.preselection) } ?? 0)
  }

  /// Ratio of `flops` to those of the baseline without dropping.
  package func flopsRatio(_ plan: DropPlan) -> Double { Double(flops(plan)) / Double(max(1, flops(.none))) }

  /// Cost of the visual tokens by the paper's formula.
  package func paperFlops(_ plan: DropPlan) -> Double {
    LLaVA.paperFlops(plan, visualTokenCount: visualTokenCount, configuration)
  }

  /// Bytes of the KV cache after the prompt.
  package func cacheBytes(_ plan: DropPlan) -> Int {
    KVCache.byteCount(rowsPerLayer: rowsPerLayer(plan), configuration, type: cacheType)
  }

  /// TTFT, from the decoded images, by measured times; without ranking, which takes a hundredth of the layers' time.
  package func firstTokenSeconds(_ plan: DropPlan, _ timing: PrefillTiming) -> Double {
    rowsPerLayer(plan).reduce(Double(viewCount) * timing.secondsPerView + timing.headSeconds) {
      $0 + timing.layerSeconds($1)
    }
  }

  private func rowsPerLayer(_ plan: DropPlan) -> [Int] {
    plan.rowsPerLayer(rowCount: rowCount, visualTokenCount: visualTokenCount, layerCount: layerCount)
  }
}

/// Bytes of working memory in addition to weights and KV caches, from the shapes of the matrices.
package struct WorkingMemory: Sendable, Equatable {
  /// Bytes of the decoder's matrices, which are reused by later requests.
  package let decoder: Int
  /// Bytes of the vision encoder and the projector, and of the features until they are spliced.
  package let visionEncoder: Int
  /// Bytes of the selection of visual tokens.
  package let selection: Int

  package var total: Int { decoder + visionEncoder + selection }

  /// - Parameters:
  ///   - rows: Rows of the longest prompt, `T`.
  ///   - views: Views of the image with the most views.
  ///   - visualTokens: Visual tokens of all images of a prompt, `V`.
  ///   - sequences: Number of sequences that are decoded together.
  ///   - selection: Bytes of the selection of visual tokens.
  package init(
    _ model: LLaVAModel, rows: Int, views: Int, visualTokens: Int, sequences: Int, selection: Int = 0
  ) {
    self.selection = selection
    let text = model.configuration.text
    let float = ElementType.f32.byteCount
    func converted(_ computeType: ComputeType) -> Int {
      switch computeType {
      case .f32: 0
      // Blocks have sums and a scale beside the int8 values.
      case .bf16, .blocks: 2
      case .int8: 1
      }
    }

    // The matrices of `DecoderState`, a matmul's input in its compute type, and the logits, twice.
    let heads = text.heads
    let columns = 2 * text.hiddenSize + 2 * heads.queryColumns + 2 * heads.keyValueColumns
    let mlpColumns = 2 * text.intermediateSize + text.hiddenSize
    let mlpRows = min(rows, DecoderState.mlpRowLimit)
    let input =
      converted(model.languageModel.layers.first?.queries.computeType ?? .f32)
      * max(rows * text.hiddenSize, mlpRows * text.intermediateSize)
    decoder =
      float * (rows * columns + mlpRows * mlpColumns) + input + 2 * float * sequences * text.vocabularySize

    // The matrices of `EncoderScratch` and the residual stream, the pixels and their patches, and the projector's
    // matrices.
    guard let vision = model.configuration.vision, let encoder = model.imageEncoder?.vision else {
      visionEncoder = 0
      return
    }
    let batch = min(views, encoder.viewsPerBatch)
    let (visionRows, side) = (batch * vision.rowsPerView, vision.imageSize)
    let visionColumns = 7 * vision.hiddenSize + vision.intermediateSize
    let visionEncoderInput =
      converted(encoder.layers.first?.queries.computeType ?? .f32)
      * max(vision.hiddenSize, vision.intermediateSize)
    let embedding = float * (views + batch) * 3 * side * side
    // A pixel shuffle copies the features instead of expanding them, and leaves fewer rows.
    let isShuffled = model.configuration.pixelShuffle != nil
    let tokensPerView = isShuffled ? model.configuration.visualTokensPerView : vision.rowsPerView
    let projector =
      float
      * (visionRows * (isShuffled ? vision.hiddenSize : text.hiddenSize) + views * tokensPerView * text.hiddenSize)
    visionEncoder =
      visionRows * (float * visionColumns + visionEncoderInput) + embedding + projector
      + 2 * float * visualTokens * text.hiddenSize
  }
}

extension KVCache {
  /// Bytes of a cache with the given number of rows in each layer.
  package static func byteCount(
    rowsPerLayer: [Int], _ configuration: TextConfiguration, type: CacheType
  ) -> Int {
    rowsPerLayer.reduce(0, +) * 2 * type.rowByteCount(configuration.heads)
  }
}

/// Time of a decoder layer over `T` rows, fitted as `a + b T + c T²`: overhead, matmuls and attention.
package struct LayerCostFit: Sendable, Equatable {
  /// Milliseconds.
  package let a: Double
  /// Milliseconds per row.
  package let b: Double
  /// Milliseconds per squared row.
  package let c: Double
  /// Root mean square of the relative differences between the fit and the measurements.
  package let residual: Double

  /// Fits measurements by least squares of the relative differences, so that short times count as much as long ones.
  ///
  /// - Parameter measured: Row counts and milliseconds, all above zero, with at least three different row counts.
  /// - Returns: `nil` if the measurements do not determine the curve.
  package init?(_ measured: [(rows: Int, milliseconds: Double)]) {
    guard Set(measured.map(\.rows)).count >= 3, let maxRows = measured.map(\.rows).max(), maxRows > 0,
      measured.allSatisfy({ $0.milliseconds > 0 })
    else { return nil }
    // Rows are divided by the largest row count, so that the columns have similar sizes.
    var matrix: [Double] = []
    for (rows, milliseconds) in measured {
      let scaled = Double(rows) / Double(maxRows)
      matrix += [1 / milliseconds, scaled / milliseconds, scaled * scaled / milliseconds]
    }
    guard let x = leastSquares(matrix, columns: 3, measured.map { _ in 1 }) else { return nil }
    let fit = Self(a: x[0], b: x[1] / Double(maxRows), c: x[2] / Double(maxRows * maxRows), residual: 0)
    let differences = measured.map { fit.milliseconds($0.rows) / $0.milliseconds - 1 }
    let meanSquare = differences.reduce(0) { $0 + $1 * $1 } / Double(differences.count)
    self.init(a: fit.a, b: fit.b, c: fit.c, residual: meanSquare.squareRoot())
  }

  private init(a: Double, b: Double, c: Double, residual: Double) {
    (self.a, self.b, self.c, self.residual) = (a, b, c, residual)
  }

  /// Milliseconds for a number of rows.
  package func milliseconds(_ rows: Int) -> Double { a + Double(rows) * (b + Double(rows) * c) }
}
