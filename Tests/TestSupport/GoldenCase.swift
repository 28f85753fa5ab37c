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
    public var tokens_before: Int
    public var tokens_after: Int
    public var images: [Image]
  }

  public struct Run: Decodable, Sendable {
    public var name: String
    public var policy: Policy
    public var tokens: [Int]
    public var text: String
    public var kv_len_prefill: [Int]
    public var kv_len_end: [Int]
    public var stages: [Stage]
  }

  public var images: [String]
  public var prompt: String
  public var prompt_ids: [Int]
  public var image_spans: [[Int]]
  public var sequence_length: Int
  public var num_image_tokens: [Int]
  public var new_tokens: Int
  public var runs: [Run]

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
}
