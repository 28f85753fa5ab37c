package import Kernels
package import LLaVA
package import TokenDropping

/// Results and costs of a run: the JSON of `--format json` and of a trace.
///
/// The JSON keys are those of the reference goldens, so that both can be compared field by field.
public struct RunReport: Codable, Sendable {
  public var model: String
  public var policy: Policy
  /// Compute type of the decoder.
  public var precision: String
  public var threads: Int
  /// Tokens of the prompt, BOS token included, with one image token per image; in SmolVLM one per view, between the
  /// tokens of the tile markers.
  public var promptTokens: [Int] = []
  /// Start and length of each image in the sequence; in SmolVLM of each view.
  public var imageSpans: [[Int]] = []
  public var sequenceLength = 0
  /// The selection of visual tokens before the decoder; `nil` if all of them enter it.
  public var selection: Selection?
  public var stages: [Stage] = []
  /// Rows of the KV cache in each layer after prefill.
  public var cacheLengthsAfterPrompt: [Int] = []
  /// Rows of the KV cache in each layer after the last decode step.
  public var cacheLengthsAtEnd: [Int] = []
  /// Generated tokens, without the EOS token.
  public var tokens: [Int] = []
  /// The answer, without special tokens.
  public var text = ""
  /// The log-probabilities of `tokens`, if they were asked for.
  public var logprobs: [TokenLogprob]?
  /// The log-probability that the answer begins with each of `GenerationOptions.scoredChoices`.
  public var choiceLogprobs: [String: Double]?
  /// `nil` while the answer is being generated.
  public var finishReason: FinishReason?
  public var timings = Timings()
  public var flops = Flops()
  /// Cost of the visual tokens of the prompt by the paper's formula, which counts a multiply-add as one.
  public var paperFlops = 0.0
  /// Operations of the decoder's layers over the prompt without dropping, by the closed formula.
  public var baselineFlops = 0
  public var cacheBytes = 0
  public var peakResidentBytes = 0
  /// The other answers to the prompt, of a request for several; times and operations include theirs.
  public var alternatives: [Alternative]?

  /// Another answer to the same prompt.
  public struct Alternative: Codable, Sendable {
    public var tokens: [Int]
    public var text: String
    public var logprobs: [TokenLogprob]?
    public var finishReason: FinishReason?

    enum CodingKeys: String, CodingKey {
      case tokens, text, logprobs
      case finishReason = "finish_reason"
    }
  }

  /// The reason for the end of generation.
  public enum FinishReason: String, Codable, Sendable {
    /// The model generated an EOS token or a stop string.
    case stop
    /// The maximum number of new tokens or the context length was reached.
    case length
  }

  /// The policy with its resolved schedule.
  public struct Policy: Codable, Sendable, Equatable {
    public var method: String
    public var layers: [Int]?
    public var keep: [Double]?
    public var k: Int?
    public var r: Double?
    public var seed: UInt64?
    /// The name of a `Ranking`.
    public var ranking: String?
    /// The name of a `ChoiceRule`; `nil` for the largest scores.
    public var choice: String?
    public var positions: String?
    /// Whether padding was dropped before all other tokens; `nil` if it was ranked by its scores.
    public var dropsPaddingFirst: Bool?
    /// The cost target that the strength was solved for, such as `flops 0.45`.
    public var target: String?
    /// The selection of visual tokens before the decoder, such as `scope 64`; `nil` for none.
    public var preselect: String?
    /// What CDPruner compares the question with: `clip`, or `language-model` for its embeddings; `nil` for other
    /// selections.
    public var relevance: String?

    enum CodingKeys: String, CodingKey {
      case method, layers, keep, k, r, seed, positions, target, preselect, relevance
      case ranking = "rank"
      case choice = "select"
      case dropsPaddingFirst = "mask_padding"
    }
  }

  /// The result of a selection before the decoder.
  public struct Selection: Codable, Sendable, Equatable {
    public struct Image: Codable, Sendable, Equatable {
      /// Number of all tokens of the image.
      public var count: Int
      /// Indices of the tokens that entered the decoder, ascending.
      public var kept: [Int]
    }

    /// The name of a `Preselection.Method`.
    public var method: String
    public var images: [Image]

    init(_ selection: Preselection, _ images: [Image]) {
      (method, self.images) = (selection.method.name, images)
    }
  }

  /// The result of a drop.
  public struct Stage: Codable, Sendable, Equatable {
    public struct Image: Codable, Sendable, Equatable {
      public var start: Int
      public var count: Int
      /// Indices of the kept tokens, ascending, among all tokens of the image.
      public var kept: [Int]
    }

    public var layer: Int
    public var scoringLayer: Int
    public var tokensBefore: Int
    public var tokensAfter: Int
    public var images: [Image]

    enum CodingKeys: String, CodingKey {
      case layer, images
      case scoringLayer = "scoring_layer"
      case tokensBefore = "tokens_before"
      case tokensAfter = "tokens_after"
    }
  }

  /// Wall time by phase in milliseconds. Prefill excludes ranking; the total includes loading.
  public struct Timings: Codable, Sendable, Equatable {
    public var load = 0.0
    public var decodeImage = 0.0
    public var preprocess = 0.0
    public var encode = 0.0
    public var project = 0.0
    public var prefill = 0.0
    public var rank = 0.0
    public var decode = 0.0
    public var total = 0.0

    public init() {}

    enum CodingKeys: String, CodingKey {
      case load, preprocess, encode, project, prefill, rank, decode, total
      case decodeImage = "decode_image"
    }
  }

  /// Operations counted in the kernels: twice the multiply-adds.
  public struct Flops: Codable, Sendable, Equatable {
    public var encode = 0
    public var project = 0
    public var prefill = 0
    public var rank = 0
    public var decode = 0
    public var head = 0

    public init(encode: Int = 0, project: Int = 0, prefill: Int = 0, rank: Int = 0, decode: Int = 0, head: Int = 0) {
      (self.encode, self.project, self.prefill) = (encode, project, prefill)
      (self.rank, self.decode, self.head) = (rank, decode, head)
    }

    public var total: Int { encode + project + prefill + rank + decode + head }
  }

  /// Visual tokens of all images in each stage: those of the prompt first, those of the last layers last.
  public var visualTokensPerStage: [Int] {
    [imageSpans.reduce(0) { $0 + $1[1] }] + stages.map { $0.images.reduce(0) { $0 + $1.kept.count } }
  }

  /// Average retained tokens: visual tokens per layer after prefill, as a mean over layers.
  public var averageVisualTokens: Double {
    let text = sequenceLength - (visualTokensPerStage.first ?? 0)
    return Double(cacheLengthsAfterPrompt.reduce(0) { $0 + $1 - text }) / Double(max(1, cacheLengthsAfterPrompt.count))
  }

  /// Visual tokens per stage, as a mean over stages of any length.
  public var stageAverageVisualTokens: Double {
    Double(visualTokensPerStage.reduce(0, +)) / Double(visualTokensPerStage.count)
  }

  enum CodingKeys: String, CodingKey {
    case model, policy, precision, threads, selection, stages, tokens, text, flops, logprobs, alternatives
    case promptTokens = "prompt_ids"
    case imageSpans = "image_spans"
    case sequenceLength = "sequence_length"
    case cacheLengthsAfterPrompt = "kv_len_prefill"
    case cacheLengthsAtEnd = "kv_len_end"
    case choiceLogprobs = "choice_logprobs"
    case finishReason = "finish_reason"
    case timings = "timings_ms"
    case paperFlops = "flops_paper"
    case baselineFlops = "flops_prefill_without_dropping"
    case cacheBytes = "kv_bytes"
    case peakResidentBytes = "peak_rss_bytes"
  }
}

extension RunReport {
  /// Adds another answer to the same prompt, with the time and the operations of its decode steps.
  package mutating func add(_ other: RunReport) {
    alternatives =
      (alternatives ?? []) + [
        Alternative(tokens: other.tokens, text: other.text, logprobs: other.logprobs, finishReason: other.finishReason)
      ]
    flops += other.flops
    timings += other.timings
    cacheBytes += other.cacheBytes
  }

  /// Generated tokens of all answers.
  package var generatedTokenCount: Int { (alternatives ?? []).reduce(tokens.count) { $0 + $1.tokens.count } }
}

extension RunReport.Policy {
  /// The description of a policy, with its schedule resolved for a model.
  package init(_ policy: any TokenDroppingPolicy, layerCount: Int) throws(DropPolicyError) {
    self.init(method: policy.name)
    switch policy {
    case let policy as Preselected:
      // Also checks the selection.
      _ = try policy.stages(layerCount: layerCount, visualTokenCount: 1)
      self = try Self(policy.policy, layerCount: layerCount)
      preselect = policy.selection.label
      return
    case let policy as TargetedPreselection:
      self = try Self(policy.policy, layerCount: layerCount)
      // The number of tokens depends on the prompt.
      (preselect, target) = (policy.selection.labelWithoutSize, policy.target.label)
      return
    case let policy as TargetedDrop:
      // The strength depends on the prompt; the layers do not.
      self = try Self(policy.policy.keeping(1), layerCount: layerCount)
      (keep, r, target) = (nil, nil, policy.target.label)
      return
    case let policy as PyramidDrop: try describe(policy.schedule, layerCount)
    case let policy as UniformDrop: try describe(policy.schedule, layerCount)
    case let policy as RandomDrop: try describe(policy.schedule, layerCount)
    case let policy as FastV: (k, r) = (policy.k, policy.r)
    default: break
    }
    // Ranking and position rule are the same at every drop.
    guard let stage = try policy.stages(layerCount: layerCount, visualTokenCount: 1).first else { return }
    (ranking, positions) = (stage.ranking.name, stage.positions.rawValue)
    if stage.choice != .top { choice = stage.choice.label }
    if stage.dropsPaddingFirst { dropsPaddingFirst = true }
    if case .random(let seed) = stage.ranking { self.seed = seed }
  }

  private mutating func describe(_ schedule: StageSchedule, _ layerCount: Int) throws(DropPolicyError) {
    (layers, keep) = try schedule.resolved(layerCount: layerCount)
  }
}

extension Preselection {
  /// The text in reports: method, number or share of tokens and non-default settings, such as `scope 64`.
  package var label: String { label(of: size) }

  /// The same without the number of tokens.
  package var labelWithoutSize: String { label(of: nil) }

  private func label(of size: Size?) -> String {
    var parts = [method.name]
    switch size {
    case nil: break
    case .tokens(let tokens): parts.append("\(tokens)")
    case .share(let share): parts.append("share \(share)")
    }
    switch method {
    case .scope(let alpha) where alpha != 1: parts.append("alpha \(alpha)")
    case .tops(let alpha, let lambda) where (alpha, lambda) != (0.5, 0.5):
      parts.append("alpha \(alpha) lambda \(lambda)")
    default: break
    }
    if budget != .view { parts.append("of the \(budget.rawValue)") }
    if packing != .unpadded { parts.append("packing \(packing.rawValue)") }
    return parts.joined(separator: " ")
  }
}

extension ChoiceRule {
  /// The text in reports: the name and non-default settings.
  var label: String {
    if case .coverage(let alpha, let lambda) = self, (alpha, lambda) != (0.5, 0.5) {
      "\(name) alpha \(alpha) lambda \(lambda)"
    } else {
      name
    }
  }
}

extension CostTarget {
  /// The text in reports, such as `flops 0.45`.
  var label: String {
    switch self {
    case .averageTokens(let tokens): "tokens \(tokens)"
    case .flops(let ratio): "flops \(ratio)"
    case .cacheBytes(let bytes): "kv \(bytes)"
    case .firstToken(let seconds): "ttft \(seconds)"
    }
  }
}

extension RunReport.Policy: CustomStringConvertible {
  /// The method and its non-default settings.
  public var description: String {
    let relevance = relevance.map { " by \($0 == "clip" ? "CLIP's text encoder" : "the language model's embeddings")" }
    var parts = (preselect.map { ["\($0)\(relevance ?? ""), then \(method)"] } ?? [method])
    if let target { parts.append("for \(target)") }
    if target != nil, let keep { parts.append("keeping " + keep.map { "\($0)" }.joined(separator: ",")) }
    if target != nil, let r { parts.append("r \(r)") }
    if let ranking, ranking != Ranking.attention.name, ranking != method { parts.append("ranked by \(ranking)") }
    if let choice { parts.append("chosen by \(choice)") }
    if dropsPaddingFirst == true { parts.append("padding first") }
    return parts.joined(separator: ", ")
  }
}

extension RunReport.Timings {
  /// Time of all phases, without loading the model.
  package var sumOfPhases: Double { decodeImage + preprocess + encode + project + prefill + rank + decode }

  package static func += (sum: inout Self, time: Self) {
    sum.decodeImage += time.decodeImage
    sum.preprocess += time.preprocess
    sum.encode += time.encode
    sum.project += time.project
    sum.prefill += time.prefill
    sum.rank += time.rank
    sum.decode += time.decode
    sum.total += time.total
  }
}

extension RunReport.Flops {
  package static func += (sum: inout Self, flops: Self) {
    sum.encode += flops.encode
    sum.project += flops.project
    sum.prefill += flops.prefill
    sum.rank += flops.rank
    sum.decode += flops.decode
    sum.head += flops.head
  }

  package static func - (left: Self, right: Self) -> Self {
    Self(
      encode: left.encode - right.encode, project: left.project - right.project, prefill: left.prefill - right.prefill,
      rank: left.rank - right.rank, decode: left.decode - right.decode, head: left.head - right.head)
  }
}

extension RunReport.Stage {
  package init(_ drop: DropResult) {
    self.init(
      layer: drop.layer, scoringLayer: drop.scoringLayer, tokensBefore: drop.tokensBefore,
      tokensAfter: drop.tokensAfter,
      images: drop.images.map { Image(start: $0.start, count: $0.count, kept: $0.kept) })
  }
}

extension RunReport.Flops {
  /// The operations of a ledger: twice its multiply-adds.
  package init(_ ledger: CostLedger) {
    func count(_ phase: Phase) -> Int { 2 * ledger.total(phase) }
    self.init(
      encode: count(.encode), project: count(.project), prefill: count(.prefill), rank: count(.rank),
      decode: count(.decode), head: count(.head))
  }
}

extension RunReport.Timings {
  /// Sets the phases of the compute context to their total durations so far.
  package mutating func add(_ durations: [Phase: Duration]) {
    func milliseconds(_ phase: Phase) -> Double { durations[phase, default: .zero].milliseconds }
    encode = milliseconds(.encode)
    project = milliseconds(.project)
    prefill = milliseconds(.prefill)
    rank = milliseconds(.rank)
    decode = milliseconds(.decode)
  }
}

extension Duration {
  package var milliseconds: Double { Double(components.seconds) * 1e3 + Double(components.attoseconds) * 1e-15 }
}
