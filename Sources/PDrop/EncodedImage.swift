import ImageProcessing
import Kernels
import LLaVA
import ModelFormats
public import TokenDropping

/// The features of an image, for several questions about it.
///
/// Answers are the same byte for byte. Takes four bytes per feature value, 9.4 MB for an image in LLaVA-1.5-7B and up
/// to 48 MB in LLaVA-NeXT-7B, and the bytes of its views.
public struct EncodedImage: Sendable {
  /// Number of visual tokens before any is dropped.
  public let tokenCount: Int
  /// Time of encoding; `RunReport.include` adds it to a run.
  public let timings: RunReport.Timings
  /// Operations of encoding, also if the features came from a feature cache.
  public let flops: RunReport.Flops
  /// `nil` if the features came from a feature cache.
  let views: ImageViews?
  let layout: ViewLayout
  var isVideo: Bool { if case .video = layout { true } else { false } }
  /// Number of views that were encoded now.
  package var viewCount: Int { views?.count ?? 0 }
  /// Indices of the tokens that show only padding, ascending.
  let paddingTokens: [Int]
  /// The identity of the image in caches; `nil` without a cache.
  let digest: ImageDigest?
  /// `[tokenCount, D]`.
  let features: [Float]
  /// What a selection of tokens needs; `nil` if the image was encoded without.
  let selectionInputs: SelectionInputs?
  let model: ModelIdentity
}

extension VisionLanguageModel {
  /// Encodes an image for several questions about it.
  ///
  /// - Parameters:
  ///   - image: The image to encode.
  ///   - appliesOrientation: Whether a photo is rotated upright by its Exif orientation.
  ///   - isOneOfSeveral: Whether the image is for prompts with several images, for which LLaVA-OneVision uses one view.
  ///   - forSelection: Whether the image is for policies with a `Preselection` too. Takes a quarter more memory.
  ///   - packing: The packing of the selection, for the tiles of LLaVA-NeXT.
  ///   - threads: Number of threads; the features do not depend on it.
  /// - Throws: `RequestError.image`, or `.generation(.foreignImage)` for one that another model has encoded.
  public func encode(
    _ image: Request.Image, appliesOrientation: Bool = false, isOneOfSeveral: Bool = false,
    forSelection: Bool = false, packing: Preselection.Packing = .unpadded, threads: Int
  ) throws(RequestError) -> EncodedImage {
    let start = ContinuousClock.now
    let compute = ComputeContext(workers: Workers(count: threads))
    var timings = RunReport.Timings()
    let handling = ImageHandling(
      appliesOrientation: appliesOrientation,
      isOneOfSeveral: isOneOfSeveral && preprocessor?.tilesOnlySingleImages ?? false,
      keepsAllPatches: keepsAllPatches(packing))
    let input = try input(of: image, handling, forSelection: forSelection, &timings)
    let encoding = input.encoding(by: self, forSelection: forSelection, on: compute)
    timings.add(compute.durations)
    timings.total = (ContinuousClock.now - start).milliseconds
    return EncodedImage(
      tokenCount: input.tokenCount, timings: timings, flops: encoding.flops, views: input.views,
      layout: input.layout, paddingTokens: input.paddingTokens, digest: input.digest, features: encoding.features,
      selectionInputs: encoding.selectionInputs, model: identity)
  }
}

extension RunReport {
  /// Adds the cost of encoding an image to the run that needed it first.
  public mutating func include(_ image: EncodedImage) {
    timings.decodeImage += image.timings.decodeImage
    timings.preprocess += image.timings.preprocess
    timings.encode += image.timings.encode
    timings.project += image.timings.project
    timings.total += image.timings.total
    flops.encode += image.flops.encode
    flops.project += image.flops.project
  }
}
