/// A selection of visual tokens before the language model, which sees only these.
///
/// It comes before the drops of a policy: a stage 0. Only tokens are selected; none are merged.
///
///     let selection = Preselection(.scope(), .tokens(64))
///     let policy = Preselected(selection, then: PyramidDrop())
///     let stages = try policy.stages(layerCount: 32, visualTokenCount: selection.tokenCount(of: 576))
///     print(stages.map(\.keepCount))  // [32, 16, 8]
public struct Preselection: Sendable, Hashable {
  /// The rule of the selection. The documentation of the functions in `TokenSelection` has the formulas.
  public enum Method: Sendable, Hashable {
    /// The largest attention of the class token in the second last layer of the vision encoder.
    ///
    /// Source: FasterVLM (arXiv 2412.01818); VisionZip's dominant tokens (arXiv 2412.04467).
    case classAttention
    /// Coverage of the features, weighted by the attention of the class token to the power of `alpha`.
    ///
    /// Source: SCOPE (arXiv 2510.24214).
    case scope(alpha: Double = 1)
    /// Tokens as different from each other as possible.
    ///
    /// Source: DivPrune (arXiv 2503.02175).
    case divPrune
    /// Half by the attention in each part of the image in an early layer, half by that in a late one.
    ///
    /// Source: VScan (arXiv 2505.22654), without its merging.
    case localGlobal
    /// Coverage of the question and of the image.
    ///
    /// Source: MMTok (arXiv 2508.18264).
    case mmTok
    /// Tokens relevant to the question and different from each other.
    ///
    /// Source: CDPruner (arXiv 2506.10967). Without CLIP's text encoder, the embeddings of the language model take its
    /// place.
    case cdPruner
    /// Relevance, diversity and coverage, with these weights of the last two.
    ///
    /// Source: TOPS (arXiv 2606.27161).
    case tops(alpha: Double = 0.5, lambda: Double = 0.5)
  }

  /// The number of tokens to select.
  public enum Size: Sendable, Hashable {
    case tokens(Int)
    /// A share of the image's tokens, rounded to nearest, halves to even; at least one token, unless the share is 0.
    case share(Double)
  }

  /// What is selected from in an image of several views.
  public enum Budget: String, Sendable, Hashable, CaseIterable {
    /// Each view by itself, with an equal part of the tokens.
    case view
    /// All views together.
    case image
  }

  /// What the selection sees of the tiles of LLaVA-NeXT. Images without tiles are the same in all packings.
  public enum Packing: String, Sendable, Hashable, CaseIterable {
    /// Padding is removed first. The newline of a row enters with the first token of the row.
    case unpadded
    /// All patches, those of padding too, and no newlines.
    ///
    /// Source: the codes of FasterVLM, VisPruner, VisionZip, SCOPE, MMTok and CDPruner.
    case patches
    /// The packed sequence without padding, whose newlines are tokens like others.
    ///
    /// Source: the code of DivPrune.
    case sequence
  }

  public var method: Method
  public var size: Size
  public var budget: Budget
  public var packing: Packing

  public init(_ method: Method, _ size: Size, budget: Budget = .view, packing: Packing = .unpadded) {
    (self.method, self.size, self.budget, self.packing) = (method, size, budget, packing)
  }

  /// The number of tokens selected from `count` tokens of an image, newline tokens included.
  ///
  /// `.localGlobal` selects fewer than asked for if the 16 windows of a view do not divide half of the number, as in
  /// the published code: 72 for 80.
  public func tokenCount(of count: Int) -> Int {
    let wanted =
      switch size {
      case .tokens(let tokens): max(0, min(tokens, count))
      case .share(let share):
        max(share > 0 ? min(1, count) : 0, Int((Double(count) * min(max(share, 0), 1)).rounded(.toNearestOrEven)))
      }
    guard method == .localGlobal, wanted < count else { return wanted }
    return wanted / 2 / Self.windowCount * Self.windowCount + wanted - wanted / 2
  }

  /// Number of windows of a view in `.localGlobal`.
  public static let windowCount = 16

  /// The same selection of another number of tokens.
  public func selecting(_ size: Size) -> Preselection {
    var selection = self
    selection.size = size
    return selection
  }
}

extension Preselection.Method {
  /// The name on the command line and in reports.
  public var name: String {
    switch self {
    case .classAttention: "class-attention"
    case .scope: "scope"
    case .divPrune: "divprune"
    case .localGlobal: "local-global"
    case .mmTok: "mmtok"
    case .cdPruner: "cdpruner"
    case .tops: "tops"
    }
  }

  /// The packing of the method's own code; `nil` if there is none, or none whose number of tokens is known before the
  /// image is encoded.
  ///
  /// VScan removes padding after its selection, so its number depends on the image. TOPS has published no code.
  public var paperPacking: Preselection.Packing? {
    switch self {
    case .classAttention, .scope, .mmTok, .cdPruner: .patches
    case .divPrune: .sequence
    case .localGlobal, .tops: nil
    }
  }

  /// All methods with their published settings.
  public static let all: [Preselection.Method] = [
    .classAttention, .scope(), .divPrune, .localGlobal, .mmTok, .cdPruner, .tops(),
  ]

  /// Whether the selection needs a vision encoder with a class token.
  public var usesClassAttention: Bool {
    switch self {
    case .classAttention, .scope, .localGlobal, .tops: true
    case .divPrune, .mmTok, .cdPruner: false
    }
  }

  /// Whether the selection compares the vision encoder's features of single patches.
  public var usesPatchFeatures: Bool {
    switch self {
    case .scope, .mmTok: true
    case .classAttention, .divPrune, .localGlobal, .cdPruner, .tops: false
    }
  }

  /// Whether the selection depends on the question. Others are the same for all questions about an image.
  public var usesQuestion: Bool {
    switch self {
    case .mmTok, .cdPruner: true
    default: false
    }
  }

  /// Whether the selection needs the attention of the class token, which not every vision encoder has.
  public var usesClassToken: Bool {
    switch self {
    case .classAttention, .scope, .localGlobal, .tops: true
    case .divPrune, .mmTok, .cdPruner: false
    }
  }
}

extension Preselection {
  /// Checks that the method can choose newlines, if they are tokens like others.
  fileprivate func checkPacking() throws(DropPolicyError) {
    guard packing != .sequence || method == .divPrune else { throw .packing(method: method.name) }
  }
}

/// A policy after a selection whose number of tokens is solved per prompt: the largest within the cost target.
public struct TargetedPreselection: TokenDroppingPolicy {
  /// The selection; its size is not used.
  public var selection: Preselection
  public var policy: any TokenDroppingPolicy
  public var target: CostTarget
  /// The timing of this machine; required for a target in seconds.
  public var timing: PrefillTiming?

  /// - Parameter policy: The drops after the selection, without a target of their own.
  public init(
    _ method: Preselection.Method, budget: Preselection.Budget = .view, packing: Preselection.Packing = .unpadded,
    then policy: any TokenDroppingPolicy, _ target: CostTarget, timing: PrefillTiming? = nil
  ) {
    selection = Preselection(method, .share(1), budget: budget, packing: packing)
    (self.policy, self.target, self.timing) = (policy, target, timing)
  }

  public var name: String { policy.name }
  public var preselection: Preselection? { selection }

  /// The policy's stages for all tokens, because the number is solved later, per prompt.
  public func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage] {
    try selection.checkPacking()
    return try policy.stages(layerCount: layerCount, visualTokenCount: visualTokenCount)
  }
}

/// A policy after a selection of tokens before the language model.
///
/// The policy sees the selected tokens as if the image had no others.
public struct Preselected: TokenDroppingPolicy {
  public var selection: Preselection
  public var policy: any TokenDroppingPolicy

  public init(_ selection: Preselection, then policy: any TokenDroppingPolicy) {
    (self.selection, self.policy) = (selection, policy)
  }

  public var name: String { policy.name }
  public var preselection: Preselection? { selection }

  public func stages(layerCount: Int, visualTokenCount: Int) throws(DropPolicyError) -> [DropStage] {
    try selection.checkPacking()
    switch selection.size {
    case .tokens(let tokens) where tokens < 0: throw .selectionOutOfRange(tokens: tokens)
    case .share(let share) where !(0...1).contains(share): throw .ratioOutOfRange(ratio: share)
    default: return try policy.stages(layerCount: layerCount, visualTokenCount: visualTokenCount)
    }
  }
}
