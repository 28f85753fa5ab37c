internal import Kernels
internal import LLaVA

/// A picture as a model's language part reads it, kept so that a second question about it need not encode it again.
///
/// Answers are the same byte for byte. It takes four bytes for each number of its features, 9.4 MB for a picture in
/// LLaVA-1.5-7B and up to 48 MB in LLaVA-NeXT-7B, and the bytes of the squares that the tower saw.
public struct EncodedPicture: Sendable {
  /// How many visual tokens stand for the picture before any is dropped.
  public let tokenCount: Int
  /// What encoding it took; `RunReport.include` books it on a run.
  public let milliseconds: RunReport.Timings
  /// What encoding it costs, though a feature cache may have known it.
  public let flops: RunReport.Flops
  /// `nil` where a feature cache knew the picture.
  let views: ImageViews?
  /// How many squares the tower saw, now.
  package var viewCount: Int { views?.count ?? 0 }
  /// `[tokenCount, D]`.
  let features: [Float]
  let model: ModelIdentity
}

/// Tells models apart, however often a model is copied.
final class ModelIdentity: Sendable {}

extension VisionLanguageModel {
  /// Encodes a picture, to be asked about more than once.
  ///
  /// - Parameters:
  ///   - appliesOrientation: Whether a photo is put upright by its Exif orientation.
  ///   - threads: How many threads compute; the features do not depend on it.
  /// - Throws: `ImageError`, or `GenerationError.foreignPicture` for one that another model has encoded.
  public func encode(_ picture: Request.Picture, appliesOrientation: Bool = false, threads: Int) throws
    -> EncodedPicture
  {
    let start = ContinuousClock.now
    let compute = Compute(workers: Workers(count: threads))
    var milliseconds = RunReport.Timings()
    let prepared = try prepared(picture, appliesOrientation: appliesOrientation, &milliseconds)
    let encoding = prepared.encoding(by: self, on: compute)
    milliseconds.add(compute.durations)
    milliseconds.total = (ContinuousClock.now - start).milliseconds
    return EncodedPicture(
      tokenCount: prepared.tokenCount, milliseconds: milliseconds, flops: encoding.flops, views: prepared.views,
      features: encoding.features, model: identity)
  }
}

extension RunReport {
  /// Books what encoding a picture took on the run that was the first to need it.
  public mutating func include(_ picture: EncodedPicture) {
    milliseconds.decodeImage += picture.milliseconds.decodeImage
    milliseconds.preprocess += picture.milliseconds.preprocess
    milliseconds.encode += picture.milliseconds.encode
    milliseconds.project += picture.milliseconds.project
    milliseconds.total += picture.milliseconds.total
    flops.encode += picture.flops.encode
    flops.project += picture.flops.project
  }
}
