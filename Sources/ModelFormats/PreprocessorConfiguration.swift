package import Foundation
package import Storage

/// The configuration of image preprocessing, from a checkpoint's `preprocessor_config.json`.
///
/// Keys that the file omits have the values of LLaVA-1.5: CLIP ViT-L/14 at 336 pixels.
///
/// Source: `CLIPImageProcessor`, `LlavaImageProcessor` and `LlavaNextImageProcessor` in transformers.
package struct PreprocessorConfiguration: Sendable, Equatable {
  package typealias Size = PixelSize

  /// The target size of a resize.
  package enum ResizeTarget: Sendable, Equatable {
    /// The length of the shorter side; the aspect ratio is kept.
    case shortestEdge(Int)

    /// The lengths of both sides; the aspect ratio is not kept.
    case exact(Size)
  }

  package var resizesTo = ResizeTarget.shortestEdge(336)
  package var cropSize = Size(height: 336, width: 336)
  package var mean = [0.48145466, 0.4578275, 0.40821073]
  package var standardDeviation = [0.26862954, 0.26130258, 0.27577711]
  package var rescaleFactor = 1.0 / 255
  package var resizes = true
  package var centerCrops = true
  package var rescales = true
  package var normalizes = true
  package var convertsToRGB = true

  /// Whether images are padded to squares. In `LlavaNextImageProcessor` the same key is about batches and is ignored.
  package var padsToSquare = false
  package var imageProcessorType: String?

  /// The canvas sizes of LLaVA-NeXT; empty for other models.
  package var gridPinpoints: [Size] = []

  /// The values of LLaVA-1.5, for a vision encoder with views of `side` pixels.
  package init(side: Int = 336) {
    resizesTo = .shortestEdge(side)
    cropSize = Size(height: side, width: side)
  }

  /// Reads the text of a `preprocessor_config.json`.
  ///
  /// - Parameters:
  ///   - json: The whole file.
  ///   - file: The name of the file in errors.
  /// - Throws: ``PreprocessorConfigurationError``.
  package init(json: Data, file: String = "preprocessor_config.json") throws(PreprocessorConfigurationError) {
    do {
      self = try JSONDecoder().decode(Self.self, from: json)
    } catch let error as PreprocessorConfigurationError {
      throw error
    } catch DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
      DecodingError.keyNotFound(_, let context)
    {
      let path = context.codingPath.map(\.stringValue).joined(separator: ".")
      throw .malformed(file: file, reason: path.isEmpty ? "not an object" : "\(path) has another type")
    } catch {
      throw .malformed(file: file, reason: "not JSON")
    }
  }
}

extension PreprocessorConfiguration: Decodable {
  private enum CodingKeys: String, CodingKey {
    case size
    case cropSize = "crop_size"
    case mean = "image_mean"
    case standardDeviation = "image_std"
    case rescaleFactor = "rescale_factor"
    case resample
    case resizes = "do_resize"
    case centerCrops = "do_center_crop"
    case rescales = "do_rescale"
    case normalizes = "do_normalize"
    case convertsToRGB = "do_convert_rgb"
    case pads = "do_pad"
    case imageProcessorType = "image_processor_type"
    case gridPinpoints = "image_grid_pinpoints"
  }

  package init(from decoder: any Decoder) throws {
    let file = try decoder.container(keyedBy: CodingKeys.self)
    func flag(_ key: CodingKeys, default value: Bool) throws -> Bool {
      try file.decodeIfPresent(Bool.self, forKey: key) ?? value
    }
    if let size = try file.decodeIfPresent(SizeField.self, forKey: .size) {
      resizesTo = try size.resizeTarget(key: "size")
    }
    if let size = try file.decodeIfPresent(SizeField.self, forKey: .cropSize) {
      cropSize = try size.cropSize(key: "crop_size")
    }
    mean = try file.decodeIfPresent([Double].self, forKey: .mean) ?? mean
    standardDeviation = try file.decodeIfPresent([Double].self, forKey: .standardDeviation) ?? standardDeviation
    rescaleFactor = try file.decodeIfPresent(Double.self, forKey: .rescaleFactor) ?? rescaleFactor
    resizes = try flag(.resizes, default: resizes)
    centerCrops = try flag(.centerCrops, default: centerCrops)
    rescales = try flag(.rescales, default: rescales)
    normalizes = try flag(.normalizes, default: normalizes)
    convertsToRGB = try flag(.convertsToRGB, default: convertsToRGB)
    imageProcessorType = try file.decodeIfPresent(String.self, forKey: .imageProcessorType)
    let padsBatch = imageProcessorType?.hasPrefix("LlavaNext") ?? false
    padsToSquare = try flag(.pads, default: false) && !padsBatch
    gridPinpoints =
      try file.decodeIfPresent(GridPinpoints.self, forKey: .gridPinpoints)?.pairs
      .map { Size(height: $0, width: $1) } ?? []
    try checkNumbers()
    let resample = try file.decodeIfPresent(Int.self, forKey: .resample) ?? 3
    guard resample == 3 else {
      throw PreprocessorConfigurationError.invalidValue(
        key: "resample", expected: "3 (bicubic, as in the training of LLaVA's vision encoder)", found: "\(resample)")
    }
  }

  private func checkNumbers() throws(PreprocessorConfigurationError) {
    let deviations = standardDeviation
    guard mean.count == 3, mean.allSatisfy({ abs($0) <= 1000 }) else {
      throw .invalidValue(key: "image_mean", expected: "three numbers from -1000 to 1000", found: "\(mean)")
    }
    guard deviations.count == 3, deviations.allSatisfy({ $0 >= 1e-6 && $0 <= 1e6 }) else {
      throw .invalidValue(key: "image_std", expected: "three numbers from 1e-6 to 1e6", found: "\(deviations)")
    }
    guard rescaleFactor >= 1e-9 && rescaleFactor <= 1000 else {
      throw .invalidValue(key: "rescale_factor", expected: "a number from 1e-9 to 1000", found: "\(rescaleFactor)")
    }
  }
}

// MARK: - Fields with several notations

/// A number, or an object with `shortest_edge`, or one with `height`, `width` or both.
private struct SizeField: Decodable {
  private enum CodingKeys: String, CodingKey {
    case shortestEdge = "shortest_edge"
    case height
    case width
  }

  var shortestEdge: Int?
  var height: Int?
  var width: Int?

  init(from decoder: any Decoder) throws {
    if let number = try? decoder.singleValueContainer().decode(Int.self) {
      shortestEdge = number
      return
    }
    let object = try decoder.container(keyedBy: CodingKeys.self)
    shortestEdge = try object.decodeIfPresent(Int.self, forKey: .shortestEdge)
    height = try object.decodeIfPresent(Int.self, forKey: .height)
    width = try object.decodeIfPresent(Int.self, forKey: .width)
  }

  func resizeTarget(key: String) throws(PreprocessorConfigurationError) -> PreprocessorConfiguration.ResizeTarget {
    if let shortestEdge { return .shortestEdge(try checkedSide(shortestEdge, key: key)) }
    return .exact(try cropSize(key: key))
  }

  func cropSize(key: String) throws(PreprocessorConfigurationError) -> PreprocessorConfiguration.Size {
    guard let rows = height ?? width ?? shortestEdge, let columns = width ?? height ?? shortestEdge else {
      throw .invalidValue(key: key, expected: "shortest_edge, height or width", found: "none of them")
    }
    return PreprocessorConfiguration.Size(
      height: try checkedSide(rows, key: key), width: try checkedSide(columns, key: key))
  }
}

/// An error in a `preprocessor_config.json`.
package enum PreprocessorConfigurationError: UserFacingError, Equatable {
  case malformed(file: String, reason: String)
  case invalidValue(key: String, expected: String, found: String)
}

extension PreprocessorConfigurationError {
  package var category: ErrorCategory { .model }

  package var problem: String {
    switch self {
    case .malformed(let file, let reason):
      "\(file): not a preprocessor configuration (\(reason)); download the file again"
    case .invalidValue(let key, let expected, let found):
      "preprocessor_config.json: \(key) is \(found), expected \(expected); correct the file"
    }
  }
}
