package import ModelFormats

/// Turns pictures into what a model's vision encoder looks at.
public protocol ImagePreprocessor: Sendable {
  /// How pictures are fitted; never `auto`.
  var mode: ImageMode { get }

  /// The side of a view, in pixels.
  var size: Int { get }

  /// The picture as one view or several.
  func callAsFunction(_ image: Image) -> ImageViews
}

extension LLaVAConfiguration {
  /// What prepares pictures for the model.
  ///
  /// - Parameters:
  ///   - file: The checkpoint's `preprocessor_config.json`, nil where there is none.
  ///   - mode: How pictures are to be fitted; the mode `auto` spreads them over several views where the model can.
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
        key: "crop_size", expected: "the tower's \(vision.imageSize)", found: "\(preprocessor.size)")
    }
    return preprocessor
  }
}

/// A way of fitting pictures that the model was not made for.
public struct ImageModeError: Error, Equatable, CustomStringConvertible {
  public let mode: ImageMode
  public let modelType: String

  public var description: String {
    "--image-mode \(mode.rawValue): a model of the type \(modelType) sees a picture in one view; use pad, crop or auto"
  }
}
