import Kernels
package import ModelFormats

extension LLaVAModel {
  /// Number of visual tokens of an image or a video.
  package func visualTokenCount(_ layout: ViewLayout) -> Int { configuration.visualTokenCount(layout) }

  /// The places of the visual tokens of an image or a video, `visualTokenCount(layout)` of them.
  package func visualTokenPlaces(_ layout: ViewLayout) -> [VisualTokenPlace] { configuration.visualTokenPlaces(layout) }

  /// Smallest and largest number of visual tokens of an image.
  package var visualTokenCounts: ClosedRange<Int> {
    let one = visualTokenCount(.single)
    if let splitting = configuration.imageSplitting { return one...one * (1 + splitting.maxTileCount) }
    guard let rules = configuration.anyResolution else { return one...one }
    // The largest number: all features of all tiles on the canvas with the most tiles.
    let largest = rules.usableCanvases.map { canvas in
      let (rows, columns) = (canvas.height / rules.viewSize, canvas.width / rules.viewSize)
      let side = rules.patchesPerSide
      let all = visualTokenCount(
        .tiled(TileGrid(rows: rows, columns: columns, keptRows: 0..<rows * side, keptColumns: 0..<columns * side)))
      guard let views = rules.maxMapViews else { return all }
      // A map that is not reduced has at most 1.1² times as many features as the limit, and a newline for each row.
      let unreduced = Int(1.21 * Double(views * side * side)) + rows * side
      return min(all, configuration.visualTokensPerView + unreduced)
    }.max()
    // The smallest number: a narrow strip may keep no feature of its tiles.
    return configuration.visualTokensPerView...max(one, largest ?? one)
  }

  /// The features of views in the order of the decoder's sequence.
  ///
  /// - Parameter features: The features of the views in their order, `[views · tokensPerView, D]`.
  /// - Returns: `[visualTokenCount(layout), D]`, in the order of `visualTokenPlaces`.
  func packed(_ features: consuming Matrix, _ layout: ViewLayout) -> Matrix {
    let perView = configuration.visualTokensPerView
    precondition(
      features.rows == layout.viewCount * perView, "packed: \(features.rows) features of \(layout.viewCount) views")
    guard let imageNewline = imageEncoder?.newline else { return features }
    let (side, firstPatch) = (configuration.tokensPerSide, configuration.keepsClassToken ? 1 : 0)
    let places = visualTokenPlaces(layout)
    let maps = configuration.reducedMaps(layout) { view, patch in perView * view + firstPatch + patch }

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
      case .reduced(let map, let row, let column): maps[map].interpolate(row, column, source, columns, &to)
      case .newline: copy(newline, to: &to)
      }
    }
    return result
  }

  private func copy(_ from: Span<Float>, to: inout MutableSpan<Float>) {
    for d in from.indices { to[d] = from[d] }
  }
}

extension MapSize {
  /// The size to which the map of a frame is reduced, half of it rounded up.
  package static func ofFrame(side: Int) -> MapSize { MapSize(rows: (side + 1) / 2, columns: (side + 1) / 2) }
}

extension LLaVAConfiguration {
  private var hasNewline: Bool { anyResolution?.merge == .spatialUnpad }

  /// Number of visual tokens of an image or a video.
  package func visualTokenCount(_ layout: ViewLayout) -> Int {
    switch layout {
    case .single: visualTokensPerView + (hasNewline ? 1 : 0)
    case .tiled(let tiles):
      hasNewline ? visualTokensPerView + tiles.tokenCount : visualTokensPerView * (1 + tiles.tileCount)
    case .split: visualTokensPerView * layout.viewCount
    case .video(let frames):
      vision.map { vision in
        let map = MapSize.ofFrame(side: vision.patchesPerSide)
        return frames * map.rows * map.columns + 1
      } ?? 0
    }
  }

  /// The numbers of visual tokens that follow each other without text between them, of an image or a video.
  package func visualSpans(_ layout: ViewLayout) -> [Int] {
    if case .split = layout { return Array(repeating: visualTokensPerView, count: layout.viewCount) }
    return [visualTokenCount(layout)]
  }

  /// The maps of which `VisualTokenPlace.reduced` takes features: that of all tiles, or one for each frame.
  ///
  /// - Parameter row: The row of a feature in its matrix, by view and patch.
  func reducedMaps(_ layout: ViewLayout, row: (_ view: Int, _ patch: Int) -> Int) -> [ReducedMap] {
    guard let side = vision?.patchesPerSide else { return [] }
    switch layout {
    case .single, .split: return []
    case .tiled(let tiles):
      guard let reduced = tiles.reduced else { return [] }
      let rows = tiles.keptRows.flatMap { y in
        tiles.keptColumns.map { x in row(1 + y / side * tiles.columns + x / side, y % side * side + x % side) }
      }
      let size = MapSize(rows: tiles.keptRows.count, columns: tiles.keptColumns.count)
      return [ReducedMap(rows, size, to: reduced)]
    case .video(let frames):
      let size = MapSize(rows: side, columns: side)
      return (0..<frames).map { frame in
        ReducedMap((0..<side * side).map { row(frame, $0) }, size, to: .ofFrame(side: side))
      }
    }
  }

  /// The places of the visual tokens of an image or a video, `visualTokenCount(layout)` of them.
  package func visualTokenPlaces(_ layout: ViewLayout) -> [VisualTokenPlace] {
    guard vision != nil else { return [] }
    return VisualTokenPlace.all(
      of: layout, side: tokensPerSide, hasClassToken: keepsClassToken, hasNewline: hasNewline)
  }
}

extension LLaVAModel {
  /// Indices of an image's visual tokens whose patches lie wholly in padding, ascending.
  ///
  /// The base view of a tiled image has no padding. LLaVA-NeXT removes the padding of the tiles itself, so a tiled
  /// image has padding tokens only in models that use all tiles unchanged. Newlines are not padding.
  ///
  /// - Parameters:
  ///   - layout: The image's views.
  ///   - area: The area that the image fills; `nil` for an image without padding.
  package func paddingTokens(_ layout: ViewLayout, _ area: ImageArea?) -> [Int] {
    guard let area, let vision = configuration.vision else { return [] }
    let side = vision.patchesPerSide
    let places = visualTokenPlaces(layout)
    return places.indices.filter { index in
      guard case .patch(let view, var row, var column) = places[index] else { return false }
      if let tiles = layout.tiles {
        guard view > 0 else { return false }
        (row, column) = (row + (view - 1) / tiles.columns * side, column + (view - 1) % tiles.columns * side)
      }
      return area.misses(row: row, column: column, side: vision.patchSize)
    }
  }
}
