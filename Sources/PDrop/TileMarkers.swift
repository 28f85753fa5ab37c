import ImageProcessing
import LLaVA
package import ModelFormats
import Tokenizers

/// The text around the visual tokens of an image in SmolVLM and Idefics3, which says where its tiles are.
///
/// Markers are ordinary text tokens; they are never dropped.
///
/// Source: `get_image_prompt_string` of SmolVLM's and Idefics3's processors in transformers.
struct TileMarkers {
  private static let edge = "<fake_token_around_image>"
  private static let whole = "<global-img>"

  private static func tile(row: Int, column: Int) -> String { "<row_\(row)_col_\(column)>" }

  /// The added tokens of the published tokenizers for markers, in the order of their ids.
  static let published = [whole] + (1...6).flatMap { row in (1...6).map { tile(row: row, column: $0) } } + [edge]

  /// The text of an image, with `image` at the place of each view's tokens.
  static func text(_ layout: ViewLayout, image: String) -> String {
    let whole = edge + whole + image + edge
    guard case .split(let rows, let columns) = layout else { return whole }
    let tiles = (1...rows).map { row in
      (1...columns).map { edge + tile(row: row, column: $0) + image }.joined() + "\n"
    }
    return tiles.joined() + "\n" + whole
  }
}

extension VisionLanguageModel {
  /// The tokens of a prompt with one image token for each image, with those of its tile markers around them: then one
  /// image token for each view.
  ///
  /// An image token ends the text before it, and the markers begin and end with an added token, so both are tokenized
  /// as if the prompt had been written with them.
  ///
  /// - Parameter layouts: The views of each image.
  /// - Returns: The same tokens for a model without markers.
  package func markingTiles(_ tokens: [Int], _ layouts: [ViewLayout]) -> [Int] {
    guard llava.configuration.imageSplitting != nil, !layouts.isEmpty else { return tokens }
    let image = tokenizer.pieces(of: [Int32(truncatingIfNeeded: imageToken)])[0] ?? "<image>"
    var rest = layouts[...]
    return tokens.flatMap { token -> [Int] in
      guard token == imageToken, let layout = rest.popFirst() else { return [token] }
      return tokenizer.encode(TileMarkers.text(layout, image: image)).map(Int.init)
    }
  }

  /// The tokens of a prompt as `tokens(of:systemPrompt:)`, with tile markers for its images.
  ///
  /// - Throws: `PromptError` as `rendered` does, `ImageError` for an image that cannot be read.
  package func markedTokens(of prompt: Request.Prompt, images: [Request.Image]) throws -> [Int] {
    let tokens = try tokens(of: prompt)
    guard llava.configuration.imageSplitting != nil, tokens.count(where: { $0 == imageToken }) == images.count else {
      return tokens
    }
    var timings = RunReport.Timings()
    return markingTiles(
      tokens, try images.map { try views(of: $0, ImageHandling(), &timings).layout })
  }
}
