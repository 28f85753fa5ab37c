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
    /// `image` for one view; `whole image` and `tiles` for several.
    public let name: String
    /// `rows · patchSize` by `columns · patchSize` pixels.
    public let image: Image
    /// Number of patches from top to bottom.
    public let rows: Int
    /// Number of patches from left to right.
    public let columns: Int
    /// Side of a patch in pixels.
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
    let side = views.size / patchSize
    let hasNewlines = places.contains { if case .newline = $0 { true } else { false } }
    var regions = [
      Region(
        name: views.tiles == nil ? "image" : "whole image", image: views.map(ofTiles: nil, patchSize: patchSize),
        rows: side, columns: side, patchSize: patchSize, hasNewlines: hasNewlines && views.tiles == nil)
    ]
    var keptTiles: TileGrid?
    if var tiles = views.tiles {
      if !hasNewlines { (tiles.keptRows, tiles.keptColumns) = (0..<tiles.rows * side, 0..<tiles.columns * side) }
      if !tiles.keptRows.isEmpty, !tiles.keptColumns.isEmpty {
        keptTiles = tiles
        regions.append(
          Region(
            name: "tiles", image: views.map(ofTiles: tiles, patchSize: patchSize), rows: tiles.keptRows.count,
            columns: tiles.keptColumns.count, patchSize: patchSize, hasNewlines: hasNewlines))
      }
    }
    self.regions = regions
    self.places = places.map { place in
      switch place {
      case .wholeView: nil
      case .patch(view: 0, let row, let column): Place(region: 0, row: row, column: column)
      case .patch(let view, let row, let column):
        keptTiles.map { tiles in
          Place(
            region: 1, row: (view - 1) / tiles.columns * side + row - tiles.keptRows.lowerBound,
            column: (view - 1) % tiles.columns * side + column - tiles.keptColumns.lowerBound)
        }
      case .newline(row: nil): Place(region: 0, row: side - 1, column: side)
      case .newline(let row?):
        keptTiles.map { Place(region: 1, row: row - $0.keptRows.lowerBound, column: $0.keptColumns.count) }
      }
    }
    let selection = selected.map { selected in
      var tokens = [Token](repeating: Token(), count: places.count)
      for token in selected { tokens[token].isKept = true }
      return Stage(layer: 0, tokens: tokens)
    }
    stages =
      (selection.map { [$0] } ?? [])
      + Self.stages(drops, entering: selected ?? Array(places.indices), tokenCount: places.count)
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

extension ImageViews {
  /// The pixels of the kept patches of the tiles, or of the first view for `nil`.
  fileprivate func map(ofTiles tiles: TileGrid?, patchSize: Int) -> Image {
    let side = size / patchSize
    let rows = tiles?.keptRows ?? 0..<side
    let columns = tiles?.keptColumns ?? 0..<side
    var samples: [UInt8] = []
    samples.reserveCapacity(3 * rows.count * columns.count * patchSize * patchSize)
    for y in rows.lowerBound * patchSize..<rows.upperBound * patchSize {
      for x in columns.lowerBound * patchSize..<columns.upperBound * patchSize {
        let tile = (y / (side * patchSize), x / (side * patchSize))
        let view = tiles.map { 1 + tile.0 * $0.columns + tile.1 } ?? 0
        let (row, column) = (y % (side * patchSize), x % (side * patchSize))
        for channel in 0..<3 { samples.append(pixels[((view * 3 + channel) * size + row) * size + column]) }
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
      guard let views = image.views, let vision = llava.configuration.vision,
        results.allSatisfy({ $0.1.scores.count == $0.1.count })
      else { return nil }
      return KeptMap(
        views, llava.visualTokenPlaces(views.tiles), patchSize: vision.patchSize, selected: selected?[index],
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
      guard let vision = llava.configuration.vision else { return [] }
      return tensors.views.enumerated().map { index, views in
        KeptMap(
          views, llava.visualTokenPlaces(views.tiles), patchSize: vision.patchSize,
          selected: tensors.selected?[index], drops: tensors.drops.map { (layer: $0.layer, $0.images[index]) })
      }
    }
  }
}
