internal import Kernels
package import ModelFormats

extension LLaVAModel {
  /// How many visual tokens stand for a picture.
  ///
  /// - Parameter tiles: The picture's tiles; `nil` for a picture seen in one view.
  package func visualTokenCount(_ tiles: TileGrid?) -> Int {
    configuration.visualTokenCount(tiles)
  }

  /// Puts the features of a picture's views in the order in which the language model reads them.
  ///
  /// First the base view's, then those of the tiles as one map without its padding, a newline behind each row. A picture
  /// in one view gets one newline. Models without a newline read all views as they are.
  ///
  /// - Parameters:
  ///   - features: Of the base view, then of the tiles row by row, `[views · patches, D]`.
  ///   - tiles: The picture's tiles; `nil` for a picture seen in one view.
  /// - Returns: `[visualTokenCount(tiles), D]`.
  ///
  /// Source: `prepare_inputs_labels_for_multimodal` in LLaVA's `llava/model/llava_arch.py`, merge type `spatial_unpad`;
  /// `pack_image_features` in transformers.
  func packed(_ features: consuming Matrix, _ tiles: TileGrid?) -> Matrix {
    let views = 1 + (tiles?.tileCount ?? 0)
    precondition(
      features.rows == views * configuration.visualTokensPerView, "packed: \(features.rows) features of \(views) views")
    guard let imageNewline else { return features }
    let order = tokenOrder(tiles)
    let columns = features.columns
    var result = Matrix(rows: order.count, columns: columns)
    let (source, newline) = (features.span, imageNewline.span)
    var target = result.mutableSpan
    for (i, feature) in order.enumerated() {
      var to = target.row(i, columns: columns)
      if let feature {
        let from = source.row(feature, columns: columns)
        for d in from.indices { to[d] = from[d] }
      } else {
        for d in newline.indices { to[d] = newline[d] }
      }
    }
    return result
  }

  /// Which feature of a picture's views each of its visual tokens is; `nil` for a newline.
  func tokenOrder(_ tiles: TileGrid?) -> [Int?] {
    let perView = configuration.visualTokensPerView
    guard imageNewline != nil else { return Array(0..<perView * (1 + (tiles?.tileCount ?? 0))) }
    var order: [Int?] = Array(0..<perView)
    guard let tiles else { return order + [nil] }
    let side = configuration.vision.patchesPerSide
    for y in tiles.keptRows {
      for x in tiles.keptColumns {
        let tile = y / side * tiles.columns + x / side
        order.append(perView * (1 + tile) + y % side * side + x % side)
      }
      order.append(nil)
    }
    return order
  }
}

extension LLaVAConfiguration {
  /// How many visual tokens stand for a picture, as above.
  package func visualTokenCount(_ tiles: TileGrid?) -> Int {
    let marksRows = anyResolution?.merge == .spatialUnpad
    return marksRows
      ? visualTokensPerView + (tiles?.tokenCount ?? 1) : visualTokensPerView * (1 + (tiles?.tileCount ?? 0))
  }
}
