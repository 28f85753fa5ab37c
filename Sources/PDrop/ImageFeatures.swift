package import ImageProcessing
package import Kernels
import LLaVA
import ModelFormats
import Synchronization
import Tokenizers

/// An image of one request or of several: what the vision encoder is to look at and, once that is known, what it has seen.
///
/// Requests that share it encode it once.
package final class ImageInput: Sendable {
  /// What the vision encoder has seen.
  package struct Encoding: Sendable {
    /// `[tokenCount, D]`.
    var features: [Float]
    /// What that cost.
    var flops: RunReport.Flops
  }

  package let tokenCount: Int
  /// Which of its tokens show only padding, ascending.
  package let paddingTokens: [Int]
  /// `nil` where the encoding was known before the image was looked at.
  package let views: ImageViews?
  private let known: Mutex<Encoding?>
  private let whenEncoded: @Sendable (Encoding) -> Void

  /// - Parameter whenEncoded: Told the encoding once, when it has been computed.
  /// - Precondition: There are views, or there is an encoding.
  package init(
    tokenCount: Int, paddingTokens: [Int], views: ImageViews?, encoding: Encoding? = nil,
    whenEncoded: @escaping @Sendable (Encoding) -> Void = { _ in }
  ) {
    precondition(views != nil || encoding != nil, "an image without views is encoded")
    self.views = views
    self.tokenCount = tokenCount
    self.paddingTokens = paddingTokens
    self.whenEncoded = whenEncoded
    known = Mutex(encoding)
  }

  /// Bytes that the image takes, or will take once it is encoded.
  package func byteCount(columns: Int) -> Int {
    tokenCount * columns * MemoryLayout<Float>.stride + (views?.pixels.count ?? 0)
  }

  /// What encoding it has cost; `nil` for an image that is not yet encoded.
  package var knownFlops: RunReport.Flops? { known.withLock { $0?.flops } }

  /// The encoding, computed when it is first asked for.
  package func encoding(by model: VisionLanguageModel, on compute: ComputeContext) -> Encoding {
    known.withLock { known in
      if let known { return known }
      guard let views else { preconditionFailure("an image without views is encoded") }
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
  /// An image of a request, decoded and cut into views, unless it is encoded already.
  ///
  /// - Parameter usesFeatureCache: Whether the image need not be looked at if its features are kept in a file.
  /// - Throws: `ImageError`, or `GenerationError.foreignImage` for one that another model has encoded.
  package func prepared(
    _ image: Request.Image, appliesOrientation: Bool, usesFeatureCache: Bool = true,
    _ timings: inout RunReport.Timings
  ) throws -> ImageInput {
    if case .features(let encoded) = image {
      guard encoded.model === identity else { throw GenerationError.foreignImage }
      return ImageInput(
        tokenCount: encoded.tokenCount, paddingTokens: encoded.paddingTokens,
        views: encoded.views, encoding: .init(features: encoded.features, flops: .init()))
    }
    if usesFeatureCache, featureCache != nil, let file = try ImageFile(image, &timings) {
      let content = ImageDigest(file.bytes, appliesOrientation: appliesOrientation)
      return try prepared(file, content, &timings)
    }
    let views = try views(of: image, appliesOrientation: appliesOrientation, &timings)
    return ImageInput(
      tokenCount: llava.visualTokenCount(views.tiles), paddingTokens: llava.paddingTokens(views.tiles, views.area),
      views: views)
  }

  /// An image whose bytes have been read: what is kept of it in a file, or else the image decoded and cut into views.
  ///
  /// - Throws: `ImageError`.
  package func prepared(
    _ file: ImageFile, _ content: ImageDigest, _ timings: inout RunReport.Timings
  ) throws -> ImageInput {
    let start = ContinuousClock.now
    if let (encoding, paddingTokens) = featureCache?.encoding(of: content) {
      timings.decodeImage += (ContinuousClock.now - start).milliseconds
      return ImageInput(
        tokenCount: encoding.features.count / llava.configuration.text.hiddenSize, paddingTokens: paddingTokens,
        views: nil, encoding: encoding)
    }
    let views = try views(
      of: .encoded(file.bytes, name: file.name), appliesOrientation: content.appliesOrientation, &timings)
    let paddingTokens = llava.paddingTokens(views.tiles, views.area)
    return ImageInput(
      tokenCount: llava.visualTokenCount(views.tiles), paddingTokens: paddingTokens, views: views
    ) { [featureCache] encoding in
      featureCache?.keep(encoding, paddingTokens: paddingTokens, of: content)
    }
  }
}

/// The bytes of an image as it was encoded by whoever made it.
package struct ImageFile {
  package let bytes: [UInt8]
  /// What to call it in an error.
  package let name: String

  /// `nil` for an image that is decoded already.
  ///
  /// - Throws: `ImageError`.
  package init?(_ image: Request.Image, _ timings: inout RunReport.Timings) throws {
    switch image {
    case .file(let path):
      let start = ContinuousClock.now
      (bytes, name) = (try ImageDecoder().bytes(ofFile: path), path)
      timings.decodeImage += (ContinuousClock.now - start).milliseconds
    case .encoded(let data, let title): (bytes, name) = (data, title)
    case .decoded, .features: return nil
    }
  }
}

/// An image as a model's language part reads it, kept so that a second question about it need not encode it again.
///
/// Answers are the same byte for byte. It takes four bytes for each number of its features, 9.4 MB for an image in
/// LLaVA-1.5-7B and up to 48 MB in LLaVA-NeXT-7B, and the bytes of the squares that the vision encoder saw.
public struct EncodedImage: Sendable {
  /// How many visual tokens stand for the image before any is dropped.
  public let tokenCount: Int
  /// What encoding it took; `RunReport.include` books it on a run.
  public let milliseconds: RunReport.Timings
  /// What encoding it costs, though a feature cache may have known it.
  public let flops: RunReport.Flops
  /// `nil` where a feature cache knew the image.
  let views: ImageViews?
  /// How many squares the vision encoder saw, now.
  package var viewCount: Int { views?.count ?? 0 }
  /// Which of its tokens show only padding, ascending.
  let paddingTokens: [Int]
  /// `[tokenCount, D]`.
  let features: [Float]
  let model: ModelIdentity
}

/// Tells models apart, however often a model is copied.
final class ModelIdentity: Sendable {}

extension VisionLanguageModel {
  /// Encodes an image, to be asked about more than once.
  ///
  /// - Parameters:
  ///   - appliesOrientation: Whether a photo is put upright by its Exif orientation.
  ///   - threads: How many threads compute; the features do not depend on it.
  /// - Throws: `ImageError`, or `GenerationError.foreignImage` for one that another model has encoded.
  public func encode(_ image: Request.Image, appliesOrientation: Bool = false, threads: Int) throws
    -> EncodedImage
  {
    let start = ContinuousClock.now
    let compute = ComputeContext(workers: Workers(count: threads))
    var milliseconds = RunReport.Timings()
    let prepared = try prepared(image, appliesOrientation: appliesOrientation, &milliseconds)
    let encoding = prepared.encoding(by: self, on: compute)
    milliseconds.add(compute.durations)
    milliseconds.total = (ContinuousClock.now - start).milliseconds
    return EncodedImage(
      tokenCount: prepared.tokenCount, milliseconds: milliseconds, flops: encoding.flops, views: prepared.views,
      paddingTokens: prepared.paddingTokens, features: encoding.features, model: identity)
  }
}

extension RunReport {
  /// Books what encoding an image took on the run that was the first to need it.
  public mutating func include(_ image: EncodedImage) {
    milliseconds.decodeImage += image.milliseconds.decodeImage
    milliseconds.preprocess += image.milliseconds.preprocess
    milliseconds.encode += image.milliseconds.encode
    milliseconds.project += image.milliseconds.project
    milliseconds.total += image.milliseconds.total
    flops.encode += image.flops.encode
    flops.project += image.flops.project
  }
}

extension VisionLanguageModel {
  /// A prompt as the model reads it.
  ///
  /// - Parameter systemPrompt: The request's, for messages.
  /// - Throws: `PromptError` for a system prompt that the template or the prompt has no place for.
  public func rendered(_ prompt: Request.Prompt, systemPrompt: String? = nil) throws(PromptError) -> String {
    switch (prompt, systemPrompt) {
    case (.messages(let messages), _):
      guard (systemPrompt ?? "").isEmpty || template.supportsSystemPrompt else {
        throw .systemPromptUnsupported(template: template.name)
      }
      return template.render(messages, systemPrompt: systemPrompt)
    case (_, .some): throw .systemPromptForRenderedPrompt
    case (.rendered(let text), nil): return text
    case (.tokens(let tokens), nil):
      return tokenizer.decode(tokens.map(Int32.init(truncatingIfNeeded:)), skipSpecialTokens: false)
    }
  }

  /// A prompt's tokens, BOS token included, one image token per image.
  ///
  /// - Throws: `PromptError` as `rendered` does.
  public func tokens(of prompt: Request.Prompt, systemPrompt: String? = nil) throws(PromptError) -> [Int] {
    if case .tokens(let tokens) = prompt, systemPrompt == nil { return tokens }
    return tokenizer.encodePrompt(try rendered(prompt, systemPrompt: systemPrompt)).map(Int.init)
  }

  /// The tokens of a request's prompt.
  ///
  /// - Throws: `PromptError` as `rendered` does, `SequenceError` when the prompt does not name as many images as are
  ///   given.
  func promptTokens(of request: Request) throws -> [Int] {
    let tokens = try tokens(of: request.prompt, systemPrompt: request.systemPrompt)
    let placeholders = tokens.count { $0 == llava.configuration.imageTokenID }
    guard placeholders == request.images.count else {
      throw SequenceError.placeholderMismatch(placeholders: placeholders, images: request.images.count)
    }
    return tokens
  }

  /// An image, decoded and cut into what the vision encoder looks at.
  ///
  /// - Precondition: It is not encoded already.
  func views(
    of image: Request.Image, appliesOrientation: Bool, _ timings: inout RunReport.Timings
  ) throws -> ImageViews {
    var decoder = ImageDecoder()
    decoder.appliesOrientation = appliesOrientation
    let start = ContinuousClock.now
    let pixels: Image
    switch image {
    case .file(let path): pixels = try decoder.decode(contentsOfFile: path)
    case .encoded(let bytes, let name): pixels = try decoder.decode(bytes, name: name)
    case .decoded(let decoded): pixels = decoded
    case .features: preconditionFailure("an image that is encoded has been looked at")
    }
    let decoded = ContinuousClock.now
    let views = preprocessor(pixels)
    timings.decodeImage += (decoded - start).milliseconds
    timings.preprocess += (ContinuousClock.now - decoded).milliseconds
    return views
  }

  /// What stands for the images among a prompt's embeddings, one after the other, `[V, D]`.
  ///
  /// The views of an image are one batch; so memory grows with the largest image, not with their number.
  package func features(of images: [ImageInput], on compute: ComputeContext) -> Matrix {
    var features = Matrix(rows: 0, columns: llava.configuration.text.hiddenSize)
    for image in images {
      features.append(Matrix(image.encoding(by: self, on: compute).features, columns: features.columns))
    }
    return features
  }
}
