/// The tiling of one image in LLaVA-NeXT or LLaVA-OneVision: the canvas, the resized image on it, and the kept part of
/// the features.
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
      image.width > 0 && image.height > 0 && !rules.usableCanvases.isEmpty, "AnyResolutionGeometry: \(image)")
    canvas = Self.canvas(for: image, rules.usableCanvases)
    resized = Self.resized(image, to: canvas)
    let (rows, columns) = (canvas.height / rules.viewSize, canvas.width / rules.viewSize)
    let map = PixelSize(height: rows * rules.patchesPerSide, width: columns * rules.patchesPerSide)
    let (keptRows, keptColumns) = Self.unpadded(map, of: image, rules.sizeRule)
    tiles = TileGrid(
      rows: rows, columns: columns, keptRows: keptRows, keptColumns: keptColumns,
      reduced: rules.reduced(MapSize(rows: keptRows.count, columns: keptColumns.count)))
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
