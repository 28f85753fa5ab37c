internal import Kernels
internal import ModelFormats

extension LLaVAModel {
  /// How many visual tokens stand for a picture.
  ///
  /// - Parameter tiles: The picture's tiles; `nil` for a picture seen in one view.
  package func visualTokenCount(_ tiles: TileGrid?) -> Int {
    let perView = configuration.visualTokensPerView
    return imageNewline == nil ? perView * (1 + (tiles?.tileCount ?? 0)) : perView + (tiles?.tokenCount ?? 1)
  }

  /// Between how many visual tokens and how many can stand for a picture.
  package var visualTokenCounts: ClosedRange<Int> {
    let one = visualTokenCount(nil)
    guard let rules = configuration.anyResolution else { return one...one }
    // No tile's features are cut off, of the canvas with the most.
    let most = rules.canvases.map { canvas in
      let (rows, columns) = (canvas.height / rules.viewSize, canvas.width / rules.viewSize)
      let side = rules.patchesPerSide
      return visualTokenCount(
        TileGrid(rows: rows, columns: columns, keptRows: 0..<rows * side, keptColumns: 0..<columns * side))
    }.max()
    // Of a flat strip, no feature of a tile may be left.
    return configuration.visualTokensPerView...max(one, most ?? one)
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
    let perView = configuration.visualTokensPerView
    let views = 1 + (tiles?.tileCount ?? 0)
    precondition(features.rows == views * perView, "packed: \(features.rows) features of \(views) views")
    guard let imageNewline else { return features }
    // Which feature each token is; `nil` for a newline.
    var order: [Int?] = Array(0..<perView)
    if let tiles {
      let side = configuration.vision.patchesPerSide
      for y in tiles.keptRows {
        for x in tiles.keptColumns {
          let tile = y / side * tiles.columns + x / side
          order.append(perView * (1 + tile) + y % side * side + x % side)
        }
        order.append(nil)
      }
    } else {
      order.append(nil)
    }

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
}
