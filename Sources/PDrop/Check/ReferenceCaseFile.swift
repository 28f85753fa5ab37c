internal import TokenDropping

/// The JSON of a reference case, as the goldens' README describes it.
struct ReferenceCaseFile: Decodable {
  struct Policy: Decodable {
    var method: String
    var layers: [Int]?
    var keep: [Double]?
    var k: Int?
    var r: Double?

    /// The policy that is named; `nil` when it is none of the three, or not described.
    var policy: (any TokenDroppingPolicy)? {
      switch (method, layers, keep, k, r) {
      case ("none", _, _, _, _): NoDropping()
      case ("pyramiddrop", let layers?, let keep?, _, _): PyramidDrop(.listed(layers: layers, ratios: keep))
      case ("fastv", _, _, let k?, let r?): FastV(k: k, r: r)
      default: nil
      }
    }
  }

  struct Stage: Decodable {
    struct Picture: Decodable {
      var start: Int
      var count: Int
      var kept: Int
    }

    var layer: Int
    var tokens_before: Int
    var tokens_after: Int
    var images: [Picture]
  }

  struct Run: Decodable {
    var name: String
    var policy: Policy
    var tokens: [Int]
    var text: String
    var kv_len_prefill: [Int]
    var kv_len_end: [Int]
    var stages: [Stage]
  }

  var images: [String]
  var question: String?
  var prompt: String
  var prompt_ids: [Int]
  var image_spans: [[Int]]
  var sequence_length: Int
  var new_tokens: Int
  var runs: [Run]
}
