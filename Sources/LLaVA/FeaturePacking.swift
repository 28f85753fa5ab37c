import Kernels
package import ModelFormats

extension LLaVAModel {
  /// How many visual tokens stand for an image.
  ///
  /// - Parameter tiles: The image's tiles; `nil` for an image seen in one view.
  package func visualTokenCount(_ tiles: TileGrid?) -> Int {
    configuration.visualTokenCount(tiles)
  }

  /// Between how many visual tokens and how many can stand for an image.
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

  /// Puts the features of an image's views in the order in which the language model reads them.
  ///
  /// - Parameters:
  ///   - features: Of the base view, then of the tiles row by row, `[views · patches, D]`.
  ///   - tiles: The image's tiles; `nil` for an image seen in one view.
  /// - Returns: `[visualTokenCount(tiles), D]`, in the order of `visualTokenPlaces`.
  func packed(_ features: consuming Matrix, _ tiles: TileGrid?) -> Matrix {
    let views = 1 + (tiles?.tileCount ?? 0)
    precondition(
      features.rows == views * configuration.visualTokensPerView, "packed: \(features.rows) features of \(views) views")
    guard let imageNewline else { return features }
    let perView = configuration.visualTokensPerView
    let (side, firstPatch) = (configuration.vision.patchesPerSide, perView - configuration.vision.patchCount)
    let places = visualTokenPlaces(tiles)

    let columns = features.columns
    var result = Matrix(rows: places.count, columns: columns)
    let (source, newline) = (features.span, imageNewline.span)
    var target = result.mutableSpan
    for (i, place) in places.enumerated() {
      var to = target.row(i, columns: columns)
      switch place {
      case .wholeView(let view): copy(source.row(perView * view, columns: columns), to: &to)
      case .patch(let view, let row, let column):
        copy(source.row(perView * view + firstPatch + row * side + column, columns: columns), to: &to)
      case .newline: copy(newline, to: &to)
      }
    }
    return result
  }

  private func copy(_ from: Span<Float>, to: inout MutableSpan<Float>) {
    for d in from.indices { to[d] = from[d] }
  }
}

extension LLaVAConfiguration {
  /// How many visual tokens stand for an image, as above.
  package func visualTokenCount(_ tiles: TileGrid?) -> Int {
    let marksRows = anyResolution?.merge == .spatialUnpad
    return marksRows
      ? visualTokensPerView + (tiles?.tokenCount ?? 1) : visualTokensPerView * (1 + (tiles?.tileCount ?? 0))
  }
}

/// What of an image a visual token stands for.
package enum VisualTokenPlace: Sendable, Equatable {
  /// A patch of a view: 0 the base view or the only one, then the tiles row by row.
  case patch(view: Int, row: Int, column: Int)
  /// All of a view: its class token.
  case wholeView(Int)
  /// The end of a row of the map that the tiles make; `nil` for the end of an image in one view.
  case newline(row: Int?)

  /// What each visual token of an image stands for, in the order in which the language model reads them.
  ///
  /// First the base view, then the tiles as one map without its padding, a newline after each row. An image in one view
  /// gets one newline. Models without a newline read all views as they are.
  ///
  /// - Parameters:
  ///   - tiles: The image's tiles; `nil` for an image seen in one view.
  ///   - side: Patches along a view's side.
  ///   - hasClassToken: Whether the vision encoder's class token is read too, before its view's patches.
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
  /// What each visual token of an image stands for.
  ///
  /// - Parameter tiles: The image's tiles; `nil` for an image seen in one view.
  /// - Returns: `visualTokenCount(tiles)` places.
  package func visualTokenPlaces(_ tiles: TileGrid?) -> [VisualTokenPlace] {
    VisualTokenPlace.all(
      of: tiles, side: configuration.vision.patchesPerSide,
      hasClassToken: configuration.visualTokensPerView > configuration.vision.patchCount,
      hasNewline: imageNewline != nil)
  }
}

extension LLaVAModel {
  /// Which of an image's visual tokens stand for patches that lie wholly in padding, ascending, 0 the image's first.
  ///
  /// Of several views the first is filled by the image. LLaVA-NeXT leaves padded tiles out by itself, so there is something to
  /// find only in models that read all tiles as they are. Newlines stand for no patch.
  ///
  /// - Parameters:
  ///   - tiles: The image's tiles; `nil` for an image seen in one view.
  ///   - area: Where the image lies; `nil` for one without padding.
  package func paddingTokens(_ tiles: TileGrid?, _ area: ImageArea?) -> [Int] {
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
