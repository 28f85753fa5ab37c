import Kernels
import Storage

/// The tiling of images over several views in LLaVA-NeXT and LLaVA-OneVision (anyres).
package struct AnyResolution: Sendable, Equatable {
  /// The implementation to follow where the two differ: canvas order, and rounding when a product is close to an
  /// integer.
  package enum SizeRule: Sendable, CaseIterable {
    /// Canvases are listed as height and width; sizes are rounded to seven decimals before truncation.
    case huggingFace

    /// Canvases are listed as width and height; sizes are truncated directly.
    case original
  }

  /// The way the features of all views are merged into one sequence of tokens.
  package enum Merge: Sendable, Equatable {
    /// The tiles as one feature map without padding, with a newline token after each row.
    case spatialUnpad

    /// All features of all views, concatenated.
    case flat
  }

  /// The canvas sizes in the order of the file; of two equally good ones the first is used.
  package var canvases: [PixelSize]
  /// The side `S` of a view in pixels; the sides of canvases are multiples of it.
  package var viewSize: Int
  /// The number of patches along the side of a view.
  package var patchesPerSide: Int
  package var sizeRule: SizeRule
  package var merge = Merge.spatialUnpad
  /// The size, in views, to which a map of tile features is reduced if it is larger by more than a fifth: the number in
  /// LLaVA-OneVision's `anyres_max_9`; `nil` for maps of any size.
  package var maxMapViews: Int?
  /// Whether each of several images in a prompt has one view, padded to a square, as in LLaVA-OneVision.
  package var tilesOnlySingleImages = false
  /// The largest number of tiles that is used, if less than the canvases allow.
  package var tileLimit: Int?

  /// - Parameter pinpoints: The canvases in the notation of the file.
  package init(
    pinpoints: [(Int, Int)], viewSize: Int, patchesPerSide: Int, sizeRule: SizeRule, merge: Merge = .spatialUnpad
  ) {
    canvases = pinpoints.map { first, second in
      switch sizeRule {
      case .huggingFace: PixelSize(height: first, width: second)
      case .original: PixelSize(height: second, width: first)
      }
    }
    self.viewSize = viewSize
    self.patchesPerSide = patchesPerSide
    self.sizeRule = sizeRule
    self.merge = merge
  }

  /// The canvases within the limit of tiles.
  package var usableCanvases: [PixelSize] {
    guard let tileLimit else { return canvases }
    return canvases.filter { tileCount(of: $0) <= tileLimit }
  }

  /// The largest number of tiles of an image.
  package var maxTileCount: Int { usableCanvases.map(tileCount).max() ?? 0 }

  /// The smallest number of tiles of an image.
  package var minTileCount: Int { canvases.map(tileCount).min() ?? 0 }

  private func tileCount(of canvas: PixelSize) -> Int { (canvas.width / viewSize) * (canvas.height / viewSize) }

  /// The size to which a map of tile features is reduced; `nil` if it is small enough.
  ///
  /// Source: `pack_image_features` of LLaVA-OneVision in transformers; `int(h // times)` of Python floats.
  package func reduced(_ map: MapSize) -> MapSize? {
    guard let maxMapViews else { return nil }
    let limit = Double(maxMapViews * patchesPerSide * patchesPerSide)
    let ratio = (Double(map.rows * map.columns) / limit).squareRoot()
    guard ratio > 1.1 else { return nil }
    func divided(_ side: Int) -> Int {
      let quotient = (Double(side) - Double(side).truncatingRemainder(dividingBy: ratio)) / ratio
      return Int(quotient.rounded())
    }
    return MapSize(rows: divided(map.rows), columns: divided(map.columns))
  }

  /// The reference library's default: the canvases of the released models.
  static let releasedPinpoints = [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)]

  /// The same for LLaVA-OneVision: all canvases of up to six by six tiles.
  static let oneVisionPinpoints = grid(from: (1, 1), to: (6, 6), side: 384)

  /// All canvases between two numbers of tiles, row by row.
  static func grid(from first: (Int, Int), to last: (Int, Int), side: Int) -> [(Int, Int)] {
    (first.0...last.0).flatMap { rows in (first.1...last.1).map { (rows * side, $0 * side) } }
  }

  /// Checks that a file lists 1 to 64 canvases whose sides are multiples of the view size.
  init(
    checking pinpoints: [(Int, Int)], _ vision: VisionConfiguration, sizeRule: SizeRule,
    merge: Merge = .spatialUnpad, _ file: ConfigurationSection
  ) throws(CheckpointError) {
    let key = "image_grid_pinpoints"
    guard (1...64).contains(pinpoints.count) else {
      throw file.error(key, "1 to 64 pairs", found: "\(pinpoints.count)")
    }
    let side = vision.imageSize
    for (first, second) in pinpoints where !first.isMultiple(of: side) || !second.isMultiple(of: side) {
      throw file.error(key, "multiples of the vision encoder's \(side)", found: "[\(first), \(second)]")
    }
    self.init(
      pinpoints: pinpoints, viewSize: side, patchesPerSide: vision.patchesPerSide, sizeRule: sizeRule, merge: merge)
  }

  /// The tiling in a `config.json` of LLaVA-NeXT or LLaVA-OneVision in the Hugging Face layout; `nil` for other models.
  init?(
    _ file: ConfigurationSection, _ type: ModelType, _ vision: VisionConfiguration, dropsClassToken: Bool
  ) throws(CheckpointError) {
    guard type != .llava else { return nil }
    guard try file.flag("use_image_newline_parameter", default: true) else {
      throw file.error("use_image_newline_parameter", "true", found: "false, which is not supported")
    }
    // The class token has no position in a grid of features.
    guard dropsClassToken || !vision.hasClassToken else {
      throw file.error("vision_feature_select_strategy", "'default' for \(type.rawValue)")
    }
    let pinpoints = try file.gridPinpoints(side: vision.imageSize) ?? type.standardPinpoints
    try self.init(checking: pinpoints, vision, sizeRule: .huggingFace, file)
    guard type == .llavaOneVision else { return }
    tilesOnlySingleImages = true
    let ratio = try file.text("vision_aspect_ratio") ?? "anyres_max_9"
    guard let views = Self.maxMapViews(ratio) else {
      throw file.error("vision_aspect_ratio", "'anyres_max_' and a number from 1 to 64")
    }
    maxMapViews = views
  }

  /// The number in `anyres_max_9`; `nil` for other texts.
  static func maxMapViews(_ ratio: String) -> Int? {
    let prefix = "anyres_max_"
    guard ratio.hasPrefix(prefix), let views = Int(ratio.dropFirst(prefix.count)), (1...64).contains(views) else {
      return nil
    }
    return views
  }
}

extension ModelType {
  /// The reference library's canvases for a file without any.
  fileprivate var standardPinpoints: [(Int, Int)] {
    self == .llavaOneVision ? AnyResolution.oneVisionPinpoints : AnyResolution.releasedPinpoints
  }
}

extension ConfigurationSection {
  /// The value of `image_grid_pinpoints`: a list of pairs, a text of such a list in square or round brackets, or a text
  /// such as `(1x1),...,(6x6)`, all canvases between two numbers of tiles.
  ///
  /// - Parameter side: The side of a tile.
  /// - Returns: Height and width in Hugging Face files, width and height in original ones; `nil` if the key is absent
  ///   or null.
  func gridPinpoints(side: Int) throws(CheckpointError) -> [(Int, Int)]? {
    let key = "image_grid_pinpoints"
    var value = self[key]
    if value.isNull { return nil }
    if let text = value.string {
      let corners = text.matches(of: /\((\d{1,2})x(\d{1,2})\)/).compactMap { corner in
        Int(corner.1).flatMap { rows in Int(corner.2).map { (rows, $0) } }
      }
      if let first = corners.first, let last = corners.last {
        guard first.0 >= 1, first.1 >= 1, first.0 <= last.0, first.1 <= last.1, last.0 * last.1 <= 64,
          max(last.0, last.1) * side <= sideRange.upperBound
        else {
          throw error(
            key, "canvases of at most 64 tiles and \(sideRange.upperBound) pixels a side, the smallest first")
        }
        return AnyResolution.grid(from: first, to: last, side: side)
      }
      let list = text.utf8.map {
        $0 == UInt8(ascii: "(") ? UInt8(ascii: "[") : $0 == UInt8(ascii: ")") ? UInt8(ascii: "]") : $0
      }
      value = (try? JSONParser.parse(list)) ?? .null
    }
    guard let list = value.array else { throw error(key, "a list of pairs of integers") }
    var pairs: [(Int, Int)] = []
    for item in list {
      guard let pair = item.array, pair.count == 2, let first = pair[0].wholeValue, let second = pair[1].wholeValue,
        sideRange.contains(first), sideRange.contains(second)
      else {
        throw error(
          key, "pairs of integers from 1 to \(sideRange.upperBound)",
          found: item.array.map {
            "[\($0.prefix(3).map(\.excerpt).joined(separator: ", "))\($0.count > 3 ? ", …" : "")]"
          }
            ?? item.excerpt)
      }
      pairs.append((first, second))
    }
    return pairs
  }

  /// The accepted sides in pixels.
  var sideRange: ClosedRange<Int> { 1...4096 }
}
