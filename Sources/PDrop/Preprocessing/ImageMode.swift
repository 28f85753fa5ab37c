package import ModelFormats

/// How a picture that is not square becomes the square, or the squares, that the vision encoder sees.
public enum ImageMode: String, Sendable, CaseIterable {
  /// Filled up to a square with the mean colour, as LLaVA-1.5 was evaluated.
  case pad

  /// Cut to its middle, as Hugging Face's processor of LLaVA-1.5 does by default.
  case crop

  /// Squeezed into one square and spread over several more, as LLaVA-NeXT does.
  case anyres

  /// One of them, as the checkpoint's files say.
  case auto

  /// The mode that stands for `auto` where pictures are seen in one view; the others stand for themselves.
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
