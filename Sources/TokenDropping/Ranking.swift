/// The order in which the visual tokens of an image are kept.
///
/// In the formulas, `q` is the query of the last prompt token, `k` and `v` are the key and value of a visual token in a
/// head of the scoring layer, and `d` is the head dimension. With grouped-query attention, heads share keys and values.
public enum Ranking: Sendable, Hashable {
  /// Mean over heads of `softmax(q · k / √d)` over the whole sequence.
  ///
  /// Source: the code of PyramidDrop (arXiv 2410.17247) and FastV (arXiv 2403.06764).
  case attention
  /// The same with `q` and `k` before RoPE, so that the score does not depend on their distance.
  ///
  /// Source of the idea: FEATHER (Endo et al. 2024, arXiv 2412.13180).
  case attentionWithoutRotation
  /// The residual of `log attention` from its least-squares line over the token index in the image.
  ///
  /// The line is fitted to all remaining tokens of the image. The residual is the logarithm of the attention divided by
  /// an exponential trend.
  ///
  /// Source of the idea: Zhao et al. 2025, Attention Debiasing for Token Pruning in Vision Language Models (arXiv
  /// 2508.17807).
  case attentionDebiased
  /// Mean over heads of `softmax(q · k / √d) · ‖v‖`: the possible contribution of a token to the attention output.
  ///
  /// Source of the idea: CAPA (arXiv 2602.00247).
  case valueWeighted
  /// Mean over heads of `‖k‖`, smallest first, without a query: tokens that get much attention have small keys.
  ///
  /// Source: ViTCoP (arXiv 2601.17818); Devoto et al. 2024, A Simple and Effective L2 Norm-Based Strategy for KV Cache
  /// Compression (arXiv 2406.11430).
  case keyNorm
  /// Mean over heads and over text raters of the attention to the token: tokens of the question that are relevant to the
  /// image, instead of the last prompt token.
  ///
  /// The relevance of a token after the last image is its share of `softmax(x · t)` over these tokens, as a mean over the
  /// visual tokens, by the hidden states `x` and `t` at the drop. Raters are the tokens above the mean; the last prompt
  /// token if there are none.
  ///
  /// Source: SparseVLM (arXiv 2410.04417), which chooses raters once, by the embeddings; TOPS (arXiv 2606.27161), at each
  /// drop.
  case textRaters
  /// A random order, reproducible by its seed.
  case random(seed: UInt64)
  /// Evenly spaced tokens.
  case uniform

  /// The name on the command line and in reports.
  public var name: String {
    switch self {
    case .attention: "attention"
    case .attentionWithoutRotation: "attention-norope"
    case .attentionDebiased: "attention-debiased"
    case .valueWeighted: "value-weighted"
    case .keyNorm: "key-norm"
    case .textRaters: "text-raters"
    case .random: "random"
    case .uniform: "uniform"
    }
  }

  /// All rankings, with a seed for the random one.
  public static func all(seed: UInt64) -> [Ranking] {
    [
      .attention, .attentionWithoutRotation, .attentionDebiased, .valueWeighted, .keyNorm, .textRaters,
      .random(seed: seed), .uniform,
    ]
  }

  /// Whether the ranking needs the scoring layer.
  public var needsScoringLayer: Bool {
    switch self {
    case .random, .uniform: false
    default: true
    }
  }
}
