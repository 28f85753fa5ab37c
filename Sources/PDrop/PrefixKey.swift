package import LLaVA
package import TokenDropping

/// The identity of a prompt prefix: the beginning of a prompt, up to and including its last image.
package struct PrefixKey: Equatable {
  package let tokens: [Int]
  package let images: [ImageInput]
  /// The selection of visual tokens; `nil` for all.
  package let preselection: Preselection?
  /// Number of layers before the first drop, which see all of it.
  package let depth: Int
  /// Rows of tokens and images.
  package let rowCount: Int

  /// `nil` for a prompt without images, for one that cannot be computed in two parts, and for one whose visual tokens
  /// depend on the question.
  package init?(_ request: PreparedRequest, _ model: VisionLanguageModel) {
    preselection = request.plan.selection?.preselection
    guard preselection?.method.usesQuestion != true,
      let last = request.report.promptTokens.lastIndex(of: model.imageToken),
      let rows = request.layout(for: model)?.prefixRowCount
    else { return nil }
    tokens = Array(request.report.promptTokens[...last])
    images = request.images
    depth = request.plan.depth(layerCount: model.layerCount)
    rowCount = rows
  }

  package static func == (left: Self, right: Self) -> Bool {
    left.depth == right.depth && left.preselection == right.preselection && left.tokens == right.tokens
      && left.images.elementsEqual(right.images, by: ===)
  }
}

/// A prefix that has been computed, and the cost of encoding its images.
package struct CachedPrefix {
  package let key: PrefixKey
  package let entry: PrefixCacheEntry
  package let imageFlops: [RunReport.Flops]
  /// The tokens of each image that entered the decoder; `nil` for all.
  package let selected: [ImageInput.Selected]?
}
