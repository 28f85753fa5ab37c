/// How the visual tokens of an image are put in order before the best are kept.
///
/// Below, `q` is the last prompt token's query and `k` and `v` a token's key and value in a head of the scoring layer, `d` the
/// head dimension; heads that share keys and values see the same ones.
public enum Ranking: Sendable, Hashable {
  /// Mean over heads of `softmax(q · k / √d)` over the whole sequence.
  ///
  /// Source: the codes of PyramidDrop (arXiv 2410.17247) and FastV (arXiv 2403.06764).
  case attention
  /// The same with `q` and `k` before rotary embedding, so that it does not matter how far apart they stand.
  ///
  /// Source of the idea: FEATHER (Endo et al. 2024, arXiv 2412.13180).
  case attentionWithoutRotation
  /// By how much the logarithm of `attention` lies above a straight line over the token's place among its image's tokens: the
  /// line nearest, in least squares, to the logarithms of all tokens of the image that are still there. That is attention
  /// divided by an exponential trend.
  ///
  /// Source of the idea: Zhao et al. 2025, Attention Debiasing for Token Pruning in Vision Language Models (arXiv 2508.17807).
  case attentionDebiased
  /// Mean over heads of `softmax(q · k / √d) · ‖v‖`: what a token can add to the output, not only how much is looked at it.
  ///
  /// Source of the idea: CAPA (arXiv 2602.00247).
  case valueWeighted
  /// The smaller the mean over heads of `‖k‖`, the better; no query is asked. Tokens that are much attended to have small keys.
  ///
  /// Source: ViTCoP (arXiv 2601.17818); Devoto et al. 2024, A Simple and Effective L2 Norm-Based Strategy for KV Cache
  /// Compression (arXiv 2406.11430).
  case keyNorm
  /// At random, reproducibly.
  case random(seed: UInt64)
  /// Evenly spaced.
  case uniform

  /// The name on the command line and in reports.
  public var name: String {
    switch self {
    case .attention: "attention"
    case .attentionWithoutRotation: "attention-norope"
    case .attentionDebiased: "attention-debiased"
    case .valueWeighted: "value-weighted"
    case .keyNorm: "key-norm"
    case .random: "random"
    case .uniform: "uniform"
    }
  }

  /// All of them, with a seed for those that draw lots.
  public static func all(seed: UInt64) -> [Ranking] {
    [
      .attention, .attentionWithoutRotation, .attentionDebiased, .valueWeighted, .keyNorm, .random(seed: seed),
      .uniform,
    ]
  }

  /// Whether it looks at the scoring layer at all.
  public var readsLayer: Bool {
    switch self {
    case .random, .uniform: false
    default: true
    }
  }
}
