package import ModelFormats

/// The image preprocessor of CLIP's vision encoder: one square view of normalised samples.
///
/// The mode `pad` first pads the image to a square with the mean colour. The mode `crop` resizes the image and crops
/// its center.
///
/// Source: `process_images` in LLaVA's `llava/mm_utils.py`; `CLIPImageProcessor` in transformers.
public struct CLIPPreprocessor: ImagePreprocessor {
  /// Either `pad` or `crop`.
  public let mode: ImageMode

  /// The side `S` of a view.
  public let size: Int

  private let configuration: PreprocessorConfiguration
  private let normalization: Normalization

  /// - Parameters:
  ///   - configuration: The configuration of the checkpoint, or LLaVA's defaults.
  ///   - mode: `pad` or `crop`; `auto` is resolved as without a `config.json`.
  /// - Throws: ``PreprocessorConfigurationError`` if the views would not all be squares of one size.
  package init(
    _ configuration: PreprocessorConfiguration, mode: ImageMode
  ) throws(PreprocessorConfigurationError) {
    let mode = mode.resolved(configuration, imageAspectRatio: nil)
    precondition(mode != .anyres, "CLIPPreprocessor: the mode anyres has several views")
    var view: PreprocessorConfiguration.Size
    switch (configuration.centerCrops, configuration.resizes, configuration.resizesTo) {
    case (true, _, _): view = configuration.cropSize
    case (false, true, .exact(let size)): view = size
    case (false, true, .shortestEdge(let edge)) where mode == .pad:
      view = PreprocessorConfiguration.Size(height: edge, width: edge)
    default:
      throw .invalidValue(key: "do_center_crop", expected: "true, as views must have one size", found: "false")
    }
    guard view.height == view.width else {
      throw .invalidValue(key: "crop_size", expected: "a square", found: "\(view.height) x \(view.width)")
    }
    self.configuration = configuration
    normalization = Normalization(configuration)
    self.mode = mode
    size = view.height
  }

  /// The image as one view.
  public func callAsFunction(_ image: Image) -> ImageViews {
    let canvas = mode == .pad ? Canvas(squaring: image, fill: meanColor) : Canvas(image)
    return ImageViews(view(canvas), size: size, area: mode == .pad ? area(canvas) : nil, normalization)
  }

  /// The area of the image of a square canvas on the view.
  private func area(_ canvas: Canvas) -> ImageArea {
    let resized = resizedSize(width: canvas.width, height: canvas.height)
    func range(_ covered: Range<Int>, of side: Int, to resized: Int) -> Range<Double> {
      // The product comes first, so that an edge between patches is an integer.
      func position(_ edge: Int) -> Double {
        Double(edge * resized) / Double(side) - Double(Self.cropOrigin(resized, size))
      }
      return position(covered.lowerBound)..<position(covered.upperBound)
    }
    return ImageArea(
      rows: range(canvas.rows, of: canvas.height, to: resized.height),
      columns: range(canvas.columns, of: canvas.width, to: resized.width))
  }

  /// The size of a canvas after the resize, before the crop.
  package func resizedSize(width: Int, height: Int) -> PreprocessorConfiguration.Size {
    guard configuration.resizes else { return PreprocessorConfiguration.Size(height: height, width: width) }
    switch configuration.resizesTo {
    case .exact(let size): return size
    case .shortestEdge(let edge):
      // In Double, not in integers: the reference truncates a rounded quotient.
      let long = Int(Double(edge * max(width, height)) / Double(min(width, height)))
      return width <= height
        ? PreprocessorConfiguration.Size(height: long, width: edge)
        : PreprocessorConfiguration.Size(height: edge, width: long)
    }
  }

  /// The background of the mode `pad`: the mean colour, which is normalised to about zero.
  private var meanColor: [UInt8] { configuration.mean.map { UInt8(clamping: Int($0 * 255)) } }

  /// The center of the resized canvas, `[3, S, S]`; black outside a smaller canvas.
  private func view(_ canvas: Canvas) -> [UInt8] {
    let resized = resizedSize(width: canvas.width, height: canvas.height)
    let left = Self.cropOrigin(resized.width, size)
    let top = Self.cropOrigin(resized.height, size)
    let columns = max(0, left)..<min(resized.width, left + size)
    let rows = max(0, top)..<min(resized.height, top + size)
    let samples = resizedBicubic(
      canvas, width: resized.width, height: resized.height, columns: columns, rows: rows)
    var view = ViewPixels(size: size)
    view.paste(samples, columns: columns.count, left: columns.lowerBound - left, top: rows.lowerBound - top)
    return view.planes
  }

  /// The start of a centered window of `size` in `count`, rounded down even if negative.
  private static func cropOrigin(_ count: Int, _ size: Int) -> Int { (count - size) >> 1 }
}

/// The image preprocessor of LLaVA-NeXT: a base view and the tiles of a canvas.
///
/// The base view is the whole image resized to a square. The tiles are those of a larger copy, centered on a black
/// canvas.
///
/// Source: `process_anyres_image` in LLaVA's `llava/mm_utils.py`; `LlavaNextImageProcessor` in transformers.
public struct AnyResolutionPreprocessor: ImagePreprocessor {
  public let mode = ImageMode.anyres
  public var size: Int { rules.viewSize }

  private let rules: AnyResolution
  private let normalization: Normalization

  /// - Parameters:
  ///   - configuration: The `preprocessor_config.json` of the checkpoint, or LLaVA's defaults.
  ///   - rules: The canvases and views of the model.
  /// - Throws: ``PreprocessorConfigurationError`` if views or canvases of the file differ from those of the model.
  package init(
    _ configuration: PreprocessorConfiguration, _ rules: AnyResolution
  ) throws(PreprocessorConfigurationError) {
    let view = PixelSize(height: rules.viewSize, width: rules.viewSize)
    let expected = "\(view.height), the image size of the vision encoder"
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
        key: "image_grid_pinpoints", expected: "the list of config.json",
        found: "another list of \(configuration.gridPinpoints.count)")
    }
    self.rules = rules
    normalization = Normalization(configuration)
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
    return ImageViews(pixels, size: size, tiles: geometry.tiles, area: geometry.area, normalization)
  }

  /// The image resized, `[height, width, 3]`.
  private func scaled(_ image: Image, to size: PixelSize) -> [UInt8] {
    resizedBicubic(
      Canvas(image), width: size.width, height: size.height, columns: 0..<size.width, rows: 0..<size.height)
  }

  /// The view of an image at the position `left`, `top` of a black square, `[3, S, S]`.
  private func view(of samples: [UInt8], columns: Int, left: Int, top: Int) -> [UInt8] {
    var view = ViewPixels(size: size)
    view.paste(samples, columns: columns, left: left, top: top)
    return view.planes
  }
}
