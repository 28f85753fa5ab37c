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

  /// The frame as any image.
  public func view(ofFrame frame: Image) -> ImageViews? { self(frame) }

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
    case .longestEdge(let edge):
      return ImageSplitting(longestEdge: edge, viewSize: size, splits: false)
        .geometry(PixelSize(height: height, width: width)).resized
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
    let samples = resampled(
      canvas, width: resized.width, height: resized.height, columns: columns, rows: rows)
    var view = ViewPixels(size: size)
    view.paste(samples, columns: columns.count, left: columns.lowerBound - left, top: rows.lowerBound - top)
    return view.planes
  }

  /// The start of a centered window of `size` in `count`, rounded down even if negative.
  private static func cropOrigin(_ count: Int, _ size: Int) -> Int { (count - size) >> 1 }
}
