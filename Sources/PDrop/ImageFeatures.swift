package import ImageProcessing
package import Kernels
import LLaVA
import ModelFormats
import Synchronization
import TokenDropping
import TokenSelection
import Tokenizers

/// An image as the input of the vision encoder and, once it has been encoded, its features.
///
/// Requests that share it encode it once.
package final class ImageInput: Sendable {
  /// The features of an image and their cost.
  package struct Encoding: Sendable {
    /// `[tokenCount, D]`.
    var features: [Float]
    /// What a selection of tokens needs; `nil` if the image was encoded for requests without one.
    var selectionInputs: SelectionInputs?
    /// Operations of vision encoder and projector.
    var flops: RunReport.Flops
  }

  /// The tokens of an image that enter the decoder.
  package struct Selected: Sendable {
    /// Indices, ascending.
    package var tokens: [Int]
    /// Operations of the selection.
    package var flops: Int
  }

  package let tokenCount: Int
  /// Indices of the tokens that show only padding, ascending.
  package let paddingTokens: [Int]
  /// `nil` if the features came from a cache.
  package let views: ImageViews?
  /// The image's tiles; `nil` for an image in one view.
  let tiles: TileGrid?
  /// The identity of the image in caches; `nil` for decoded pixels and for traces.
  let digest: ImageDigest?
  private let encoding: Mutex<Encoding?>
  /// Selections that do not depend on the question.
  private let selections = Mutex<[Preselection: Selected]>([:])
  /// Whether requests are charged for encoding; otherwise `VisionLanguageModel.encode` has been.
  private let chargesEncoding: Bool
  /// Where new features are stored; `nil` to store them nowhere.
  private let cache: FeatureCache?

  /// - Precondition: There are views, or there is an encoding.
  init(
    tokenCount: Int, paddingTokens: [Int], views: ImageViews?, tiles: TileGrid?, digest: ImageDigest?,
    encoding: Encoding? = nil, chargesEncoding: Bool = true, cache: FeatureCache? = nil
  ) {
    precondition(views != nil || encoding != nil, "ImageInput: neither views nor features")
    self.views = views
    self.tiles = tiles
    self.tokenCount = tokenCount
    self.paddingTokens = paddingTokens
    self.digest = digest
    self.chargesEncoding = chargesEncoding
    self.cache = cache
    self.encoding = Mutex(encoding)
  }

  /// Bytes of the image, its features included even if it is not encoded yet.
  package func byteCount(columns: Int) -> Int {
    tokenCount * columns * MemoryLayout<Float>.stride + (views?.pixels.count ?? 0)
  }

  /// Operations of encoding the image; `nil` if it is not encoded yet.
  var encodingFlops: RunReport.Flops? { encoding.withLock { $0?.flops } }

  /// Operations of encoding the image that a request is charged for; `nil` if it is not encoded yet.
  package var knownFlops: RunReport.Flops? {
    encodingFlops.map { charged($0) }
  }

  /// The part of the operations of encoding that a request is charged for: all or none.
  package func charged(_ flops: RunReport.Flops) -> RunReport.Flops { chargesEncoding ? flops : RunReport.Flops() }

  /// Whether the image can give what a selection needs.
  package var hasSelectionInputs: Bool { views != nil || encoding.withLock { $0?.selectionInputs != nil } }

  /// The features, computed by the first call. If `compute` is cancelled, they are incomplete and not kept.
  ///
  /// - Parameter forSelection: Whether the inputs of a selection are needed too.
  package func encoding(
    by model: VisionLanguageModel, forSelection: Bool = false, on compute: ComputeContext
  ) -> Encoding {
    encoding.withLock { encoding in
      if let encoding, !forSelection || encoding.selectionInputs != nil { return encoding }
      guard let views else { preconditionFailure("ImageInput: neither views nor features") }
      let before = RunReport.Flops(compute.ledger)
      var inputs: SelectionInputs?
      let features =
        forSelection
        ? model.llava.imageFeatures(views.pixelValues, tiles: tiles, selectionInputs: &inputs, on: compute)
        : model.llava.imageFeatures(views.pixelValues, tiles: tiles, on: compute)
      let computed = Encoding(
        features: features.values, selectionInputs: inputs, flops: RunReport.Flops(compute.ledger) - before)
      guard !compute.isCancelled else { return computed }
      encoding = computed
      if let cache, let digest { cache.keep(computed, paddingTokens: paddingTokens, tiles: tiles, of: digest) }
      return computed
    }
  }

  /// The tokens that a selection lets into the decoder. Selections that do not use the question are kept.
  ///
  /// If `compute` is cancelled, the tokens are any of the right number.
  ///
  /// - Parameter question: The question's tokens, for methods that use it.
  /// - Throws: `SequenceError.features` for features that are not numbers.
  func selected(
    _ selection: Preselection, question: [Int], by model: VisionLanguageModel, on compute: ComputeContext
  ) throws(SequenceError) -> Selected {
    if let known = selections.withLock({ $0[selection] }) { return known }
    let encoding = encoding(by: model, forSelection: true, on: compute)
    guard !compute.isCancelled, let inputs = encoding.selectionInputs else {
      return Selected(tokens: Array(0..<selection.tokenCount(of: tokenCount)), flops: 0)
    }
    let before = compute.ledger
    let tokens: [Int]
    do {
      tokens = try compute.during(.rank) { () throws(SelectionError) in
        try model.llava.selectedTokens(
          selection, Matrix(encoding.features, columns: model.llava.configuration.text.hiddenSize), inputs,
          tiles: tiles, padding: paddingTokens, question: question, on: compute)
      }
    } catch { throw .features(error.problem) }
    let flops = RunReport.Flops(compute.ledger) - RunReport.Flops(before)
    let selected = Selected(tokens: tokens, flops: flops.rank)
    if !selection.method.usesQuestion { selections.withLock { $0[selection] = selected } }
    return selected
  }
}

extension VisionLanguageModel: ImageSource {
  /// A trace shows what was computed, from the pixels on, so it does not use caches.
  package func input(
    of image: Request.Image, in request: Request, _ timings: inout RunReport.Timings
  ) throws(RequestError) -> ImageInput {
    try input(
      of: image, appliesOrientation: request.appliesOrientation, usesCaches: !request.recordsTensors,
      forSelection: request.policy.preselection != nil, &timings)
  }

  /// An image, decoded and cut into views, or its features from the feature cache.
  ///
  /// - Parameter forSelection: Whether the inputs of a selection are needed.
  /// - Throws: `RequestError.image`, or `.generation` for one that another model has encoded or not for a selection.
  func input(
    of image: Request.Image, appliesOrientation: Bool, usesCaches: Bool = true, forSelection: Bool = false,
    _ timings: inout RunReport.Timings
  ) throws(RequestError) -> ImageInput {
    guard preprocessor != nil else { throw .generation(.noVisionEncoder) }
    if case .features(let encoded) = image {
      guard encoded.model === identity else { throw .generation(.foreignImage) }
      guard !forSelection || encoded.selectionInputs != nil else { throw .generation(.notEncodedForSelection) }
      return ImageInput(
        tokenCount: encoded.tokenCount, paddingTokens: encoded.paddingTokens,
        views: encoded.views, tiles: encoded.tiles, digest: encoded.digest,
        encoding: .init(
          features: encoded.features, selectionInputs: encoded.selectionInputs, flops: encoded.flops),
        chargesEncoding: false)
    }
    do {
      if usesCaches, featureCache != nil || promptCache != nil, let file = try ImageFile(image, &timings) {
        return try input(
          of: file, ImageDigest(file.bytes, appliesOrientation: appliesOrientation), &timings,
          forSelection: forSelection)
      }
      let views = try views(of: image, appliesOrientation: appliesOrientation, &timings)
      return ImageInput(
        tokenCount: llava.visualTokenCount(views.tiles), paddingTokens: llava.paddingTokens(views.tiles, views.area),
        views: views, tiles: views.tiles, digest: nil)
    } catch {
      throw .image(error)
    }
  }

  /// An image whose file has been read: its features from the feature cache, or its views.
  ///
  /// - Parameters:
  ///   - memoryLimit: Maximum bytes that decoding takes; at most the limit of `ImageDecoder`.
  ///   - needsPixels: Whether features of the feature cache, which has no pixels, are not enough.
  ///   - forSelection: Whether the inputs of a selection are needed, which not every file of the cache has.
  ///   - willDecode: Called with the bytes that decoding takes, before they are allocated; may refuse them.
  /// - Throws: `ImageError`.
  package func input(
    of file: ImageFile, _ digest: ImageDigest, _ timings: inout RunReport.Timings, memoryLimit: Int = .max,
    needsPixels: Bool = false, forSelection: Bool = false, willDecode: (Int) throws(ImageError) -> Void = { _ in }
  ) throws(ImageError) -> ImageInput {
    let start = ContinuousClock.now
    if !needsPixels, let found = featureCache?.encoding(of: digest, forSelection: forSelection) {
      timings.decodeImage += (ContinuousClock.now - start).milliseconds
      return ImageInput(
        tokenCount: found.encoding.features.count / llava.configuration.text.hiddenSize,
        paddingTokens: found.paddingTokens, views: nil, tiles: found.tiles, digest: digest, encoding: found.encoding)
    }
    var decoder = ImageDecoder()
    decoder.appliesOrientation = digest.appliesOrientation
    decoder.memoryLimit = min(decoder.memoryLimit, memoryLimit)
    try willDecode(try decoder.decodingByteCount(file.bytes, name: file.name))
    let views = try views(
      of: .encoded(file.bytes, name: file.name), appliesOrientation: digest.appliesOrientation, &timings)
    return ImageInput(
      tokenCount: llava.visualTokenCount(views.tiles), paddingTokens: llava.paddingTokens(views.tiles, views.area),
      views: views, tiles: views.tiles, digest: digest, cache: featureCache)
  }
}

/// The bytes of an image file.
package struct ImageFile {
  package let bytes: [UInt8]
  /// The name in error messages.
  package let name: String

  /// Reads the file; `nil` for an image that is decoded or encoded already.
  ///
  /// - Throws: `ImageError`.
  package init?(_ image: Request.Image, _ timings: inout RunReport.Timings) throws(ImageError) {
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
  /// The image's tiles; `nil` for an image in one view.
  let tiles: TileGrid?
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

/// The identity of a loaded model, shared by its copies.
final class ModelIdentity: Sendable {
  /// Whether matmuls on this machine give the same bits in two parts; `nil` until it has been tried.
  let splitsMatmuls = Mutex<Bool?>(nil)
}

extension VisionLanguageModel {
  /// Encodes an image for several questions about it.
  ///
  /// - Parameters:
  ///   - image: The image to encode.
  ///   - appliesOrientation: Whether a photo is rotated upright by its Exif orientation.
  ///   - forSelection: Whether the image is for policies with a `Preselection` too. Takes a quarter more memory.
  ///   - threads: Number of threads; the features do not depend on it.
  /// - Throws: `RequestError.image`, or `.generation(.foreignImage)` for one that another model has encoded.
  public func encode(
    _ image: Request.Image, appliesOrientation: Bool = false, forSelection: Bool = false, threads: Int
  ) throws(RequestError) -> EncodedImage {
    let start = ContinuousClock.now
    let compute = ComputeContext(workers: Workers(count: threads))
    var timings = RunReport.Timings()
    let input = try input(
      of: image, appliesOrientation: appliesOrientation, forSelection: forSelection, &timings)
    let encoding = input.encoding(by: self, forSelection: forSelection, on: compute)
    timings.add(compute.durations)
    timings.total = (ContinuousClock.now - start).milliseconds
    return EncodedImage(
      tokenCount: input.tokenCount, timings: timings, flops: encoding.flops, views: input.views,
      tiles: input.tiles, paddingTokens: input.paddingTokens, digest: input.digest, features: encoding.features,
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

extension VisionLanguageModel {
  /// The views of an image, decoded and preprocessed.
  ///
  /// - Precondition: The image is not `.features`, and the model has a vision encoder.
  func views(
    of image: Request.Image, appliesOrientation: Bool, _ timings: inout RunReport.Timings
  ) throws(ImageError) -> ImageViews {
    var decoder = ImageDecoder()
    decoder.appliesOrientation = appliesOrientation
    let start = ContinuousClock.now
    let pixels: Image
    switch image {
    case .file(let path): pixels = try decoder.decode(contentsOfFile: path)
    case .encoded(let bytes, let name): pixels = try decoder.decode(bytes, name: name)
    case .decoded(let decoded): pixels = decoded
    case .features: preconditionFailure("views: the image is encoded already")
    }
    let decoded = ContinuousClock.now
    guard let preprocessor else { preconditionFailure("views: the model has no vision encoder") }
    let views = preprocessor(pixels)
    timings.decodeImage += (decoded - start).milliseconds
    timings.preprocess += (ContinuousClock.now - decoded).milliseconds
    return views
  }

  /// The features of images, or of their selected tokens, one after the other, `[V, D]`.
  ///
  /// The views of an image are one batch, so memory grows with the largest image, not with the number of images.
  func features(of images: [ImageInput], _ selected: [ImageInput.Selected]?, on compute: ComputeContext) -> Matrix {
    var features = Matrix(rows: 0, columns: llava.configuration.text.hiddenSize)
    for (index, image) in images.enumerated() {
      var all = Matrix(image.encoding(by: self, on: compute).features, columns: features.columns)
      if let selected { all.keepRows(selected[index].tokens) }
      features.append(all)
    }
    return features
  }
}
