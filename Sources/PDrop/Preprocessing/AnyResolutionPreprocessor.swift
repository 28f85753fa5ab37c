internal import LLaVA
package import ModelFormats

/// Spreads a picture over several views for LLaVA-NeXT: the whole picture squeezed into a square, then tiles of a larger
/// copy of it in the middle of a black canvas.
///
/// Source: `process_anyres_image` in LLaVA's `llava/mm_utils.py`; `LlavaNextImageProcessor` in transformers;
///.
public struct AnyResolutionPreprocessor: ImagePreprocessor {
  public let mode = ImageMode.anyres
  public var size: Int { rules.viewSize }

  private let rules: AnyResolution
  private let normalization: Normalization

  /// - Parameters:
  ///   - configuration: The checkpoint's `preprocessor_config.json`, or LLaVA's.
  ///   - rules: The model's canvases and views.
  /// - Throws: ``PreprocessorConfigurationError`` when the file asks for other views or canvases than the model's.
  package init(
    _ configuration: PreprocessorConfiguration, _ rules: AnyResolution
  ) throws(PreprocessorConfigurationError) {
    let view = PixelSize(height: rules.viewSize, width: rules.viewSize)
    let expected = "\(view.height), the side of the tower's picture"
    guard configuration.cropSize == view else {
      throw .invalidValue(
        key: "crop_size", expected: expected,
        found: "\(configuration.cropSize.height) x \(configuration.cropSize.width)")
    }
    guard configuration.resizesTo == .shortestEdge(view.height) || configuration.resizesTo == .exact(view) else {
      throw .invalidValue(key: "size", expected: expected, found: "\(configuration.resizesTo)")
    }
    guard configuration.gridPinpoints.isEmpty || configuration.gridPinpoints == rules.canvases else {
      throw .invalidValue(
        key: "image_grid_pinpoints", expected: "those of config.json",
        found: "\(configuration.gridPinpoints.count) others")
    }
    self.rules = rules
    normalization = Normalization(configuration)
  }

  /// The picture as a base view and the tiles of its canvas, row by row.
  public func callAsFunction(_ image: Image) -> ImageViews {
    let geometry = AnyResolutionGeometry(PixelSize(height: image.height, width: image.width), rules)
    var pixels = view(of: scaled(image, to: PixelSize(height: size, width: size)), columns: size, left: 0, top: 0)
    let resized = scaled(image, to: geometry.resized)
    for row in 0..<geometry.tiles.rows {
      for column in 0..<geometry.tiles.columns {
        pixels += view(
          of: resized, columns: geometry.resized.width, left: geometry.left - column * size,
          top: geometry.top - row * size)
      }
    }
    return ImageViews(pixels, size: size, tiles: geometry.tiles, area: geometry.area, normalization)
  }

  /// A picture at another size, `[height, width, 3]`.
  private func scaled(_ image: Image, to size: PixelSize) -> [UInt8] {
    resizedBicubic(
      Canvas(image), width: size.width, height: size.height, columns: 0..<size.width, rows: 0..<size.height)
  }

  /// What falls on a square of a picture that lies at `left` and `top`, `[3, S, S]`.
  private func view(of samples: [UInt8], columns: Int, left: Int, top: Int) -> [UInt8] {
    var view = SquareView(size: size)
    view.paste(samples, columns: columns, left: left, top: top)
    return view.planes
  }
}
