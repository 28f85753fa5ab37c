internal import Kernels

extension LLaVAConfiguration {
  /// Numbers in a checkpoint of this shape, tower included, whether LLaVA needs them or not.
  ///
  /// LLaVA-1.5-7B has 7,063,427,072.
  package var parameterCount: Int {
    let (d, tower) = (text.hiddenSize, vision.hiddenSize)
    let projector = tower * d + d * d + (projectorHasBias ? 2 * d : 0)
    let newline = anyResolution?.merge == .spatialUnpad ? d : 0
    return vision.parameterCount + projector + newline + text.parameterCount(tiesWordEmbeddings: tiesWordEmbeddings)
  }
}

extension TextConfiguration {
  fileprivate func parameterCount(tiesWordEmbeddings: Bool) -> Int {
    let (d, q, kv) = (hiddenSize, heads.queryColumns, heads.keyValueColumns)
    let biases =
      switch attentionBias {
      case .none: 0
      case .queriesKeysValues: q + 2 * kv
      case .all: q + 2 * kv + d
      }
    let layer = 2 * d * (q + kv) + biases + 3 * d * intermediateSize + 2 * d
    return layerCount * layer + d + (tiesWordEmbeddings ? 1 : 2) * vocabularySize * d
  }
}

extension VisionConfiguration {
  /// CLIP's tower: patches without a bias, and a norm behind the last layer.
  fileprivate var parameterCount: Int {
    let (d, m) = (hiddenSize, intermediateSize)
    let embeddings = d + d * 3 * patchSize * patchSize + (1 + patchCount) * d
    let layer = 4 * (d * d + d) + 2 * d * m + m + d + 4 * d
    return embeddings + 2 * d + layerCount * layer + 2 * d
  }
}
