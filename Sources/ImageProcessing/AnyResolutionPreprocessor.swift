package import ModelFormats

/// The image preprocessor of LLaVA-NeXT and LLaVA-OneVision: a base view and the tiles of a canvas.
///
/// The base view is the whole image resized to a square. The tiles are those of a larger copy, centered on a black
/// canvas. In LLaVA-OneVision each of several images in a prompt has one view, padded to a square with the mean colour.
///
/// Source: `process_anyres_image` in LLaVA's `llava/mm_utils.py`; `LlavaNextImageProcessor` and
/// `LlavaOnevisionImageProcessor` in transformers.
public struct AnyResolutionPreprocessor: ImagePreprocessor {
  public let mode = ImageMode.anyres
  public var size: Int { rules.viewSize }

  private let rules: AnyResolution
  private let normalization: Normalization
  /// The preprocessor of one of several images and of the frames of a video; `nil` for models without such rules.
  private let square: (ofSeveral: CLIPPreprocessor, ofVideo: CLIPPreprocessor)?

  /// - Parameters:
  ///   - configuration: The `preprocessor_config.json` of the checkpoint, or LLaVA's defaults.
  ///   - rules: The canvases and views of the model.
  /// - Throws: ``PreprocessorConfigurationError`` if views or canvases of the file differ from those of the model.
  package init(
    _ configuration: PreprocessorConfiguration, _ rules: AnyResolution
  ) throws(PreprocessorConfigurationError) {
    let view = PixelSize(height: rules.viewSize, width: rules.viewSize)
    let expected = "\(view.height), the image size of the vision encoder"
    guard configuration.cropSize == view || !configuration.centerCrops else {
      throw .invalidValue(
        key: "crop_size", expected: expected,
        found: "\(configuration.cropSize.height) x \(configuration.cropSize.width)")
    }
    guard configuration.resizesTo == .shortestEdge(view.height) || configuration.resizesTo == .exact(view) else {
      throw .invalidValue(key: "size", expected: expected, found: "\(configuration.resizesTo)")
    }
    guard configuration.gridPinpoints.isEmpty || configuration.gridPinpoints == rules.canvases else {
      throw .invalidValue(
        key: "image_grid_pinpoints", expected: "the list of config.json",
        found: "another list of \(configuration.gridPinpoints.count)")
    }
    self.rules = rules
    normalization = Normalization(configuration)
    square =
      rules.tilesOnlySingleImages
      ? (try CLIPPreprocessor(configuration, mode: .pad), try CLIPPreprocessor(configuration, mode: .crop)) : nil
  }

  /// The base view of an image and the tiles of its canvas, row by row.
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
    return ImageViews(pixels, size: size, layout: .tiled(geometry.tiles), area: geometry.area, normalization)
  }

  public var tileLimit: Int? { rules.tileLimit }

  public var tilesOnlySingleImages: Bool { rules.tilesOnlySingleImages }

  /// An image of a prompt with several: one view, padded to a square, in LLaVA-OneVision.
  public func views(ofOneOfSeveral image: Image) -> ImageViews { square?.ofSeveral(image) ?? self(image) }

  /// A frame of a video: one view, resized to a square.
  public func view(ofFrame frame: Image) -> ImageViews? { square?.ofVideo(frame) }

  /// The image resized, `[height, width, 3]`.
  private func scaled(_ image: Image, to size: PixelSize) -> [UInt8] {
    resampled(
      Canvas(image), width: size.width, height: size.height, columns: 0..<size.width, rows: 0..<size.height)
  }

  /// The view of an image at the position `left`, `top` of a black square, `[3, S, S]`.
  private func view(of samples: [UInt8], columns: Int, left: Int, top: Int) -> [UInt8] {
    var view = ViewPixels(size: size)
    view.paste(samples, columns: columns, left: left, top: top)
    return view.planes
  }
}
