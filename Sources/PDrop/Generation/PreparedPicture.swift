internal import Kernels
internal import LLaVA
internal import ModelFormats
internal import Synchronization

/// A picture of one request or of several: what the tower is to look at and, once that is known, what it has seen.
///
/// Requests that share it encode it once.
final class PreparedPicture: Sendable {
  /// What the tower has seen.
  struct Encoding: Sendable {
    /// `[tokenCount, D]`.
    var features: [Float]
    /// What that cost.
    var flops: RunReport.Flops
  }

  let tokenCount: Int
  /// `nil` where the encoding was known before the picture was looked at.
  let views: ImageViews?
  private let known: Mutex<Encoding?>
  private let whenEncoded: @Sendable (Encoding) -> Void

  /// - Parameter whenEncoded: Told the encoding once, when it has been computed.
  /// - Precondition: There are views, or there is an encoding.
  init(
    tokenCount: Int, views: ImageViews?, encoding: Encoding? = nil,
    whenEncoded: @escaping @Sendable (Encoding) -> Void = { _ in }
  ) {
    precondition(views != nil || encoding != nil, "a picture without views is encoded")
    self.views = views
    self.tokenCount = tokenCount
    self.whenEncoded = whenEncoded
    known = Mutex(encoding)
  }

  /// Bytes that the picture takes, or will take once it is encoded.
  func byteCount(columns: Int) -> Int {
    tokenCount * columns * MemoryLayout<Float>.stride + (views?.pixels.count ?? 0)
  }

  /// What encoding it has cost; `nil` for a picture that is not yet encoded.
  var knownFlops: RunReport.Flops? { known.withLock { $0?.flops } }

  /// The encoding, computed when it is first asked for.
  func encoding(by model: VisionLanguageModel, on compute: Compute) -> Encoding {
    known.withLock { known in
      if let known { return known }
      guard let views else { preconditionFailure("a picture without views is encoded") }
      let before = RunReport.Flops(compute.ledger)
      let features = model.llava.imageFeatures(views.pixelValues, tiles: views.tiles, on: compute).values
      let encoding = Encoding(features: features, flops: RunReport.Flops(compute.ledger) - before)
      known = encoding
      whenEncoded(encoding)
      return encoding
    }
  }
}

extension VisionLanguageModel {
  /// A picture of a request, decoded and cut into views, unless it is encoded already.
  ///
  /// - Parameter usesFeatureCache: Whether the picture need not be looked at if its features are kept in a file.
  /// - Throws: `ImageError`, or `GenerationError.foreignPicture` for one that another model has encoded.
  func prepared(
    _ picture: Request.Picture, appliesOrientation: Bool, usesFeatureCache: Bool = true,
    _ timings: inout RunReport.Timings
  ) throws -> PreparedPicture {
    if case .features(let encoded) = picture {
      guard encoded.model === identity else { throw GenerationError.foreignPicture }
      return PreparedPicture(
        tokenCount: encoded.tokenCount, views: encoded.views,
        encoding: .init(features: encoded.features, flops: .init()))
    }
    if usesFeatureCache, featureCache != nil, let file = try PictureFile(picture, &timings) {
      let content = PictureContent(file.bytes, appliesOrientation: appliesOrientation)
      return try prepared(file, content, &timings)
    }
    let views = try views(of: picture, appliesOrientation: appliesOrientation, &timings)
    return PreparedPicture(tokenCount: llava.visualTokenCount(views.tiles), views: views)
  }

  /// A picture whose bytes have been read: what is kept of it in a file, or else the picture decoded and cut into views.
  ///
  /// - Throws: `ImageError`.
  func prepared(
    _ file: PictureFile, _ content: PictureContent, _ timings: inout RunReport.Timings
  ) throws -> PreparedPicture {
    let start = ContinuousClock.now
    if let encoding = featureCache?.encoding(of: content) {
      timings.decodeImage += (ContinuousClock.now - start).milliseconds
      return PreparedPicture(
        tokenCount: encoding.features.count / llava.configuration.text.hiddenSize, views: nil, encoding: encoding)
    }
    let views = try views(
      of: .encoded(file.bytes, name: file.name), appliesOrientation: content.appliesOrientation, &timings)
    return PreparedPicture(tokenCount: llava.visualTokenCount(views.tiles), views: views) { [featureCache] encoding in
      featureCache?.keep(encoding, of: content)
    }
  }
}

/// The bytes of a picture as it was encoded by whoever made it.
struct PictureFile {
  let bytes: [UInt8]
  /// What to call it in an error.
  let name: String

  /// `nil` for a picture that is decoded already.
  ///
  /// - Throws: `ImageError`.
  init?(_ picture: Request.Picture, _ timings: inout RunReport.Timings) throws {
    switch picture {
    case .file(let path):
      let start = ContinuousClock.now
      (bytes, name) = (try ImageDecoder().bytes(ofFile: path), path)
      timings.decodeImage += (ContinuousClock.now - start).milliseconds
    case .encoded(let data, let title): (bytes, name) = (data, title)
    case .decoded, .features: return nil
    }
  }
}
