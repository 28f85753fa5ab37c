package import ModelFormats
public import Storage

/// An image preprocessor: images to views for the vision encoder.
public protocol ImagePreprocessor: Sendable {
  /// The image mode; never `auto`.
  var mode: ImageMode { get }

  /// The side of a view, in pixels.
  var size: Int { get }

  /// The one or several views of an image.
  func callAsFunction(_ image: Image) -> ImageViews

  /// The largest number of tiles of an image, if less than the model allows.
  var tileLimit: Int? { get }

  /// Whether only single images have tiles: each of several images in a prompt has one view.
  var tilesOnlySingleImages: Bool { get }

  /// The views of an image of a prompt with several.
  func views(ofOneOfSeveral image: Image) -> ImageViews

  /// The view of a frame of a video; `nil` for models that take no videos.
  func view(ofFrame frame: Image) -> ImageViews?
}

extension ImagePreprocessor {
  /// The image mode and the limit of tiles in words, such as `pad` or `anyres, at most 4 tiles`.
  public var summary: String { mode.rawValue + (tileLimit.map { ", at most \($0) tiles" } ?? "") }

  public var tileLimit: Int? { nil }

  public var tilesOnlySingleImages: Bool { false }

  public func views(ofOneOfSeveral image: Image) -> ImageViews { self(image) }

  public func view(ofFrame frame: Image) -> ImageViews? { nil }
}

extension LLaVAConfiguration {
  /// The image preprocessor of the model.
  ///
  /// - Parameters:
  ///   - file: The checkpoint's `preprocessor_config.json`, nil if it has none.
  ///   - mode: The image mode; `auto` uses several views if the model supports them.
  /// - Throws: ``PreprocessorConfigurationError`` if the file does not fit the model, ``ImageModeError`` if the mode
  ///   does not.
  package func preprocessor(_ file: PreprocessorConfiguration?, mode: ImageMode) throws -> (any ImagePreprocessor)? {
    guard let vision else { return nil }
    let configuration = file ?? PreprocessorConfiguration(for: vision)
    if let imageSplitting {
      guard mode == .auto || mode == .anyres else {
        throw ImageModeError(mode: mode, modelType: modelType, isSplit: true)
      }
      return SplitPreprocessor(configuration, imageSplitting)
    }
    if let anyResolution, mode == .auto || mode == .anyres {
      return try AnyResolutionPreprocessor(configuration, anyResolution)
    }
    guard mode != .anyres else { throw ImageModeError(mode: mode, modelType: modelType) }
    if let limit = anyResolution?.tileLimit {
      throw TileLimitError(limit: limit, smallest: nil, reason: "image mode \(mode.rawValue) has one view per image")
    }
    let preprocessor = try CLIPPreprocessor(
      configuration, mode: mode.resolved(file, imageAspectRatio: imageAspectRatio, layout: layout))
    guard preprocessor.size == vision.imageSize else {
      throw PreprocessorConfigurationError.invalidValue(
        key: "crop_size", expected: "the vision encoder's \(vision.imageSize)", found: "\(preprocessor.size)")
    }
    return preprocessor
  }
}

extension LLaVAConfiguration {
  /// Limits the tiles of an image.
  ///
  /// - Throws: ``TileLimitError`` for a model without tiles, or if no canvas has as few.
  package mutating func limitTiles(to limit: Int?) throws(TileLimitError) {
    guard let limit else { return }
    if imageSplitting?.splits == true, limit >= 1 {
      imageSplitting?.tileLimit = limit
      return
    }
    guard let smallest = anyResolution?.minTileCount, smallest <= limit else {
      throw TileLimitError(
        limit: limit, smallest: imageSplitting?.splits == true ? 1 : anyResolution?.minTileCount,
        reason: "models of type \(modelType) have one view per image")
    }
    anyResolution?.tileLimit = limit
  }
}

/// A limit of tiles that the model does not support.
public struct TileLimitError: UserFacingError, Equatable {
  public let limit: Int
  /// The smallest number of tiles of an image; `nil` for one view per image.
  public let smallest: Int?
  /// Why there are no tiles, in words.
  public let reason: String

  public var category: ErrorCategory { .model }
  public var problem: String {
    if let smallest { return "at most \(limit) tiles of an image: the model needs at least \(smallest)" }
    return "at most \(limit) tiles of an image: \(reason)"
  }
}

/// An image mode that the model does not support.
public struct ImageModeError: UserFacingError, Equatable {
  public let mode: ImageMode
  public let modelType: String
  /// Whether images are split into tiles whatever the mode, as in SmolVLM.
  public var isSplit = false

  public var category: ErrorCategory { .model }
  public var problem: String {
    "image mode \(mode.rawValue): "
      + (isSplit
        ? "models of type \(modelType) split images; a limit of 1 tile gives one view"
        : "models of type \(modelType) have one view per image")
  }

  public var remedies: [Remedy] { [.imageMode(isSplit ? ["auto"] : ["pad", "crop", "auto"])] }
}

/// The image mode: the way an image becomes the square view or views of the vision encoder.
public enum ImageMode: String, Sendable, CaseIterable {
  /// Padding to a square with the mean colour, as in the evaluation of LLaVA-1.5.
  case pad

  /// A center crop, the default of Hugging Face's processor of LLaVA-1.5.
  case crop

  /// A view of the whole image resized to a square, and tiles, as in LLaVA-NeXT, LLaVA-OneVision and SmolVLM.
  case anyres

  /// The mode of the checkpoint's files.
  case auto

  /// The mode that `auto` resolves to for models with one view; other modes are returned as they are.
  ///
  /// - Parameters:
  ///   - configuration: The checkpoint's `preprocessor_config.json`, nil if it has none.
  ///   - imageAspectRatio: The value of `image_aspect_ratio` in `config.json`, nil if it has none.
  ///   - layout: The layout whose rules apply; the original code uses `image_aspect_ratio` alone.
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

/// The views of one image or video for the vision encoder: a base view alone or followed by tiles, or frames.
public struct ImageViews: Sendable, Equatable {
  /// The number of views.
  public let count: Int

  /// The side `S` of each view.
  public let size: Int

  /// The samples before rescaling, `[count, 3, S, S]`.
  public let pixels: [UInt8]

  package let layout: ViewLayout

  /// The area of the image on the view or on the canvas of the tiles; `nil` if it fills the view.
  package let area: ImageArea?

  private let normalization: Normalization

  /// - Parameter pixels: The samples, `[views, 3, S, S]`.
  init(
    _ pixels: [UInt8], size: Int, layout: ViewLayout = .single, area: ImageArea? = nil, _ normalization: Normalization
  ) {
    count = layout.viewCount
    precondition(pixels.count == count * 3 * size * size, "ImageViews: \(pixels.count) samples for \(count) views")
    self.size = size
    self.pixels = pixels
    self.layout = layout
    self.area = area
    self.normalization = normalization
  }

  /// The views of a video.
  ///
  /// - Parameter frames: The views of its frames, at least one.
  package init(frames: [ImageViews]) {
    self.init(
      frames.flatMap(\.pixels), size: frames[0].size, layout: .video(frames: frames.count), frames[0].normalization)
  }

  /// The same views with all patches of all tiles as tokens, those of padding too, and without newlines.
  ///
  /// - Parameter side: Patches along the side of a view.
  package func keepingAllPatches(side: Int) -> ImageViews {
    ImageViews(pixels, size: size, layout: layout.keepingAllPatches(side: side), normalization)
  }

  /// The rescaled and normalised samples, `[count, 3, S, S]`; computed on access, because they are four times as large.
  public var pixelValues: [Float] { normalization(pixels, plane: size * size) }
}

/// A view under construction: a black square on which images are pasted.
struct ViewPixels {
  /// The side `S`.
  let size: Int

  /// The samples, `[3, S, S]`.
  private(set) var planes: [UInt8]

  init(size: Int) {
    self.size = size
    planes = [UInt8](repeating: 0, count: 3 * size * size)
  }

  /// Pastes the part of an image that is inside the square.
  ///
  /// - Parameters:
  ///   - samples: The image, `[rows, columns, 3]`.
  ///   - columns: The width of the image.
  ///   - left: The column of the square at the first column of the image; negative if that is outside.
  ///   - top: The row of the square at the first row of the image; negative if that is outside.
  mutating func paste(_ samples: [UInt8], columns: Int, left: Int, top: Int) {
    precondition(
      columns > 0 && samples.count.isMultiple(of: 3 * columns), "paste: \(samples.count) of \(columns) columns")
    let sourceColumns = max(0, -left)..<max(0, -left, min(columns, size - left))
    let sourceRows = max(0, -top)..<max(0, -top, min(samples.count / (3 * columns), size - top))
    for y in sourceRows {
      for channel in 0..<3 {
        let target = (channel * size + top + y) * size + left
        let source = 3 * y * columns + channel
        for x in sourceColumns { planes[target + x] = samples[source + 3 * x] }
      }
    }
  }
}

/// The normalisation of 8-bit samples: `(sample * rescale_factor - mean) / std` in single precision.
struct Normalization: Sendable, Equatable {
  /// The normalised value of each sample by channel, `[3, 256]`.
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

  /// The normalised values of samples, `[views, 3, plane]`.
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
