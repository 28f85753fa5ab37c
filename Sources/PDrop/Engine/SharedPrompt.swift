internal import LLaVA

/// How a prompt begins, up to and including its last picture.
struct PromptStart: Equatable {
  let tokens: [Int]
  let pictures: [PreparedPicture]
  /// Layers that see all of it.
  let depth: Int

  /// `nil` for a prompt without pictures.
  init?(_ request: PreparedRequest, imageToken: Int, layerCount: Int) {
    guard let last = request.record.promptTokens.lastIndex(of: imageToken) else { return nil }
    tokens = Array(request.record.promptTokens[...last])
    pictures = request.pictures
    depth = request.plan.depth(layerCount: layerCount)
  }

  static func == (left: Self, right: Self) -> Bool {
    left.depth == right.depth && left.tokens == right.tokens && left.pictures.elementsEqual(right.pictures, by: ===)
  }
}

/// What the beginning of a prompt has become in the layers that see all of it, for all records that begin alike.
struct SharedPrompt {
  let start: PromptStart
  let prefix: PromptPrefix
  /// What reading it cost, which every record reports as if it had been alone.
  let flops: Int
}

/// What was asked for more than once and computed once, or was known from an earlier run.
package struct BatchSharing: Sendable, Equatable {
  /// Pictures of all records.
  package var picturesAsked = 0
  /// Those of them that had to be encoded.
  package var picturesEncoded = 0
  /// Records whose prompt began as another's whose beginning was still known.
  package var promptsContinued = 0
  /// Operations that records report and that were not done again.
  package var flops = 0
}
