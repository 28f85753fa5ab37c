import Kernels
package import ModelFormats

extension LLaVAModel {
  /// Number of visual tokens of an image.
  ///
  /// - Parameter tiles: The image's tiles; `nil` for an image in one view.
  package func visualTokenCount(_ tiles: TileGrid?) -> Int {
    configuration.visualTokenCount(tiles)
  }

  /// Smallest and largest number of visual tokens of an image.
  package var visualTokenCounts: ClosedRange<Int> {
    let one = visualTokenCount(nil)
    guard let rules = configuration.anyResolution else { return one...one }
    // The largest number: all features of all tiles on the canvas with the most tiles.
    let largest = rules.canvases.map { canvas in
      let (rows, columns) = (canvas.height / rules.viewSize, canvas.width / rules.viewSize)
      let side = rules.patchesPerSide
      return visualTokenCount(
        TileGrid(rows: rows, columns: columns, keptRows: 0..<rows * side, keptColumns: 0..<columns * side))
    }.max()
    // The smallest number: a narrow strip may keep no feature of its tiles.
    return configuration.visualTokensPerView...max(one, largest ?? one)
  }

  /// The features of an image's views in the order of the decoder's sequence.
  ///
  /// - Parameters:
  ///   - features: The features of the base view, then of the tiles row by row, `[views · tokensPerView, D]`.
  ///   - tiles: The image's tiles; `nil` for an image in one view.
  /// - Returns: `[visualTokenCount(tiles), D]`, in the order of `visualTokenPlaces`.
  func packed(_ features: consuming Matrix, _ tiles: TileGrid?) -> Matrix {
    let views = 1 + (tiles?.tileCount ?? 0)
    precondition(
      features.rows == views * configuration.visualTokensPerView, "packed: \(features.rows) features of \(views) views")
    guard let vision = configuration.vision, let imageNewline = imageEncoder?.newline else { return features }
    let perView = configuration.visualTokensPerView
    let (side, firstPatch) = (vision.patchesPerSide, perView - vision.patchCount)
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
  /// Number of visual tokens of an image.
  ///
  /// - Parameter tiles: The image's tiles; `nil` for an image in one view.
  package func visualTokenCount(_ tiles: TileGrid?) -> Int {
    let hasNewlines = anyResolution?.merge == .spatialUnpad
    return hasNewlines
      ? visualTokensPerView + (tiles?.tokenCount ?? 1) : visualTokensPerView * (1 + (tiles?.tileCount ?? 0))
  }
}

/// The part of an image that a visual token represents.
package enum VisualTokenPlace: Sendable, Equatable {
  /// A patch of a view. View 0 is the base view or the only one; the tiles follow row by row.
  case patch(view: Int, row: Int, column: Int)
  /// A whole view, by its class token.
  case wholeView(Int)
  /// The end of a row in the grid of all tiles; `nil` for the end of an image in one view.
  case newline(row: Int?)

  /// The places of an image's visual tokens, in the order of the decoder's sequence.
  ///
  /// The base view comes first, then the tiles as one grid without its padding, with a newline after each row. An image
  /// in one view has one newline. Models without a newline use all views unchanged.
  ///
  /// - Parameters:
  ///   - tiles: The image's tiles; `nil` for an image in one view.
  ///   - side: Patches along a view's side.
  ///   - hasClassToken: Whether the vision encoder's class token is used too, before its view's patches.
  ///   - hasNewline: Whether the model has a newline embedding.
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

extension LLaVAConfiguration {
  /// The places of an image's visual tokens.
  ///
  /// - Parameter tiles: The image's tiles; `nil` for an image in one view.
  /// - Returns: `visualTokenCount(tiles)` places.
  package func visualTokenPlaces(_ tiles: TileGrid?) -> [VisualTokenPlace] {
    guard let vision else { return [] }
    return VisualTokenPlace.all(
      of: tiles, side: vision.patchesPerSide, hasClassToken: visualTokensPerView > vision.patchCount,
      hasNewline: anyResolution?.merge == .spatialUnpad)
  }
}

extension LLaVAModel {
  /// The places of an image's visual tokens.
  ///
  /// - Parameter tiles: The image's tiles; `nil` for an image in one view.
  /// - Returns: `visualTokenCount(tiles)` places.
  package func visualTokenPlaces(_ tiles: TileGrid?) -> [VisualTokenPlace] { configuration.visualTokenPlaces(tiles) }
}

extension LLaVAModel {
  /// Indices of an image's visual tokens whose patches lie wholly in padding, ascending.
  ///
  /// The base view of a tiled image has no padding. LLaVA-NeXT removes the padding of the tiles itself, so a tiled
  /// image has padding tokens only in models that use all tiles unchanged. Newlines are not padding.
  ///
  /// - Parameters:
  ///   - tiles: The image's tiles; `nil` for an image in one view.
  ///   - area: The area that the image fills; `nil` for an image without padding.
  package func paddingTokens(_ tiles: TileGrid?, _ area: ImageArea?) -> [Int] {
    guard let area, let vision = configuration.vision else { return [] }
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
