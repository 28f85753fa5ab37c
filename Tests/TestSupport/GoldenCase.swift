import Foundation

/// An end-to-end run of the reference, in the format of the goldens' README.
public struct GoldenCase: Decodable, Sendable {
  public struct Policy: Decodable, Sendable {
    public var method: String
    public var layers: [Int]?
    public var keep: [Double]?
    public var k: Int?
    public var r: Double?
  }

  public struct Stage: Decodable, Sendable {
    public struct Image: Decodable, Sendable {
      public var start: Int
      public var count: Int
      public var kept: Int
    }

    public var layer: Int
    public var tokensBefore: Int
    public var tokensAfter: Int
    public var images: [Image]

    enum CodingKeys: String, CodingKey {
      case layer, images
      case tokensBefore = "tokens_before"
      case tokensAfter = "tokens_after"
    }
  }

  public struct Run: Decodable, Sendable {
    public var name: String
    public var policy: Policy
    public var tokens: [Int]
    public var text: String
    public var kvLenPrefill: [Int]
    public var kvLenEnd: [Int]
    public var stages: [Stage]

    enum CodingKeys: String, CodingKey {
      case name, policy, tokens, text, stages
      case kvLenPrefill = "kv_len_prefill"
      case kvLenEnd = "kv_len_end"
    }
  }

  public var images: [String]
  public var prompt: String
  public var promptIDs: [Int]
  public var imageSpans: [[Int]]
  public var sequenceLength: Int
  public var numImageTokens: [Int]
  public var newTokens: Int
  public var runs: [Run]

  /// Number of tokens of each span of each image.
  public var spansOfImages: [[Int]] {
    var rest = imageSpans[...]
    return numImageTokens.map { count in
      var spans: [Int] = []
      while spans.reduce(0, +) < count, let span = rest.popFirst() { spans.append(span[1]) }
      return spans
    }
  }

  /// Loads the case `name` of a model, such as `tiny-llava-1.5`, with its tensors.
  public static func load(_ model: String, _ name: String) throws -> (GoldenCase, GoldenTensors) {
    (
      try Goldens.json("cases/\(model)/\(name).json", as: GoldenCase.self),
      try Goldens.tensors("cases/\(model)/\(name).safetensors")
    )
  }

  /// The cases in the folder, as model and name.
  ///
  /// Release builds run all. Unoptimised numeric loops are up to 500 times slower, so debug builds run a few small
  /// cases of each kind of model, with and without images.
  public static let all: [(model: String, name: String)] = {
    let manager = FileManager.default
    let models = (try? manager.contentsOfDirectory(atPath: Goldens.path("cases"))) ?? []
    return models.sorted().flatMap { model in
      ((try? manager.contentsOfDirectory(atPath: Goldens.path("cases/\(model)"))) ?? []).sorted()
        .filter { $0.hasSuffix(".json") }.map { (model, String($0.dropLast(5))) }
        .filter { isOptimized || ["text_only", "multi_turn", "tiny_20x30"].contains($0.1) }
    }
  }()

  enum CodingKeys: String, CodingKey {
    case images, prompt, runs
    case promptIDs = "prompt_ids"
    case imageSpans = "image_spans"
    case sequenceLength = "sequence_length"
    case numImageTokens = "num_image_tokens"
    case newTokens = "new_tokens"
  }
}
