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
  /// - Parameters:
  ///   - features: Of the base view, then of the tiles row by row, `[views · patches, D]`.
  ///   - tiles: The picture's tiles; `nil` for a picture seen in one view.
  /// - Returns: `[visualTokenCount(tiles), D]`, in the order of `visualTokenPlaces`.
  func packed(_ features: consuming Matrix, _ tiles: TileGrid?) -> Matrix {
    let perView = configuration.visualTokensPerView
    let views = 1 + (tiles?.tileCount ?? 0)
    precondition(features.rows == views * perView, "packed: \(features.rows) features of \(views) views")
    guard let imageNewline else { return features }
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
