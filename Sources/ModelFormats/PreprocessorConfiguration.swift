package import Storage

/// The configuration of image preprocessing, from a checkpoint's `preprocessor_config.json`.
///
/// Keys that the file omits have the values of its image processor or, if it names none, of the vision encoder's.
///
/// Source: `CLIPImageProcessor`, `SiglipImageProcessor`, `LlavaImageProcessor`, `LlavaNextImageProcessor`,
/// `LlavaOnevisionImageProcessor` and `Idefics3ImageProcessor` in transformers.
package struct PreprocessorConfiguration: Sendable, Equatable {
  package typealias Size = PixelSize

  /// The target size of a resize.
  package enum ResizeTarget: Sendable, Equatable, CustomStringConvertible {
    /// The length of the shorter side; the aspect ratio is kept.
    case shortestEdge(Int)

    /// The lengths of both sides; the aspect ratio is not kept.
    case exact(Size)

    /// The length of the longer side; the aspect ratio is kept, up to the rounding to even numbers of pixels.
    case longestEdge(Int)

    package var description: String {
      switch self {
      case .shortestEdge(let edge): "shortest_edge \(edge)"
      case .exact(let size): "\(size.height) x \(size.width)"
      case .longestEdge(let edge): "longest_edge \(edge)"
      }
    }
  }

  package var resizesTo = ResizeTarget.shortestEdge(336)
  package var cropSize = Size(height: 336, width: 336)
  package var mean = [0.48145466, 0.4578275, 0.40821073]
  package var standardDeviation = [0.26862954, 0.26130258, 0.27577711]
  package var rescaleFactor = 1.0 / 255
  /// The filter of resizes.
  package var filter = ResampleFilter.bicubic
  package var resizes = true
  package var centerCrops = true
  package var rescales = true
  package var normalizes = true
  package var convertsToRGB = true

  /// Whether images are padded to squares, which only LLaVA's own processor does. In the processors of LLaVA-NeXT and
  /// LLaVA-OneVision the same key is about batches, and those of CLIP and SigLIP do not read it.
  package var padsToSquare = false
  package var imageProcessorType: String?

  /// The canvas sizes of LLaVA-NeXT; empty for other models.
  package var gridPinpoints: [Size] = []

  /// Whether images are split into tiles, in SmolVLM and Idefics3; `cropSize` is then that of a tile.
  package var splits = false

  /// The values of LLaVA-1.5, for a vision encoder with views of `side` pixels.
  package init(side: Int = 336) {
    resizesTo = .shortestEdge(side)
    cropSize = Size(height: side, width: side)
  }

  /// The values of a vision encoder: those of LLaVA-1.5 for CLIP; a resize without a crop for SigLIP.
  package init(for vision: VisionConfiguration) {
    self.init(side: vision.imageSize)
    if vision.family == .siglip { useSigLIP(side: vision.imageSize) }
    if vision.appliesFinalNorm { filter = .lanczos }
  }

  private mutating func useSigLIP(side: Int) {
    resizesTo = .exact(Size(height: side, width: side))
    centerCrops = false
    (mean, standardDeviation) = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
  }

  /// The values of a vision encoder with the normalization of an mmproj file, which has no other keys.
  init(gguf file: GGUFFile, for vision: VisionConfiguration) throws(CheckpointError) {
    self.init(for: vision)
    let section = file.metadata.section("clip.vision.")
    mean = try section.numbers("image_mean", in: -1000...1000) ?? mean
    standardDeviation = try section.numbers("image_std", in: 1e-6...1e6) ?? standardDeviation
  }

  /// Reads a `preprocessor_config.json` or its section of a `processor_config.json`.
  ///
  /// - Parameters:
  ///   - vision: The model's vision encoder.
  ///   - splitsImages: Whether the model is SmolVLM or Idefics3, which have an image processor of their own.
  package init(
    _ file: ConfigurationSection, for vision: VisionConfiguration = .clipLarge336, splitsImages: Bool = false
  ) throws(CheckpointError) {
    let side = vision.imageSize
    self.init(for: vision)
    imageProcessorType = try file.text("image_processor_type")
    if splitsImages {
      try useSplitting(file)
    } else if let type = imageProcessorType {
      self.init(side: side)
      imageProcessorType = type
      if type.hasPrefix("Siglip") { useSigLIP(side: side) }
      if type.hasPrefix("LlavaOnevision") {
        resizesTo = .exact(Size(height: side, width: side))
        centerCrops = false
      }
    }
    if !file["size"].isNull, !splitsImages { resizesTo = try file.resizeTarget("size") }
    if !file["crop_size"].isNull { cropSize = try file.pixelSize("crop_size") }
    mean = try file.numbers("image_mean", in: -1000...1000) ?? mean
    standardDeviation = try file.numbers("image_std", in: 1e-6...1e6) ?? standardDeviation
    if !file["rescale_factor"].isNull { rescaleFactor = try file.number("rescale_factor", in: 1e-9...1000) }
    func flag(_ key: String, default value: Bool) throws(CheckpointError) -> Bool {
      file[key].isNull ? value : try file.flag(key, default: value)
    }
    resizes = try flag("do_resize", default: resizes)
    centerCrops = try flag("do_center_crop", default: centerCrops)
    rescales = try flag("do_rescale", default: rescales)
    normalizes = try flag("do_normalize", default: normalizes)
    convertsToRGB = try flag("do_convert_rgb", default: convertsToRGB)
    let isLLaVA = imageProcessorType?.hasPrefix("LlavaImageProcessor") ?? true
    padsToSquare = try flag("do_pad", default: false) && isLLaVA
    gridPinpoints = try file.gridPinpoints(side: side)?.map { Size(height: $0, width: $1) } ?? []
    guard !splitsImages else { return }
    guard file["resample"].isNull || file["resample"].wholeValue == 3 else {
      throw file.error("resample", "3 (bicubic, as in the training of LLaVA's vision encoder)")
    }
  }

  /// Reads the keys of the image processor of Idefics3; sizes that are missing have the defaults of its class.
  private mutating func useSplitting(_ file: ConfigurationSection) throws(CheckpointError) {
    let names = ["Idefics3ImageProcessor", "SmolVLMImageProcessor"]
    guard imageProcessorType.map({ type in names.contains { type == $0 || type == $0 + "Fast" } }) ?? true else {
      throw file.error("image_processor_type", names.map { "'\($0)'" }.joined(separator: " or "))
    }
    (mean, standardDeviation) = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
    centerCrops = false
    let edge = try file.longestEdge("max_image_size", default: 364)
    cropSize = Size(height: edge, width: edge)
    resizesTo = .longestEdge(try file.longestEdge("size", default: 4 * 364))
    splits = try file.flag("do_image_splitting", default: true)
    guard try file.flag("do_resize", default: true) else { throw file.error("do_resize", "true") }
    let resample = file["resample"].isNull ? 1 : file["resample"].wholeValue
    guard let resample, let filter = ResampleFilter(rawValue: resample) else {
      throw file.error("resample", "1 (Lanczos) or 3 (bicubic)")
    }
    self.filter = filter
  }

  /// The rules for tiles and views.
  ///
  /// - Throws: `CheckpointError` if the tiles of the file are not the views of the vision encoder, or are too many.
  func imageSplitting(for vision: VisionConfiguration) throws(CheckpointError) -> ImageSplitting {
    let (file, side) = ("preprocessor_config.json", vision.imageSize)
    guard cropSize.height == side else {
      throw .badValue(
        file: file, key: "max_image_size.longest_edge", expected: "\(side), the image size of the vision encoder",
        found: "\(cropSize.height)")
    }
    guard case .longestEdge(let edge) = resizesTo, edge <= ImageSplitting.tilesPerSide * side else {
      throw .badValue(
        file: file, key: "size.longest_edge",
        expected: "at most \(ImageSplitting.tilesPerSide) tiles of \(side) pixels", found: "\(resizesTo)")
    }
    return ImageSplitting(longestEdge: edge, viewSize: side, splits: splits)
  }
}

/// The filter of a resize; raw values are those of Pillow.
package enum ResampleFilter: Int, Sendable {
  case lanczos = 1
  case bicubic = 3
}

extension ConfigurationSection {
  /// Three numbers, one for each color; `nil` if the key is absent or null.
  fileprivate func numbers(_ key: String, in range: ClosedRange<Double>) throws(CheckpointError) -> [Double]? {
    guard !self[key].isNull else { return nil }
    let numbers = (self[key].array ?? []).prefix(4).map { $0.real ?? .nan }
    guard self[key].array?.count == 3, numbers.allSatisfy(range.contains) else {
      throw error(
        key, "three numbers from \(range.lowerBound) to \(range.upperBound)",
        found: self[key].array?.count == 3 ? "\(numbers)" : nil)
    }
    return numbers
  }

  /// The value of `size`: a number, or an object with `shortest_edge`, or one with `height`, `width` or both.
  fileprivate func resizeTarget(_ key: String) throws(CheckpointError) -> PreprocessorConfiguration.ResizeTarget {
    guard self[key].members != nil else { return .shortestEdge(try integer(key, in: sideRange, default: 0)) }
    if let edge = try section(key)?.integer("shortest_edge", in: sideRange) { return .shortestEdge(edge) }
    return .exact(try pixelSize(key))
  }

  /// The value of `longest_edge` in an object.
  fileprivate func longestEdge(_ key: String, default value: Int) throws(CheckpointError) -> Int {
    guard let section = try section(key) else { return value }
    guard let edge = try section.integer("longest_edge", in: sideRange) else {
      throw error("\(key).longest_edge", "an integer", found: "none")
    }
    return edge
  }

  /// The value of `crop_size`: a number, or an object with `height`, `width` or both.
  fileprivate func pixelSize(_ key: String) throws(CheckpointError) -> PixelSize {
    guard self[key].members != nil, let size = try section(key) else {
      let side = try integer(key, in: sideRange, default: 0)
      return PixelSize(height: side, width: side)
    }
    let edge = try size.integer("shortest_edge", in: sideRange)
    let (height, width) = (try size.integer("height", in: sideRange), try size.integer("width", in: sideRange))
    guard let rows = height ?? width ?? edge, let columns = width ?? height ?? edge else {
      throw error(key, "shortest_edge, height or width", found: "none of them")
    }
    return PixelSize(height: rows, width: columns)
  }
}

/// An error of a `preprocessor_config.json` that does not fit the model.
package enum PreprocessorConfigurationError: UserFacingError, Equatable {
  case invalidValue(key: String, expected: String, found: String)
}

extension PreprocessorConfigurationError {
  package var category: ErrorCategory { .model }

  package var problem: String {
    switch self {
    case .invalidValue(let key, let expected, let found):
      "preprocessor_config.json: \(key) is \(found), expected \(expected); correct the file"
    }
  }
}
