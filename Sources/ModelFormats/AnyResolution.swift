import Kernels
import Storage

/// The tiling of images over several views in LLaVA-NeXT (anyres).
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

  /// The largest number of tiles of an image.
  package var maxTileCount: Int { canvases.map { ($0.width / viewSize) * ($0.height / viewSize) }.max() ?? 0 }

  /// The reference library's default: the canvases of the released models.
  static let releasedPinpoints = [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)]

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

  /// The tiling in a `config.json` of LLaVA-NeXT in the Hugging Face layout.
  init(_ file: ConfigurationSection, _ vision: VisionConfiguration, dropsClassToken: Bool) throws(CheckpointError) {
    guard try file.flag("use_image_newline_parameter", default: true) else {
      throw file.error("use_image_newline_parameter", "true", found: "false, which is not supported")
    }
    // The class token has no position in a grid of features.
    guard dropsClassToken else { throw file.error("vision_feature_select_strategy", "'default' for llava_next") }
    let pinpoints = try file.gridPinpoints() ?? Self.releasedPinpoints
    try self.init(checking: pinpoints, vision, sizeRule: .huggingFace, file)
  }
}

extension ConfigurationSection {
  /// The value of `image_grid_pinpoints`: a list of pairs, or a text of such a list in square or round brackets.
  ///
  /// - Returns: Height and width in Hugging Face files, width and height in original ones; `nil` if the key is absent
  ///   or null.
  func gridPinpoints() throws(CheckpointError) -> [(Int, Int)]? {
    let key = "image_grid_pinpoints"
    var value = self[key]
    if value.isNull { return nil }
    if let text = value.string {
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

/// The size of an image in pixels, height first as in Hugging Face files.
package struct PixelSize: Sendable, Equatable, Hashable {
  package var height: Int
  package var width: Int

  package init(height: Int, width: Int) {
    self.height = height
    self.width = width
  }
}

/// The grid of tiles of an image, and the part of their feature map without padding.
///
/// The features of all tiles form one map in image order, `rows · S` by `columns · S`, where `S` is the number of
/// patches along the side of a view.
package struct TileGrid: Sendable, Equatable {
  package var rows: Int
  package var columns: Int
  /// The rows of the map that are kept; empty for a very flat image.
  package var keptRows: Range<Int>
  /// The columns of the map that are kept; empty for a very tall image.
  package var keptColumns: Range<Int>

  package var tileCount: Int { rows * columns }

  /// The number of visual tokens of the tiles: the kept features and a newline token after each row.
  package var tokenCount: Int { keptRows.count * (keptColumns.count + 1) }

  package init(rows: Int, columns: Int, keptRows: Range<Int>, keptColumns: Range<Int>) {
    self.rows = rows
    self.columns = columns
    self.keptRows = keptRows
    self.keptColumns = keptColumns
  }
}

/// The tiling of one image in LLaVA-NeXT: the canvas, the resized image on it, and the kept part of the features.
///
/// The rules truncate real numbers to integers, so every product and quotient is computed in the order of the
/// reference.
///
/// Source: `select_best_resolution`, `resize_and_pad_image` in LLaVA's `llava/mm_utils.py`, `unpad_image` in its
/// `llava/model/llava_arch.py`, and the corresponding functions in transformers.
package struct AnyResolutionGeometry: Sendable, Equatable {
  /// The size of the canvas in pixels.
  package let canvas: PixelSize
  /// The size of the resized image on the canvas in pixels.
  package let resized: PixelSize
  package let tiles: TileGrid

  /// - Parameters:
  ///   - image: The size of the image, at least 1 × 1.
  ///   - rules: The model's canvases and views.
  package init(_ image: PixelSize, _ rules: AnyResolution) {
    precondition(
      image.width > 0 && image.height > 0 && !rules.canvases.isEmpty, "AnyResolutionGeometry: \(image)")
    canvas = Self.canvas(for: image, rules.canvases)
    resized = Self.resized(image, to: canvas)
    let (rows, columns) = (canvas.height / rules.viewSize, canvas.width / rules.viewSize)
    let map = PixelSize(height: rows * rules.patchesPerSide, width: columns * rules.patchesPerSide)
    let (keptRows, keptColumns) = Self.unpadded(map, of: image, rules.sizeRule)
    tiles = TileGrid(rows: rows, columns: columns, keptRows: keptRows, keptColumns: keptColumns)
  }

  /// The canvas rows above the image; with odd padding one more is below it.
  package var top: Int { (canvas.height - resized.height) / 2 }

  /// The canvas columns left of the image; with odd padding one more is on its right.
  package var left: Int { (canvas.width - resized.width) / 2 }

  /// The area of the image on the canvas.
  package var area: ImageArea {
    ImageArea(
      rows: Double(top)..<Double(top + resized.height), columns: Double(left)..<Double(left + resized.width))
  }

  /// The canvas that keeps the most pixels of the image; of several, the one with the least padding.
  private static func canvas(for image: PixelSize, _ canvases: [PixelSize]) -> PixelSize {
    let (width, height) = (Double(image.width), Double(image.height))
    let (product, overflow) = image.width.multipliedReportingOverflow(by: image.height)
    let area = overflow ? Int.max : product
    var best = (canvas: canvases[0], effective: -1, waste: 0)
    for canvas in canvases {
      let scale = min(Double(canvas.width) / width, Double(canvas.height) / height)
      let effective = min(Int(width * scale) * Int(height * scale), area)
      let waste = canvas.width * canvas.height - effective
      if effective > best.effective || (effective == best.effective && waste < best.waste) {
        best = (canvas, effective, waste)
      }
    }
    return best.canvas
  }

  /// The largest size at which the image fits the canvas.
  private static func resized(_ image: PixelSize, to canvas: PixelSize) -> PixelSize {
    let (width, height) = (Double(image.width), Double(image.height))
    let (across, down) = (Double(canvas.width) / width, Double(canvas.height) / height)
    return across < down
      ? PixelSize(height: min(Int((height * across).rounded(.up)), canvas.height), width: canvas.width)
      : PixelSize(height: canvas.height, width: min(Int((width * down).rounded(.up)), canvas.width))
  }

  /// The rows and columns of a feature map that show the image.
  ///
  /// Both sides lose the same margin, so with odd padding one padded row or column remains.
  private static func unpadded(
    _ map: PixelSize, of image: PixelSize, _ sizeRule: AnyResolution.SizeRule
  ) -> (rows: Range<Int>, columns: Range<Int>) {
    let (width, height) = (Double(image.width), Double(image.height))
    let (mapWidth, mapHeight) = (Double(map.width), Double(map.height))
    if width / height > mapWidth / mapHeight {
      let margin = (map.height - sizeRule.integer(height * (mapWidth / width))) / 2
      return (margin..<map.height - margin, 0..<map.width)
    } else {
      let margin = (map.width - sizeRule.integer(width * (mapHeight / height))) / 2
      return (0..<map.height, margin..<map.width - margin)
    }
  }
}

extension AnyResolution.SizeRule {
  /// A non-negative length, truncated to an integer.
  fileprivate func integer(_ length: Double) -> Int {
    switch self {
    case .original: return Int(length)
    case .huggingFace:
      // Rounding to seven decimals reaches the next integer from less than 5e-8 below it; the difference is exact.
      let next = length.rounded(.up)
      return next - length < 5e-8 ? Int(next) : Int(length)
    }
  }
}

/// The area of an image on its single view, or on the canvas of its tiles, in pixels.
///
/// The rest is padding. Edges may be fractions of a pixel.
package struct ImageArea: Sendable, Equatable {
  package var rows: Range<Double>
  package var columns: Range<Double>

  package init(rows: Range<Double>, columns: Range<Double>) { (self.rows, self.columns) = (rows, columns) }

  /// Whether a patch shows only padding.
  ///
  /// - Parameters:
  ///   - row: The row of the patch, from the top.
  ///   - column: The column of the patch, from the left.
  ///   - side: The side of a patch in pixels.
  package func misses(row: Int, column: Int, side: Int) -> Bool {
    func range(_ index: Int) -> Range<Double> { Double(index * side)..<Double((index + 1) * side) }
    return !rows.overlaps(range(row)) || !columns.overlaps(range(column))
  }
}
