internal import ModelFormats

/// What of a picture a visual token stands for.
package enum VisualTokenPlace: Sendable, Equatable {
  /// A patch of a view: 0 the base view or the only one, then the tiles row by row.
  case patch(view: Int, row: Int, column: Int)
  /// All of a view: its class token.
  case wholeView(Int)
  /// The end of a row of the map that the tiles make; `nil` for the end of a picture in one view.
  case newline(row: Int?)

  /// What each visual token of a picture stands for, in the order in which the language model reads them.
  ///
  /// First the base view, then the tiles as one map without its padding, a newline behind each row. A picture in one view
  /// gets one newline. Models without a newline read all views as they are.
  ///
  /// - Parameters:
  ///   - tiles: The picture's tiles; `nil` for a picture seen in one view.
  ///   - side: Patches along a view's side.
  ///   - hasClassToken: Whether the tower's class token is read too, in front of its view's patches.
  ///   - hasNewline: Whether the model has a newline.
  ///
  /// Source: `prepare_inputs_labels_for_multimodal` in LLaVA's `llava/model/llava_arch.py`, merge type `spatial_unpad`;
  /// `pack_image_features` in transformers.
  package static func all(
    of tiles: TileGrid?, side: Int, hasClassToken: Bool = false, hasNewline: Bool
  ) -> [VisualTokenPlace] {
    func places(ofView view: Int) -> [VisualTokenPlace] {
      let patches = (0..<side * side).map { patch(view: view, row: $0 / side, column: $0 % side) }
      return hasClassToken ? [.wholeView(view)] + patches : patches
    }
    guard hasNewline else { return (0...(tiles?.tileCount ?? 0)).flatMap(places) }
    guard let tiles else { return places(ofView: 0) + [.newline(row: nil)] }
    let rows = tiles.keptRows.flatMap { y in
      tiles.keptColumns.map { x in
        patch(view: 1 + y / side * tiles.columns + x / side, row: y % side, column: x % side)
      } + [.newline(row: y)]
    }
    return places(ofView: 0) + rows
  }
}

extension LLaVAModel {
  /// What each visual token of a picture stands for.
  ///
  /// - Parameter tiles: The picture's tiles; `nil` for a picture seen in one view.
  /// - Returns: `visualTokenCount(tiles)` places.
  package func visualTokenPlaces(_ tiles: TileGrid?) -> [VisualTokenPlace] {
    VisualTokenPlace.all(
      of: tiles, side: configuration.vision.patchesPerSide,
      hasClassToken: configuration.visualTokensPerView > configuration.vision.patchCount,
      hasNewline: imageNewline != nil)
  }
}
