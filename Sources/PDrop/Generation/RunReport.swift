/// What a run did and what it cost: the record that `--format json` prints and a trace keeps.
///
/// Field names in JSON are those of the reference goldens, so the two can be compared field by field.
public struct RunReport: Codable, Sendable {
  public var model: String
  public var policy: Policy
  /// What the decoder's weights were multiplied in.
  public var precision: String
  public var threads: Int
  /// Beginning token included, one image token per picture.
  public var promptTokens: [Int] = []
  /// Start and length of each picture in the sequence.
  public var imageSpans: [[Int]] = []
  public var sequenceLength = 0
  public var stages: [Stage] = []
  /// Cached positions per layer after the prompt.
  public var cacheLengthsAfterPrompt: [Int] = []
  /// Cached positions per layer after the last decoding step.
  public var cacheLengthsAtEnd: [Int] = []
  /// Generated tokens, without the end token.
  public var tokens: [Int] = []
  /// The answer, special tokens skipped.
  public var text = ""
  /// `nil` while the answer is being generated.
  public var finishReason: FinishReason?
  public var milliseconds = Timings()
  public var flops = Flops()
  /// The paper's count for the visual tokens of the prompt, a multiply-add as one.
  public var paperFlops = 0.0
  /// What the layers would have cost over the prompt without dropping, by the closed formula.
  public var flopsWithoutDropping = 0
  public var cacheBytes = 0
  public var peakResidentBytes = 0

  /// Why generation ended.
  public enum FinishReason: String, Codable, Sendable {
    /// The model said the end token.
    case stop
    /// The token limit or the end of the context was reached.
    case length
  }

  /// The policy as it was run.
  public struct Policy: Codable, Sendable, Equatable {
    public var method: String
    public var layers: [Int]?
    public var keep: [Double]?
    public var k: Int?
    public var r: Double?
    public var seed: UInt64?
    /// The name of a `Ranking`.
    public var ranking: String?
    public var positions: String?
    /// Whether padding left first; `nil` where it had no other part than its scores gave it.
    public var masksPadding: Bool?
    /// What the strength was found for, such as `flops 0.45`.
    public var target: String?

    enum CodingKeys: String, CodingKey {
      case method, layers, keep, k, r, seed, positions, target
      case ranking = "rank"
      case masksPadding = "mask_padding"
    }
  }

  /// A drop.
  public struct Stage: Codable, Sendable, Equatable {
    public struct Picture: Codable, Sendable, Equatable {
      public var start: Int
      public var count: Int
      /// Which of the picture's own tokens stayed, ascending.
      public var kept: [Int]
    }

    public var layer: Int
    public var scoringLayer: Int
    public var tokensBefore: Int
    public var tokensAfter: Int
    public var images: [Picture]

    enum CodingKeys: String, CodingKey {
      case layer, images
      case scoringLayer = "scoring_layer"
      case tokensBefore = "tokens_before"
      case tokensAfter = "tokens_after"
    }
  }

  /// Wall time by phase, in milliseconds; ranking is not part of prefill, loading is part of the total.
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

    enum CodingKeys: String, CodingKey {
      case load, preprocess, encode, project, prefill, rank, decode, total
      case decodeImage = "decode_image"
    }
  }

  /// Floating-point operations counted at the kernels: twice the multiply-adds.
  public struct Flops: Codable, Sendable, Equatable {
    public var encode = 0
    public var project = 0
    public var prefill = 0
    public var rank = 0
    public var decode = 0
    public var head = 0

    public var total: Int { encode + project + prefill + rank + decode + head }
  }

  /// Visual tokens of all pictures in each stage, from the whole prompt to what the last layers see.
  public var visualTokensPerStage: [Int] {
    [imageSpans.reduce(0) { $0 + $1[1] }] + stages.map { $0.images.reduce(0) { $0 + $1.kept.count } }
  }

  /// Visual tokens after the prompt, mean over layers.
  public var averageVisualTokens: Double {
    let text = sequenceLength - (visualTokensPerStage.first ?? 0)
    return Double(cacheLengthsAfterPrompt.reduce(0) { $0 + $1 - text }) / Double(max(1, cacheLengthsAfterPrompt.count))
  }

  /// Visual tokens, mean over stages, however long these are.
  public var stageAverageVisualTokens: Double {
    Double(visualTokensPerStage.reduce(0, +)) / Double(visualTokensPerStage.count)
  }

  enum CodingKeys: String, CodingKey {
    case model, policy, precision, threads, stages, tokens, text, flops
    case promptTokens = "prompt_ids"
    case imageSpans = "image_spans"
    case sequenceLength = "sequence_length"
    case cacheLengthsAfterPrompt = "kv_len_prefill"
    case cacheLengthsAtEnd = "kv_len_end"
    case finishReason = "finish_reason"
    case milliseconds = "timings_ms"
    case paperFlops = "flops_paper"
    case flopsWithoutDropping = "flops_prefill_without_dropping"
    case cacheBytes = "kv_bytes"
    case peakResidentBytes = "peak_rss_bytes"
  }
}
