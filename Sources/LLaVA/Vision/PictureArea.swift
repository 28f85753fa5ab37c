internal import ModelFormats

/// Where a picture lies on what the tower looks at, in pixels: on the one view, or on the canvas that tiles make.
///
/// The rest is padding. Edges need not fall on whole pixels.
package struct PictureArea: Sendable, Equatable {
  package var rows: Range<Double>
  package var columns: Range<Double>

  package init(rows: Range<Double>, columns: Range<Double>) { (self.rows, self.columns) = (rows, columns) }

  /// Whether a square shows none of the picture.
  ///
  /// - Parameters:
  ///   - row: Which square from the top.
  ///   - column: Which square from the left.
  ///   - side: The sides of the squares.
  func misses(row: Int, column: Int, side: Int) -> Bool {
    func range(_ index: Int) -> Range<Double> { Double(index * side)..<Double((index + 1) * side) }
    return !rows.overlaps(range(row)) || !columns.overlaps(range(column))
  }
}

extension LLaVAModel {
  /// Which of a picture's visual tokens stand for patches that lie wholly in padding, ascending, 0 the picture's first.
  ///
  /// Of several views the first is filled by the picture. LLaVA-NeXT leaves padded tiles out by itself, so there is something to
  /// find only in models that read all tiles as they are. Newlines stand for no patch.
  ///
  /// - Parameters:
  ///   - tiles: The picture's tiles; `nil` for a picture seen in one view.
  ///   - area: Where the picture lies; `nil` for one without padding.
  package func paddingTokens(_ tiles: TileGrid?, _ area: PictureArea?) -> [Int] {
    guard let area else { return [] }
    let vision = configuration.vision
    let side = vision.patchesPerSide
    let places = visualTokenPlaces(tiles)
    return places.indices.filter { index in
      guard case .patch(let view, var row, var column) = places[index] else { return false }
      if let tiles {
        guard view > 0 else { return false }
        (row, column) = (row + (view - 1) / tiles.columns * side, column + (view - 1) % tiles.columns * side)
      }
      return area.misses(row: row, column: column, side: vision.patchSize)
    }
  }
}
