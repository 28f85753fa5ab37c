internal import TokenDropping

/// A prompt with its pictures, and what the reference library made of it, stage by stage.
///
/// What the reference does not store is `nil` and is not compared.
struct ReferenceCase {
  /// A picture and what becomes of it before the decoder.
  struct Picture {
    /// The file's name without its folders.
    var name: String
    var path: String
    /// Whether decoders may differ a little over its pixels.
    var isJPEG: Bool
    /// `[views, 3, S, S]`.
    var pixels: [UInt8]?
    /// `[views, 3, S, S]`, normalised.
    var pixelValues: [Float]?
    /// What enters the tower's first layer, of the first view, `[1 + patches, tower size]`.
    var towerInput: [Float]?
    /// What leaves the tower's feature layer, of the first view, `[1 + patches, tower size]`.
    var towerOutput: [Float]?
    /// What stands for the picture among the embeddings, `[tokens, D]`.
    var features: [Float]?
  }

  /// A drop of visual tokens.
  struct Drop {
    /// A picture's part of it.
    struct Picture {
      var start: Int
      var count: Int
      var scores: [Float]?
      var kept: [Int]?
    }

    var layer: Int
    var tokensBefore: Int
    var tokensAfter: Int
    var pictures: [Picture]
  }

  /// The prompt's way through the decoder under one policy.
  struct Run {
    var name: String
    var policy: any TokenDroppingPolicy
    /// The last prompt row in front of the first layer and behind each, `[layers + 1, D]`.
    var lastRows: [Float]?
    var drops: [Drop]
    var lastLogits: [Float]?
    var finalLogits: [Float]?
    var tokens: [Int]
    var text: String
    var cacheLengthsAfterPrompt: [Int]
    var cacheLengthsAtEnd: [Int]
  }

  /// The file that describes the case.
  var file: String
  /// What was asked, when the prompt was made from that by the model's own prompt format.
  var question: String?
  var prompt: String
  var promptTokens: [Int]
  var pictures: [Picture]
  /// Start and length of each picture in the sequence.
  var imageSpans: [[Int]]
  var sequenceLength: Int
  var runs: [Run]
}
