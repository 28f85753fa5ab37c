import ModelFormats
import PDrop

/// A model that the paper reports on, and what it reports.
///
/// Source: PyramidDrop (arXiv 2410.17247), table 5 and figure 4.
enum PaperModel: CaseIterable {
  case llava15, llavaNext

  var title: String {
    switch self {
    case .llava15: "LLaVA-1.5-7B"
    case .llavaNext: "LLaVA-NeXT-7B"
    }
  }

  var shape: PublishedShape {
    switch self {
    case .llava15: .llava15With7B
    case .llavaNext: .llavaNext7B
    }
  }

  /// The visual tokens that the paper reckons with; in LLaVA-NeXT those of five views, without the newlines between rows.
  var nominalTokens: Int {
    switch self {
    case .llava15: 576
    case .llavaNext: 2880
    }
  }

  /// A picture that has the nominal tokens, in LLaVA-NeXT with 48 newlines more.
  var picture: PixelSize {
    switch self {
    case .llava15: PixelSize(height: 336, width: 336)
    case .llavaNext: PixelSize(height: 672, width: 672)
    }
  }

  /// TFLOPs of the decoder as table 5 prints them, a multiply-add as one, for visual tokens alone.
  func teraflops(_ schedule: PaperSchedule) -> String? {
    switch (self, schedule) {
    case (.llava15, .none): "3.82"
    case (.llava15, .pyramidDrop): "1.78"
    case (.llava15, .fastV): "2.01"
    case (.llavaNext, .none): "20.8"
    case (.llavaNext, .pyramidDrop): "9.46"
    case (.llavaNext, .fastV): "10.6"
    default: nil
    }
  }
}

/// The schedules that the paper's tables and figures compare.
enum PaperSchedule: Hashable {
  case none, fastV, pyramidDrop
  /// Table 4.
  case lambda(Double)
  /// Figure 1: one drop after a layer, to a share of the tokens.
  case single(layer: Int, kept: Double)
  /// Figure 4: a policy at a share of the operations without dropping.
  case share(PolicyShare)

  struct PolicyShare: Hashable {
    var policy: String
    var share: Double
  }

  /// The three of table 5.
  static let methods: [PaperSchedule] = [.none, .fastV, .pyramidDrop]
  /// Table 4; 0.5 is among the methods.
  static let lambdas: [PaperSchedule] = [.lambda(0.4), .lambda(0.6)]
  /// Figure 1. The paper draws curves for these layers; the shares are ours.
  static let single: [PaperSchedule] = [2, 8, 16, 24].flatMap { layer in
    [0.75, 0.5, 0.25, 0.1].map { .single(layer: layer, kept: $0) }
  }
  /// Figure 4: 8, 10, 12 and 14 of the 20.8252 TFLOPs that LLaVA-NeXT-7B takes.
  static let shares = [8, 10, 12, 14].map { $0 / 20.8252 }

  /// Figure 4 for some policies.
  static func operatingPoints(_ policies: [String]) -> [PaperSchedule] {
    policies.flatMap { policy in shares.map { .share(PolicyShare(policy: policy, share: $0)) } }
  }

  /// The words of the command line.
  var words: String {
    switch self {
    case .none: "none"
    case .fastV: "fastv --fastv-k 2 --fastv-r 0.5"
    case .pyramidDrop: "pyramiddrop --lambda 0.5"
    case .lambda(let lambda): "pyramiddrop --lambda \(lambda)"
    case .single(let layer, let kept): "pyramiddrop --layer-list \(layer) --image-token-ratio-list \(kept)"
    case .share(let point): "\(point.policy) --target-flops \(percent(point.share))"
    }
  }
}
