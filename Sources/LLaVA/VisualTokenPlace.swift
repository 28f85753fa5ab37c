package import ModelFormats

/// The part of an image that a visual token represents.
package enum VisualTokenPlace: Sendable, Equatable {
  /// A patch of a view, or the group of patches of a token after a pixel shuffle. View 0 is the base view or the only
  /// one, and the tiles follow row by row; in a split image the tiles come first.
  case patch(view: Int, row: Int, column: Int)
  /// A place of a map of smaller size: that of all tiles, number 0, or that of a frame.
  case reduced(map: Int, row: Int, column: Int)
  /// A whole view, by its class token.
  case wholeView(Int)
  /// The end of a row in the map of all tiles; `nil` for the end of an image in one view or of a video.
  case newline(row: Int?)

  /// The places of the visual tokens of an image or a video, in the order of the decoder's sequence.
  ///
  /// The base view comes first, then the tiles as one grid without its padding, with a newline after each row unless the
  /// layout leaves newlines out. An image
  /// in one view has one newline, and so has a video after its last frame. Models without a newline use all views
  /// unchanged.
  ///
  /// - Parameters:
  ///   - side: Visual tokens along a view's side.
  ///   - hasClassToken: Whether the vision encoder's class token is used too, before its view's patches.
  ///   - hasNewline: Whether the model has a newline embedding.
  ///
  /// Source: `prepare_inputs_labels_for_multimodal` in LLaVA's `llava/model/llava_arch.py`, merge type `spatial_unpad`;
  /// `pack_image_features` and `apply_pooling` in transformers.
  package static func all(
    of layout: ViewLayout, side: Int, hasClassToken: Bool = false, hasNewline: Bool
  ) -> [VisualTokenPlace] {
    func places(ofView view: Int) -> [VisualTokenPlace] {
      let patches = (0..<side * side).map { patch(view: view, row: $0 / side, column: $0 % side) }
      return hasClassToken ? [.wholeView(view)] + patches : patches
    }
    switch layout {
    case .single: return places(ofView: 0) + (hasNewline ? [.newline(row: nil)] : [])
    case .tiled(let tiles):
      guard hasNewline else { return (0...tiles.tileCount).flatMap(places) }
      return places(ofView: 0) + map(of: tiles, side: side)
    case .split: return (0..<layout.viewCount).flatMap(places)
    case .video(let frames):
      let map = MapSize.ofFrame(side: side)
      return (0..<frames).flatMap { frame in reduced(frame, map) { _ in [] } } + [.newline(row: nil)]
    }
  }

  private static func map(of tiles: TileGrid, side: Int) -> [VisualTokenPlace] {
    if let size = tiles.reduced { return reduced(0, size) { [.newline(row: $0)] } }
    return tiles.keptRows.flatMap { y in
      tiles.keptColumns.map { x in
        patch(view: 1 + y / side * tiles.columns + x / side, row: y % side, column: x % side)
      } + (tiles.endsRows ? [.newline(row: y)] : [])
    }
  }

  private static func reduced(
    _ map: Int, _ size: MapSize, end: (Int) -> [VisualTokenPlace]
  ) -> [VisualTokenPlace] {
    (0..<size.rows).flatMap { row in
      (0..<size.columns).map { reduced(map: map, row: row, column: $0) } + end(row)
    }
  }
}
