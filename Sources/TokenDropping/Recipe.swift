/// A published schedule under its name.
///
///     let recipe = Recipe.all.first { $0.name == "tops-64" }
///     print(recipe?.published ?? "")  // 64 tokens
///
/// Layers are those of a model with 32 layers, at the same relative depth in others. Methods that merge tokens do so in
/// their papers only.
public struct Recipe: Sendable {
  public let name: String
  /// What its paper calls the cost.
  public let published: String
  /// Where the settings come from, and how ours depart.
  public let source: String
  public let policy: any TokenDroppingPolicy

  private init(_ name: String, _ published: String, _ source: String, _ policy: any TokenDroppingPolicy) {
    (self.name, self.published, self.source, self.policy) = (name, published, source, policy)
  }

  /// All recipes.
  public static let all: [Recipe] =
    [
      Recipe("pdrop", "270 tokens", "arXiv 2410.17247, its default schedule", PyramidDrop()),
      Recipe("fastv", "K=2, R=50%", "arXiv 2403.06764", FastV()),
    ] + [(192, [300, 200, 110]), (128, [303, 110, 36]), (64, [66, 30, 17])].map(sparseVLM)
    + [192, 128, 64].map(vscan) + [128, 64, 32].map(tops)
    + [192, 128, 64].flatMap { tokens in
      [
        selection("fastervlm", "arXiv 2412.01818", .classAttention, tokens),
        selection("scope", "arXiv 2510.24214", .scope(), tokens),
        selection("divprune", "arXiv 2503.02175", .divPrune, tokens),
        selection("mmtok", "arXiv 2508.18264", .mmTok, tokens),
      ]
    }
    + [128, 64, 32].map {
      selection(
        "cdpruner", "arXiv 2506.10967; without CLIP's text encoder, with embeddings of the language model",
        .cdPruner,
        $0)
    }

  private static func selection(
    _ name: String, _ source: String, _ method: Preselection.Method, _ tokens: Int
  ) -> Recipe {
    Recipe(
      "\(name)-\(tokens)", "\(tokens) tokens", source,
      Preselected(Preselection(method, .tokens(tokens)), then: NoDropping()))
  }

  /// Before the layers whose attention ranks; the code drops after them.
  private static func sparseVLM(_ tokens: Int, _ kept: [Int]) -> Recipe {
    Recipe(
      "sparsevlm-\(tokens)", "\(tokens) tokens",
      "arXiv 2410.04417, token lists of its code, without merging; drops before the layers that rank",
      PyramidDrop(
        .scaled(layers: [2, 6, 15], ofLayers: 32, ratios: kept.map { Double($0) / 576 }), ranking: .textRaters))
  }

  /// A third of the tokens from the middle layer on, which its paper fixes; before it as many as give the average.
  private static func vscan(_ tokens: Int) -> Recipe {
    Recipe(
      "vscan-\(tokens)", "\(tokens) tokens", "arXiv 2505.22654, without merging",
      Preselected(
        Preselection(.localGlobal, .tokens(tokens * 3 / 2)),
        then: PyramidDrop(.scaled(layers: [16], ofLayers: 32, ratios: [1.0 / 3]))))
  }

  /// Twice the tokens before the decoder, then all and a quarter of them. Inside the decoder `lambda` is 1 for 64 and 32.
  private static func tops(_ tokens: Int) -> Recipe {
    Recipe(
      "tops-\(tokens)", "\(tokens) tokens", "arXiv 2606.27161",
      Preselected(
        Preselection(.tops(), .tokens(2 * tokens)),
        then: PyramidDrop(
          .scaled(layers: [12, 24], ofLayers: 32, ratios: [0.5, 0.125]), ranking: .textRaters,
          choice: .coverage(lambda: tokens == 128 ? 0.4 : 1))))
  }
}
