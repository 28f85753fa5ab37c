package import ModelFormats

/// The tiles of a picture as a grid, and which of their features show the picture and not its padding.
///
/// The features of all tiles make one map in the order of the picture: `rows · S` by `columns · S` of them, where `S` is
/// how many patches the tower cuts a view's side into.
package struct TileGrid: Sendable, Equatable {
  package var rows: Int
  package var columns: Int
  /// Rows of the map that are kept; none when the picture is a flat strip.
  package var keptRows: Range<Int>
  /// Columns of the map that are kept; none when the picture is an upright strip.
  package var keptColumns: Range<Int>

  package var tileCount: Int { rows * columns }

  /// The visual tokens of the tiles: the kept features and the newline behind each row of them.
  package var tokenCount: Int { keptRows.count * (keptColumns.count + 1) }
}

/// How LLaVA-NeXT spreads a picture over tiles: on which canvas, at which size, and what of the tiles' features is kept.
///
/// The rules are continuous arithmetic cut to integers, so every product and quotient stands here in the order in which
/// the reference takes it.
///
/// Source: `select_best_resolution`, `resize_and_pad_image` in LLaVA's `llava/mm_utils.py`, `unpad_image` in its
/// `llava/model/llava_arch.py`, and the functions of the same tasks in transformers.
package struct AnyResolutionGeometry: Sendable, Equatable {
  /// What the picture is put on, in pixels.
  package let canvas: PixelSize
  /// The picture's own size on the canvas, in pixels.
  package let resized: PixelSize
  package let tiles: TileGrid

  /// - Parameters:
  ///   - picture: The picture's size, at least one pixel.
  ///   - rules: The model's canvases and views.
  package init(_ picture: PixelSize, _ rules: AnyResolution) {
    precondition(
      picture.width > 0 && picture.height > 0 && !rules.canvases.isEmpty, "AnyResolutionGeometry: \(picture)")
    canvas = Self.canvas(for: picture, rules.canvases)
    resized = Self.resized(picture, to: canvas)
    let (rows, columns) = (canvas.height / rules.viewSize, canvas.width / rules.viewSize)
    let map = PixelSize(height: rows * rules.patchesPerSide, width: columns * rules.patchesPerSide)
    let (keptRows, keptColumns) = Self.unpadded(map, of: picture, rules.arithmetic)
    tiles = TileGrid(rows: rows, columns: columns, keptRows: keptRows, keptColumns: keptColumns)
  }

  /// Canvas rows above the picture; an odd row more is below it.
  package var top: Int { (canvas.height - resized.height) / 2 }

  /// Canvas columns left of the picture; an odd column more is on its right.
  package var left: Int { (canvas.width - resized.width) / 2 }

  /// Where the picture lies on the canvas.
  package var area: PictureArea {
    PictureArea(
      rows: Double(top)..<Double(top + resized.height), columns: Double(left)..<Double(left + resized.width))
  }

  /// The canvas on which most of the picture's pixels survive, and of several the one that it fills best.
  private static func canvas(for picture: PixelSize, _ canvases: [PixelSize]) -> PixelSize {
    let (width, height) = (Double(picture.width), Double(picture.height))
    let (product, overflow) = picture.width.multipliedReportingOverflow(by: picture.height)
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

  /// The size at which the picture just fits the canvas, grown if need be.
  private static func resized(_ picture: PixelSize, to canvas: PixelSize) -> PixelSize {
    let (width, height) = (Double(picture.width), Double(picture.height))
    let (across, down) = (Double(canvas.width) / width, Double(canvas.height) / height)
    return across < down
      ? PixelSize(height: min(Int((height * across).rounded(.up)), canvas.height), width: canvas.width)
      : PixelSize(height: canvas.height, width: min(Int((width * down).rounded(.up)), canvas.width))
  }

  /// The rows and columns of a feature map that show the picture.
  ///
  /// The same margin is cut off both sides, so where the padding is odd one padded row or column stays.
  private static func unpadded(
    _ map: PixelSize, of picture: PixelSize, _ arithmetic: AnyResolution.Arithmetic
  ) -> (rows: Range<Int>, columns: Range<Int>) {
    let (width, height) = (Double(picture.width), Double(picture.height))
    let (mapWidth, mapHeight) = (Double(map.width), Double(map.height))
    if width / height > mapWidth / mapHeight {
      let margin = (map.height - arithmetic.integer(height * (mapWidth / width))) / 2
      return (margin..<map.height - margin, 0..<map.width)
    } else {
      let margin = (map.width - arithmetic.integer(width * (mapHeight / height))) / 2
      return (0..<map.height, margin..<map.width - margin)
    }
  }
}

extension AnyResolution.Arithmetic {
  /// A length that is not negative, cut to an integer.
  fileprivate func integer(_ length: Double) -> Int {
    switch self {
    case .original: return Int(length)
    case .huggingFace:
      // Rounding to seven decimals reaches the next integer from less than half a unit of the seventh below it, and
      // the distance to that integer is exact.
      let next = length.rounded(.up)
      return next - length < 5e-8 ? Int(next) : Int(length)
    }
  }
}
