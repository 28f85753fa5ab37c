/// The views of an image or a video, which are encoded one by one, and the order of their features.
package enum ViewLayout: Sendable, Hashable {
  /// One view.
  case single
  /// A base view, then tiles row by row.
  case tiled(TileGrid)
  /// Tiles row by row, then the whole image, with text before each of them: SmolVLM.
  case split(rows: Int, columns: Int)
  /// The frames of a video.
  case video(frames: Int)

  package var viewCount: Int {
    switch self {
    case .single: 1
    case .tiled(let tiles): 1 + tiles.tileCount
    case .split(let rows, let columns): rows * columns + 1
    case .video(let frames): frames
    }
  }

  /// The tiles of an image that form one map after the base view; `nil` for others.
  package var tiles: TileGrid? {
    if case .tiled(let tiles) = self { tiles } else { nil }
  }

  /// The same views with all features of all tiles, those of padding too, and without newlines.
  ///
  /// - Parameter side: Patches along the side of a view.
  package func keepingAllPatches(side: Int) -> ViewLayout {
    guard case .tiled(var tiles) = self else { return self }
    (tiles.keptRows, tiles.keptColumns) = (0..<tiles.rows * side, 0..<tiles.columns * side)
    (tiles.reduced, tiles.endsRows) = (nil, false)
    return .tiled(tiles)
  }
}

/// The grid of tiles of an image, and the part of their feature map without padding.
///
/// The features of all tiles form one map in image order, `rows · S` by `columns · S`, where `S` is the number of
/// patches along the side of a view.
package struct TileGrid: Sendable, Hashable {
  package var rows: Int
  package var columns: Int
  /// The rows of the map that are kept; empty for a very flat image.
  package var keptRows: Range<Int>
  /// The columns of the map that are kept; empty for a very tall image.
  package var keptColumns: Range<Int>
  /// The size of the map after it has been reduced, as LLaVA-OneVision does with large ones; `nil` if it has not.
  package var reduced: MapSize?
  /// Whether each row of the map ends in a newline token, in models that have one.
  package var endsRows = true

  package var tileCount: Int { rows * columns }

  /// The size of the map of tokens.
  package var map: MapSize { reduced ?? MapSize(rows: keptRows.count, columns: keptColumns.count) }

  /// The number of visual tokens of the tiles: their map and the newline tokens of its rows.
  package var tokenCount: Int { map.rows * (map.columns + (endsRows ? 1 : 0)) }

  package init(
    rows: Int, columns: Int, keptRows: Range<Int>, keptColumns: Range<Int>, reduced: MapSize? = nil
  ) {
    self.reduced = reduced
    self.rows = rows
    self.columns = columns
    self.keptRows = keptRows
    self.keptColumns = keptColumns
  }
}

/// The size of a map of features.
package struct MapSize: Sendable, Hashable {
  package var rows: Int
  package var columns: Int

  package init(rows: Int, columns: Int) { (self.rows, self.columns) = (rows, columns) }
}
