package import Kernels
package import ModelFormats
package import TokenDropping

/// What a prompt costs under one plan of drops or another, by closed formulas: nothing is run.
package struct PromptCost: Sendable {
  package let configuration: TextConfiguration
  /// Tokens of the prompt beside its pictures.
  package let textTokens: Int
  /// Tokens of each picture.
  package let visualTokenCounts: [Int]
  /// Views of all pictures that the tower has to look at.
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

  /// Keys and values behind the prompt.
  package func cacheBytes(_ plan: DropPlan) -> Int {
    KVCache.byteCount(rowsPerLayer: rowsPerLayer(plan), configuration, element: cacheElement)
  }

  /// From the decoded pictures to the first token; ranking, a hundredth of the layers, is left out.
  package func firstTokenSeconds(_ plan: DropPlan, _ timing: PromptTiming) -> Double {
    rowsPerLayer(plan).reduce(Double(viewCount) * timing.secondsPerView + timing.headSeconds) {
      $0 + timing.layerSeconds($1)
    }
  }

  private func rowsPerLayer(_ plan: DropPlan) -> [Int] {
    plan.rowsPerLayer(rowCount: rowCount, visualTokenCount: visualTokenCount, layerCount: layerCount)
  }
}
