internal import Kernels
internal import LLaVA
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
  /// Which of its tokens show only padding, ascending.
  let paddingTokens: [Int]
  /// `nil` where the encoding was known before the picture was looked at.
  let views: ImageViews?
  private let known: Mutex<Encoding?>
  private let whenEncoded: @Sendable (Encoding) -> Void

  /// - Parameter whenEncoded: Told the encoding once, when it has been computed.
  /// - Precondition: There are views, or there is an encoding.
  init(
    tokenCount: Int, paddingTokens: [Int], views: ImageViews?, encoding: Encoding? = nil,
    whenEncoded: @escaping @Sendable (Encoding) -> Void = { _ in }
  ) {
    precondition(views != nil || encoding != nil, "a picture without views is encoded")
    self.views = views
    self.tokenCount = tokenCount
    self.paddingTokens = paddingTokens
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
  func prepared(
    _ picture: Request.Picture, appliesOrientation: Bool, _ timings: inout RunReport.Timings
  ) throws -> PreparedPicture {
    let views = try views(of: picture, appliesOrientation: appliesOrientation, &timings)
    let tokenCount = llava.visualTokenCount(views.tiles)
    var encoding: PreparedPicture.Encoding?
    if case .features(let encoded) = picture { encoding = .init(features: encoded.features, flops: .init()) }
    return PreparedPicture(
      tokenCount: tokenCount, paddingTokens: llava.paddingTokens(views.tiles, views.area), views: views,
      encoding: encoding)
  }
}
