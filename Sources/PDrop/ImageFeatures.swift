package import ImageProcessing
package import Kernels
import LLaVA
package import ModelFormats
import Synchronization
import TokenDropping
import TokenSelection
import Tokenizers

/// An image or a video as the input of the vision encoder and, once it has been encoded, its features.
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
  package let layout: ViewLayout
  /// The identity of the image in caches; `nil` for decoded pixels, for videos and for traces.
  let digest: ImageDigest?
  private let encoding: Mutex<Encoding?>
  /// Selections that do not depend on the question.
  private let selections = Mutex<[Preselection: Selected]>([:])
  /// Whether requests are charged for encoding; otherwise `VisionLanguageModel.encode` has been.
  private let chargesEncoding: Bool
  /// Where new features are stored; `nil` to store them nowhere.
  private let cache: FeatureCache?
  /// Bytes of what a selection needs, if the image is for one.
  private let selectionBytes: Int

  /// - Precondition: There are views, or there is an encoding.
  init(
    tokenCount: Int, paddingTokens: [Int], views: ImageViews?, layout: ViewLayout, digest: ImageDigest?,
    encoding: Encoding? = nil, chargesEncoding: Bool = true, cache: FeatureCache? = nil, selectionBytes: Int = 0
  ) {
    precondition(views != nil || encoding != nil, "ImageInput: neither views nor features")
    self.views = views
    self.layout = layout
    self.tokenCount = tokenCount
    self.paddingTokens = paddingTokens
    self.digest = digest
    self.chargesEncoding = chargesEncoding
    self.cache = cache
    self.selectionBytes = selectionBytes
    self.encoding = Mutex(encoding)
  }

  /// Bytes of the image, its features included even if it is not encoded yet.
  package func byteCount(columns: Int) -> Int {
    tokenCount * columns * MemoryLayout<Float>.stride + (views?.pixels.count ?? 0) + selectionBytes
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
        ? model.llava.imageFeatures(views.pixelValues, layout, selectionInputs: &inputs, on: compute)
        : model.llava.imageFeatures(views.pixelValues, layout, on: compute)
      let computed = Encoding(
        features: features.values, selectionInputs: inputs, flops: RunReport.Flops(compute.ledger) - before)
      guard !compute.isCancelled else { return computed }
      encoding = computed
      if let cache, let digest { cache.keep(computed, paddingTokens: paddingTokens, layout: layout, of: digest) }
      return computed
    }
  }

  /// The tokens that a selection lets into the decoder. Selections that do not use the question are kept.
  ///
  /// If `compute` is cancelled, the tokens are any of the right number.
  ///
  /// - Parameter question: The question, for methods that use it.
  /// - Throws: `SequenceError.features` for features that are not numbers.
  func selected(
    _ selection: Preselection, question: SelectionQuestion, by model: VisionLanguageModel, on compute: ComputeContext
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
          layout, padding: paddingTokens, question: question, on: compute)
      }
    } catch { throw .features(error.problem) }
    let flops = RunReport.Flops(compute.ledger) - RunReport.Flops(before)
    let selected = Selected(tokens: tokens, flops: flops.rank)
    if !selection.method.usesQuestion { selections.withLock { $0[selection] = selected } }
    return selected
  }
}

extension VisionLanguageModel {
  /// Checks that a video has frames, and that the model takes videos.
  func checkVideo(_ image: Request.Image) throws(RequestError) {
    guard image.isVideo else { return }
    guard llava.configuration.takesVideos else {
      throw .generation(.noVideos(modelType: llava.configuration.modelType))
    }
    if case .videoFrames(let frames) = image, frames.isEmpty { throw .generation(.noFrames) }
  }
}

extension VisionLanguageModel: ImageSource {
  /// A trace shows what was computed, from the pixels on, so it does not use caches.
  package func input(
    of image: Request.Image, in request: Request, _ timings: inout RunReport.Timings
  ) throws(RequestError) -> ImageInput {
    try input(
      of: image, request.handling(by: self), usesCaches: !request.recordsTensors,
      forSelection: request.policy.preselection != nil, &timings)
  }

  /// An image, decoded and cut into views, or its features from the feature cache.
  ///
  /// - Parameter forSelection: Whether the inputs of a selection are needed.
  /// - Throws: `RequestError.image`, or `.generation` for one that another model has encoded or not for a selection.
  func input(
    of image: Request.Image, _ handling: ImageHandling, usesCaches: Bool = true, forSelection: Bool = false,
    _ timings: inout RunReport.Timings
  ) throws(RequestError) -> ImageInput {
    guard preprocessor != nil else { throw .generation(.noVisionEncoder) }
    try checkVideo(image)
    if case .features(let encoded) = image {
      guard encoded.model === identity else { throw .generation(.foreignImage) }
      guard !forSelection || encoded.selectionInputs != nil else { throw .generation(.notEncodedForSelection) }
      guard encoded.layout.tiles.map({ $0.endsRows != handling.keepsAllPatches }) ?? true else {
        throw .generation(.otherPacking(handling.keepsAllPatches ? .patches : .unpadded))
      }
      return ImageInput(
        tokenCount: encoded.tokenCount, paddingTokens: encoded.paddingTokens,
        views: encoded.views, layout: encoded.layout, digest: encoded.digest,
        encoding: .init(
          features: encoded.features, selectionInputs: encoded.selectionInputs, flops: encoded.flops),
        chargesEncoding: false)
    }
    do {
      if usesCaches, featureCache != nil || promptCache != nil, let file = try ImageFile(image, &timings) {
        return try input(of: file, ImageDigest(file.bytes, handling), &timings, forSelection: forSelection)
      }
      return self.input(
        of: try views(of: image, handling, &timings), digest: nil, cache: nil, forSelection: forSelection)
    } catch {
      throw .image(error)
    }
  }

  private func input(
    of views: ImageViews, digest: ImageDigest?, cache: FeatureCache?, forSelection: Bool
  ) -> ImageInput {
    ImageInput(
      tokenCount: llava.visualTokenCount(views.layout), paddingTokens: llava.paddingTokens(views.layout, views.area),
      views: views, layout: views.layout, digest: digest, cache: cache,
      selectionBytes: forSelection ? llava.configuration.selectionInputByteCount(views.layout) : 0)
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
        paddingTokens: found.paddingTokens, views: nil, layout: found.layout, digest: digest, encoding: found.encoding,
        selectionBytes: found.encoding.selectionInputs?.byteCount ?? 0)
    }
    var decoder = ImageDecoder()
    decoder.appliesOrientation = digest.handling.appliesOrientation
    decoder.memoryLimit = min(decoder.memoryLimit, memoryLimit)
    try willDecode(try decoder.decodingByteCount(file.bytes, name: file.name))
    let views = try views(of: .encoded(file.bytes, name: file.name), digest.handling, &timings)
    return self.input(of: views, digest: digest, cache: featureCache, forSelection: forSelection)
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
    case .decoded, .features, .videoFrames: return nil
    }
  }
}

/// The identity of a loaded model, shared by its copies.
final class ModelIdentity: Sendable {
  /// Whether matmuls on this machine give the same bits in two parts; `nil` until it has been tried.
  let splitsMatmuls = Mutex<Bool?>(nil)
}

extension VisionLanguageModel {
  /// The views of an image, decoded and preprocessed.
  ///
  /// - Precondition: The image is not `.features`, and the model has a vision encoder.
  func views(
    of image: Request.Image, _ handling: ImageHandling, _ timings: inout RunReport.Timings
  ) throws(ImageError) -> ImageViews {
    var decoder = ImageDecoder()
    decoder.appliesOrientation = handling.appliesOrientation
    guard let preprocessor else { preconditionFailure("views: the model has no vision encoder") }
    if case .videoFrames(let paths) = image {
      var frames: [ImageViews] = []
      for path in paths {
        let start = ContinuousClock.now
        let pixels = try decoder.decode(contentsOfFile: path)
        let decoded = ContinuousClock.now
        guard let view = preprocessor.view(ofFrame: pixels) else { preconditionFailure("views: no videos") }
        frames.append(view)
        timings.decodeImage += (decoded - start).milliseconds
        timings.preprocess += (ContinuousClock.now - decoded).milliseconds
      }
      return ImageViews(frames: frames)
    }
    let start = ContinuousClock.now
    let pixels: Image
    switch image {
    case .file(let path): pixels = try decoder.decode(contentsOfFile: path)
    case .encoded(let bytes, let name): pixels = try decoder.decode(bytes, name: name)
    case .decoded(let decoded): pixels = decoded
    case .features, .videoFrames: preconditionFailure("views: the image is encoded already")
    }
    let decoded = ContinuousClock.now
    let views = handling.isOneOfSeveral ? preprocessor.views(ofOneOfSeveral: pixels) : preprocessor(pixels)
    timings.decodeImage += (decoded - start).milliseconds
    timings.preprocess += (ContinuousClock.now - decoded).milliseconds
    guard handling.keepsAllPatches, let side = llava.configuration.vision?.patchesPerSide else { return views }
    return views.keepingAllPatches(side: side)
  }

  /// The features of images, or of their selected tokens, one after the other, `[V, D]`.
  ///
  /// Images are encoded one after the other, so memory grows with the largest one, not with their number.
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
