public import ImageProcessing
package import LLaVA
import ModelFormats

/// The kept-token map of an image: the visual tokens that each drop kept, and their places in the image.
///
/// `painted()` in the module `Reports` draws it like Figure 5 of the paper.
///
///     var request = Request(question: "What is on the sign?", images: [.file("Models/samples/bike.png")])
///     request.recordsTensors = true
///     let session = try Session(model, request, threads: 4)
///     for stage in try session.keptMaps[0].stages {
///       print("layer \(stage.layer): \(stage.keptCount) of \(stage.tokens.count) tokens kept")
///     }
public struct KeptMap: Sendable, Equatable {
  /// A part of the image as the model sees it, divided into patches.
  public struct Region: Sendable, Equatable {
    /// `image` for one view; `whole image` and `tiles` for several; `frame 1` and so on for a video.
    public let name: String
    /// `rows · patchSize` by `columns · patchSize` pixels.
    public let image: Image
    /// Number of patches from top to bottom.
    public let rows: Int
    /// Number of patches from left to right.
    public let columns: Int
    /// Side of a patch in pixels. In a map of LLaVA-OneVision that is reduced, and after the pixel shuffle of SmolVLM,
    /// a token shows more than a patch of the vision encoder.
    public let patchSize: Int
    /// Whether rows end in a newline token, which shows no patch.
    public let hasNewlines: Bool
  }

  /// The patch of a token; a newline token has the column after the last patch.
  public struct Place: Sendable, Equatable {
    /// Index of the region.
    public let region: Int
    public let row: Int
    public let column: Int
  }

  /// The result of a drop for one token.
  public struct Token: Sendable, Equatable {
    public var isKept = false
    /// Score of the token; `nil` if an earlier drop removed it.
    public var score: Float?
    /// Rank of the token among those of the image, 1 for the highest score; `nil` if an earlier drop removed it.
    public var rank: Int?
  }

  /// The result of a drop, or of the selection before the decoder.
  public struct Stage: Sendable, Equatable {
    /// Number of layers before the drop; 0 for a selection, whose tokens have no scores.
    public let layer: Int
    /// Results for all tokens of the image, dropped ones included.
    public let tokens: [Token]

    public var keptCount: Int { tokens.count(where: \.isKept) }
  }

  public let regions: [Region]
  /// Places of the image's tokens; `nil` for a token that belongs to no single patch.
  public let places: [Place?]
  public let stages: [Stage]

  /// Number of the image's tokens before any drop.
  public var tokenCount: Int { places.count }

  /// Indices of the newline tokens.
  public var newlines: [Int] {
    places.indices.filter { index in places[index].map { $0.column == regions[$0.region].columns } ?? false }
  }

  /// Numbers of kept tokens in each row and in each column of a region, without newlines.
  public func keptCounts(_ stage: Stage, inRegion region: Int) -> (rows: [Int], columns: [Int]) {
    var rows = [Int](repeating: 0, count: regions[region].rows)
    var columns = [Int](repeating: 0, count: regions[region].columns)
    for case (let place?, let token) in zip(places, stage.tokens)
    where token.isKept && place.region == region && place.column < columns.count {
      rows[place.row] += 1
      columns[place.column] += 1
    }
    return (rows, columns)
  }
}

extension KeptMap {
  /// - Parameters:
  ///   - views: The views of the image.
  ///   - places: The places of its visual tokens.
  ///   - patchSize: Side of a patch in pixels of a view.
  ///   - selected: Indices of the tokens that entered the decoder, ascending; `nil` for all.
  ///   - drops: The result of each drop for the image.
  package init(
    _ views: ImageViews, _ places: [VisualTokenPlace], patchSize: Int, selected: [Int]? = nil,
    drops: [(layer: Int, DropResult.Image)]
  ) {
    (regions, self.places) = Self.regions(views, places, patchSize: patchSize)
    let selection = selected.map { selected in
      var tokens = [Token](repeating: Token(), count: places.count)
      for token in selected { tokens[token].isKept = true }
      return Stage(layer: 0, tokens: tokens)
    }
    stages =
      (selection.map { [$0] } ?? [])
      + Self.stages(drops, entering: selected ?? Array(places.indices), tokenCount: places.count)
  }

  /// The regions of an image or a video, and the places of its tokens in them.
  private static func regions(
    _ views: ImageViews, _ places: [VisualTokenPlace], patchSize: Int
  ) -> (regions: [Region], places: [Place?]) {
    let side = views.size / patchSize
    let hasNewlines = places.contains { if case .newline = $0 { true } else { false } }
    func whole(_ name: String, hasNewlines: Bool) -> Region {
      Region(
        name: name, image: views.map(ofView: 0, patchSize: patchSize), rows: side, columns: side,
        patchSize: patchSize, hasNewlines: hasNewlines)
    }
    func inView(_ place: VisualTokenPlace) -> Place? {
      switch place {
      case .patch(view: 0, let row, let column): Place(region: 0, row: row, column: column)
      case .newline(row: nil): Place(region: 0, row: side - 1, column: side)
      case .patch, .newline, .reduced, .wholeView: nil
      }
    }
    switch views.layout {
    case .single: return ([whole("image", hasNewlines: hasNewlines)], places.map(inView))
    case .split(let rows, let columns):
      let grid = TileGrid(
        rows: rows, columns: columns, keptRows: 0..<rows * side, keptColumns: 0..<columns * side)
      let last = rows * columns
      let base = Region(
        name: "whole image", image: views.map(ofView: last, patchSize: patchSize), rows: side, columns: side,
        patchSize: patchSize, hasNewlines: false)
      let tiles = Region(
        name: "tiles", views.map(of: grid, first: 0, patchSize: patchSize), grid.map, patchSize: patchSize,
        isReduced: false, hasNewlines: false)
      let all = places.map { place -> Place? in
        guard case .patch(let view, let row, let column) = place else { return nil }
        return view == last
          ? Place(region: 0, row: row, column: column)
          : Place(region: 1, row: view / columns * side + row, column: view % columns * side + column)
      }
      return ([base, tiles], all)
    case .tiled(var tiles):
      if !hasNewlines { (tiles.keptRows, tiles.keptColumns) = (0..<tiles.rows * side, 0..<tiles.columns * side) }
      let base = whole("whole image", hasNewlines: false)
      guard !tiles.keptRows.isEmpty, !tiles.keptColumns.isEmpty, tiles.map.rows > 0, tiles.map.columns > 0 else {
        return ([base], places.map(inView))
      }
      let region = Region(
        name: "tiles", views.map(of: tiles, patchSize: patchSize), tiles.map, patchSize: patchSize,
        isReduced: tiles.reduced != nil, hasNewlines: hasNewlines)
      let (firstRow, firstColumn) =
        tiles.reduced == nil ? (tiles.keptRows.lowerBound, tiles.keptColumns.lowerBound) : (0, 0)
      let all = places.map { place in
        switch place {
        case .patch(view: 0, _, _), .wholeView, .newline(row: nil): inView(place)
        case .patch(let view, let row, let column):
          Place(
            region: 1, row: (view - 1) / tiles.columns * side + row - firstRow,
            column: (view - 1) % tiles.columns * side + column - firstColumn)
        case .reduced(_, let row, let column): Place(region: 1, row: row, column: column)
        case .newline(let row?): Place(region: 1, row: row - firstRow, column: tiles.map.columns)
        }
      }
      return ([base, region], all)
    case .video(let frames):
      let map = MapSize.ofFrame(side: side)
      let regions = (0..<frames).map { frame in
        Region(
          name: "frame \(frame + 1)", views.map(ofView: frame, patchSize: patchSize), map, patchSize: patchSize,
          isReduced: true, hasNewlines: frame == frames - 1)
      }
      let all = places.map { place -> Place? in
        switch place {
        case .reduced(let frame, let row, let column): Place(region: frame, row: row, column: column)
        case .newline: Place(region: frames - 1, row: map.rows - 1, column: map.columns)
        case .patch, .wholeView: nil
        }
      }
      return (regions, all)
    }
  }

  /// The result of each drop for all tokens of the image; a drop scores the tokens that the one before it kept.
  private static func stages(
    _ drops: [(layer: Int, DropResult.Image)], entering tokens: [Int], tokenCount: Int
  ) -> [Stage] {
    var present = tokens
    return drops.map { layer, drop in
      precondition(
        drop.scores.count == present.count, "KeptMap: \(drop.scores.count) scores of \(present.count) tokens")
      var tokens = [Token](repeating: Token(), count: tokenCount)
      for (token, score) in zip(present, drop.scores) { tokens[token].score = score }
      let order = present.indices.sorted {
        drop.scores[$0] == drop.scores[$1] ? $0 < $1 : drop.scores[$0] > drop.scores[$1]
      }
      for (rank, index) in order.enumerated() { tokens[present[index]].rank = rank + 1 }
      for token in drop.kept { tokens[token].isKept = true }
      present = drop.kept
      return Stage(layer: layer, tokens: tokens)
    }
  }
}

extension KeptMap.Region {
  /// A region of a map of tokens.
  ///
  /// - Parameter isReduced: Whether tokens show larger parts of the image than patches. The image is then resized so that
  ///   these have an integer number of pixels.
  fileprivate init(
    name: String, _ image: Image, _ map: MapSize, patchSize: Int, isReduced: Bool, hasNewlines: Bool
  ) {
    let side = isReduced ? max(1, (2 * image.height / map.rows + 1) / 2) : patchSize
    self.init(
      name: name,
      image: isReduced ? image.resized(width: map.columns * side, height: map.rows * side) : image,
      rows: map.rows, columns: map.columns, patchSize: side, hasNewlines: hasNewlines)
  }
}

extension ImageViews {
  /// The pixels of the patches of a view.
  fileprivate func map(ofView view: Int, patchSize: Int) -> Image {
    let patches = 0..<size / patchSize
    return map(rows: patches, columns: patches, patchSize: patchSize) { _, _ in view }
  }

  /// The pixels of the kept patches of tiles.
  ///
  /// - Parameter first: The view of the first tile.
  fileprivate func map(of tiles: TileGrid, first: Int = 1, patchSize: Int) -> Image {
    map(rows: tiles.keptRows, columns: tiles.keptColumns, patchSize: patchSize) { first + $0 * tiles.columns + $1 }
  }

  /// The pixels of patches of a grid of views.
  private func map(
    rows: Range<Int>, columns: Range<Int>, patchSize: Int, view: (_ row: Int, _ column: Int) -> Int
  ) -> Image {
    let side = size / patchSize * patchSize
    var samples: [UInt8] = []
    samples.reserveCapacity(3 * rows.count * columns.count * patchSize * patchSize)
    for y in rows.lowerBound * patchSize..<rows.upperBound * patchSize {
      for x in columns.lowerBound * patchSize..<columns.upperBound * patchSize {
        let view = view(y / side, x / side)
        for channel in 0..<3 {
          samples.append(pixels[((view * 3 + channel) * size + y % side) * size + x % side])
        }
      }
    }
    guard
      let image = try? Image(
        width: columns.count * patchSize, height: rows.count * patchSize, pixels: samples)
    else { preconditionFailure("no image of \(rows) by \(columns) patches") }
    return image
  }
}

extension VisionLanguageModel {
  /// The kept-token map of each image of a prompt; `nil` for an image whose pixels are not known, as its features came
  /// from a cache, and for drops without scores.
  ///
  /// - Parameter selected: Indices of the tokens of each image that entered the decoder; `nil` for all.
  package func keptMaps(_ request: PreparedRequest, selected: [[Int]]?, _ drops: [DropResult]) -> [KeptMap?] {
    request.images.enumerated().map { index, image in
      let results = drops.map { (layer: $0.layer, $0.images[index]) }
      guard let views = image.views,
        results.allSatisfy({ $0.1.scores.count == $0.1.count })
      else { return nil }
      return KeptMap(
        views, llava.visualTokenPlaces(views.layout), patchSize: llava.configuration.tokenSize,
        selected: selected?[index],
        drops: results)
    }
  }
}

extension Session {
  /// The kept-token map of each image; none for a model that takes no images.
  ///
  /// - Throws: `GenerationError.tensorsNotRecorded` unless the request records tensors.
  public var keptMaps: [KeptMap] {
    get throws(GenerationError) {
      guard let tensors else { throw .tensorsNotRecorded }
      let llava = generator.model.llava
      return tensors.views.enumerated().map { index, views in
        KeptMap(
          views, llava.visualTokenPlaces(views.layout), patchSize: llava.configuration.tokenSize,
          selected: tensors.selected?[index], drops: tensors.drops.map { (layer: $0.layer, $0.images[index]) })
      }
    }
  }
}
