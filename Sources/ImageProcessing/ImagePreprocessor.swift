package import ModelFormats
public import Storage

/// Turns images into what a model's vision encoder looks at.
public protocol ImagePreprocessor: Sendable {
  /// How images are fitted; never `auto`.
  var mode: ImageMode { get }

  /// The side of a view, in pixels.
  var size: Int { get }

  /// The image as one view or several.
  func callAsFunction(_ image: Image) -> ImageViews
}

extension LLaVAConfiguration {
  /// What prepares images for the model.
  ///
  /// - Parameters:
  ///   - file: The checkpoint's `preprocessor_config.json`, nil where there is none.
  ///   - mode: How images are to be fitted; the mode `auto` spreads them over several views where the model can.
  /// - Throws: ``PreprocessorConfigurationError`` when the file does not fit the model, ``ImageModeError`` when the mode
  ///   does not.
  package func preprocessor(_ file: PreprocessorConfiguration?, mode: ImageMode) throws -> any ImagePreprocessor {
    let configuration = file ?? PreprocessorConfiguration(side: vision.imageSize)
    if let anyResolution, mode == .auto || mode == .anyres {
      return try AnyResolutionPreprocessor(configuration, anyResolution)
    }
    guard mode != .anyres else { throw ImageModeError(mode: mode, modelType: modelType) }
    let preprocessor = try CLIPPreprocessor(
      configuration, mode: mode.resolved(file, imageAspectRatio: imageAspectRatio, layout: layout))
    guard preprocessor.size == vision.imageSize else {
      throw PreprocessorConfigurationError.invalidValue(
        key: "crop_size", expected: "the vision encoder's \(vision.imageSize)", found: "\(preprocessor.size)")
    }
    return preprocessor
  }
}

/// A way of fitting images that the model was not made for.
public struct ImageModeError: UserFacingError, Equatable {
  public let mode: ImageMode
  public let modelType: String

  public var category: ErrorCategory { .model }
  public var problem: String {
    "image mode \(mode.rawValue): a model of type \(modelType) sees an image in one view"
  }

  public var remedies: [Remedy] { [.imageMode(["pad", "crop", "auto"])] }
}

/// How an image that is not square becomes the square, or the squares, that the vision encoder sees.
public enum ImageMode: String, Sendable, CaseIterable {
  /// Filled up to a square with the mean colour, as LLaVA-1.5 was evaluated.
  case pad

  /// Cut to its middle, as Hugging Face's processor of LLaVA-1.5 does by default.
  case crop

  /// Squeezed into one square and spread over several more, as LLaVA-NeXT does.
  case anyres

  /// One of them, as the checkpoint's files say.
  case auto

  /// The mode that stands for `auto` where images are seen in one view; the others stand for themselves.
  ///
  /// - Parameters:
  ///   - configuration: The checkpoint's `preprocessor_config.json`, nil where there is none.
  ///   - imageAspectRatio: The value of `image_aspect_ratio` in `config.json`, nil where there is none.
  ///   - layout: Whose rules hold; the original code goes by `image_aspect_ratio` alone.
  ///
  /// Source: `process_images` in LLaVA's `llava/mm_utils.py`; `LlavaImageProcessor` in transformers.
  package func resolved(
    _ configuration: PreprocessorConfiguration?, imageAspectRatio: String?, layout: CheckpointLayout = .huggingFace
  ) -> ImageMode {
    guard self == .auto else { return self }
    if layout == .original { return imageAspectRatio == "pad" ? .pad : .crop }
    guard let configuration else { return .pad }
    return configuration.padsToSquare || imageAspectRatio == "pad" ? .pad : .crop
  }
}

/// What the vision encoder sees of one image: one square, or one of the whole image and several tiles of it.
public struct ImageViews: Sendable, Equatable {
  /// The number of squares.
  public let count: Int

  /// The side `S` of each square.
  public let size: Int

  /// The samples before rescaling, `[count, 3, S, S]`.
  public let pixels: [UInt8]

  /// How the tiles after the first square make the image; `nil` when there are none.
  package let tiles: TileGrid?

  /// Where the image lies on the square, or on the canvas of the tiles; `nil` where it fills all of it.
  package let area: ImageArea?

  private let normalization: Normalization

  /// - Parameter pixels: `[views, 3, size, size]`.
  init(
    _ pixels: [UInt8], size: Int, tiles: TileGrid? = nil, area: ImageArea? = nil, _ normalization: Normalization
  ) {
    count = 1 + (tiles?.tileCount ?? 0)
    precondition(pixels.count == count * 3 * size * size, "ImageViews: \(pixels.count) samples for \(count) views")
    self.size = size
    self.pixels = pixels
    self.tiles = tiles
    self.area = area
    self.normalization = normalization
  }

  /// The samples, rescaled and normalised, `[count, 3, S, S]`; four times as large as the samples, so made when asked for.
  public var pixelValues: [Float] { normalization(pixels, plane: size * size) }
}

/// A view under construction: a black square that images are pasted on.
struct ViewPixels {
  /// The side `S`.
  let size: Int

  /// The samples, `[3, S, S]`.
  private(set) var planes: [UInt8]

  init(size: Int) {
    self.size = size
    planes = [UInt8](repeating: 0, count: 3 * size * size)
  }

  /// Pastes the part of an image that falls on the square.
  ///
  /// - Parameters:
  ///   - samples: The image, `[rows, columns, 3]`.
  ///   - columns: How wide the image is.
  ///   - left: The column of the square on which the image's first column lies; negative when it lies outside.
  ///   - top: The row of the square on which the image's first row lies; negative when it lies outside.
  mutating func paste(_ samples: [UInt8], columns: Int, left: Int, top: Int) {
    precondition(
      columns > 0 && samples.count.isMultiple(of: 3 * columns), "paste: \(samples.count) of \(columns) columns")
    let across = max(0, -left)..<max(0, -left, min(columns, size - left))
    let down = max(0, -top)..<max(0, -top, min(samples.count / (3 * columns), size - top))
    for y in down {
      for channel in 0..<3 {
        let target = (channel * size + top + y) * size + left
        let source = 3 * y * columns + channel
        for x in across { planes[target + x] = samples[source + 3 * x] }
      }
    }
  }
}

/// From 8-bit samples to what the vision encoder takes: `(sample * rescale_factor - mean) / std` in single precision.
struct Normalization: Sendable, Equatable {
  /// The value of each sample, by channel, `[3, 256]`.
  private let values: [Float]

  init(_ configuration: PreprocessorConfiguration) {
    values = (0..<3).flatMap { channel in
      (0..<256).map { sample in
        var value = Float(sample)
        if configuration.rescales { value *= Float(configuration.rescaleFactor) }
        if configuration.normalizes {
          value = (value - Float(configuration.mean[channel])) / Float(configuration.standardDeviation[channel])
        }
        return value
      }
    }
  }

  /// The values of samples, `[views, 3, plane]`.
  func callAsFunction(_ samples: [UInt8], plane: Int) -> [Float] {
    var result: [Float] = []
    result.reserveCapacity(samples.count)
    for start in stride(from: 0, to: samples.count, by: plane) {
      let table = values[256 * (start / plane % 3)..<256 * (start / plane % 3 + 1)]
      for sample in samples[start..<start + plane] { result.append(table[table.startIndex + Int(sample)]) }
    }
    return result
  }
}
