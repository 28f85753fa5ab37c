/// The tiling of images in SmolVLM and Idefics3: tiles of one size, and the whole image after them.
///
/// Source: `Idefics3ImageProcessor` in transformers.
package struct ImageSplitting: Sendable, Equatable {
  /// The length of the longer side of an image after the first resize, in pixels; 4096 is the limit.
  package var longestEdge: Int
  /// The side `S` of a view in pixels.
  package var viewSize: Int
  /// Whether images have tiles; otherwise each is one view.
  package var splits = true
  /// The largest number of tiles that is used, if less than the resize gives.
  package var tileLimit: Int?

  /// The largest side of an image after the first resize, whatever the file says.
  private static let longestSide = 4096

  /// The largest number of tiles along a side of an image.
  static let tilesPerSide = 16

  package init(longestEdge: Int, viewSize: Int, splits: Bool = true) {
    (self.longestEdge, self.viewSize, self.splits) = (longestEdge, viewSize, splits)
  }

  /// The rules of published models for a vision encoder: up to four tiles along a side.
  package init(for vision: VisionConfiguration) {
    self.init(longestEdge: 4 * vision.imageSize, viewSize: vision.imageSize)
  }

  /// The largest number of tiles of an image.
  package var maxTileCount: Int {
    // The shorter side of a square is rounded up to an even number of pixels.
    let perSide = (min(longestEdge + longestEdge % 2, Self.longestSide) + viewSize - 1) / viewSize
    let all = splits && perSide > 1 ? perSide * perSide : 0
    return min(all, tileLimit ?? all)
  }

  /// The sizes of an image on its way to views.
  package struct Geometry: Sendable, Equatable {
    /// The size after the first resize, which keeps the aspect ratio.
    package var resized: PixelSize
    /// The size after the second one: multiples of the view size, or one view.
    package var canvas: PixelSize
    package var layout: ViewLayout
  }

  /// The sizes of an image.
  ///
  /// With a limit of tiles, the first resize is to the largest multiple of the view size that needs no more of them.
  package func geometry(_ image: PixelSize) -> Geometry {
    var edge = longestEdge
    while true {
      var geometry = geometry(image, longestEdge: edge)
      guard let tileLimit, case .split(let rows, let columns) = geometry.layout, rows * columns > tileLimit else {
        return geometry
      }
      guard edge > viewSize else {
        geometry.canvas = PixelSize(height: viewSize, width: viewSize)
        geometry.layout = .single
        return geometry
      }
      edge = (edge - 1) / viewSize * viewSize
    }
  }

  private func geometry(_ image: PixelSize, longestEdge: Int) -> Geometry {
    // Quotients of Python floats.
    func width(_ size: PixelSize, height: Int) -> Int {
      Int(Double(height) * (Double(size.width) / Double(size.height)))
    }
    func height(_ size: PixelSize, width: Int) -> Int {
      Int(Double(width) / (Double(size.width) / Double(size.height)))
    }
    func even(_ side: Int) -> Int { max(1, side + side % 2) }
    func multiple(_ side: Int) -> Int { (side + viewSize - 1) / viewSize * viewSize }

    var resized =
      image.width >= image.height
      ? PixelSize(height: even(height(image, width: longestEdge)), width: longestEdge)
      : PixelSize(height: longestEdge, width: even(width(image, height: longestEdge)))
    if max(resized.width, resized.height) > Self.longestSide {
      let side = Self.longestSide
      resized =
        resized.width >= resized.height
        ? PixelSize(height: max(1, height(resized, width: side)), width: side)
        : PixelSize(height: side, width: max(1, width(resized, height: side)))
    }
    guard splits else {
      return Geometry(resized: resized, canvas: PixelSize(height: viewSize, width: viewSize), layout: .single)
    }
    var canvas = PixelSize(height: multiple(resized.height), width: multiple(resized.width))
    if resized.width >= resized.height {
      canvas.height = multiple(height(resized, width: canvas.width))
    } else {
      canvas.width = multiple(width(resized, height: canvas.height))
    }
    let (rows, columns) = (canvas.height / viewSize, canvas.width / viewSize)
    return Geometry(
      resized: resized, canvas: canvas,
      layout: rows > 1 || columns > 1 ? .split(rows: rows, columns: columns) : .single)
  }
}
