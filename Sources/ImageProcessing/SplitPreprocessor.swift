package import ModelFormats

/// The image preprocessor of SmolVLM and Idefics3: tiles of a resized image, and the whole image after them.
///
/// Every resize starts from the result of the one before, with 8-bit samples, as in the reference.
///
/// Source: `Idefics3ImageProcessor` in transformers.
public struct SplitPreprocessor: ImagePreprocessor {
  public let mode = ImageMode.anyres
  public var size: Int { rules.viewSize }
  public var tileLimit: Int? { rules.tileLimit }

  private let rules: ImageSplitting
  private let filter: ResampleFilter
  private let normalization: Normalization

  /// - Parameters:
  ///   - configuration: The `preprocessor_config.json` of the checkpoint, or the values for its vision encoder.
  ///   - rules: The sizes of the model's tiles and views.
  package init(_ configuration: PreprocessorConfiguration, _ rules: ImageSplitting) {
    self.rules = rules
    filter = configuration.filter
    normalization = Normalization(configuration)
  }

  /// The tiles of an image row by row and the whole image, or the whole image alone.
  public func callAsFunction(_ image: Image) -> ImageViews {
    let geometry = rules.geometry(PixelSize(height: image.height, width: image.width))
    func resized(_ image: Image, to size: PixelSize) -> Image {
      image.resized(width: size.width, height: size.height, filter: filter)
    }
    let canvas = resized(resized(image, to: geometry.resized), to: geometry.canvas)
    var pixels: [UInt8] = []
    if case .split(let rows, let columns) = geometry.layout {
      pixels.reserveCapacity((rows * columns + 1) * 3 * size * size)
      for row in 0..<rows {
        for column in 0..<columns { pixels += view(of: canvas, left: -column * size, top: -row * size) }
      }
    }
    let whole = resized(canvas, to: PixelSize(height: size, width: size))
    pixels += view(of: whole, left: 0, top: 0)
    return ImageViews(pixels, size: size, layout: geometry.layout, normalization)
  }

  private func view(of image: Image, left: Int, top: Int) -> [UInt8] {
    var view = ViewPixels(size: size)
    view.paste(image.pixels, columns: image.width, left: left, top: top)
    return view.planes
  }
}
