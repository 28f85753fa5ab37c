package import Kernels
package import ModelFormats

extension LLaVAModel {
  /// The features of an image or a video, which replace its placeholder among the prompt's embeddings.
  ///
  /// - Parameters:
  ///   - pixels: Normalized values of the views in their order, `[views, 3, imageSize, imageSize]`.
  ///   - layout: The views.
  /// - Returns: `[V, D]`, with `V` equal to `visualTokenCount(layout)`.
  /// - Precondition: The model has an image encoder.
  package func imageFeatures(_ pixels: [Float], _ layout: ViewLayout, on compute: ComputeContext) -> Matrix {
    packed(viewFeatures(pixels, views: layout.viewCount, on: compute), layout)
  }

  /// The features of an image, as `imageFeatures`, and what a selection of its tokens needs.
  ///
  /// - Parameter selectionInputs: The result of the vision encoder; unchanged if `compute` is cancelled.
  package func imageFeatures(
    _ pixels: [Float], _ layout: ViewLayout, selectionInputs: inout SelectionInputs?, on compute: ComputeContext
  ) -> Matrix {
    guard let vision = configuration.vision else { preconditionFailure("imageFeatures: no image encoder") }
    var attention = vision.hasClassToken ? ClassAttention() : nil
    var patches: Matrix? = Matrix(rows: 0, columns: vision.hiddenSize)
    let features = viewFeatures(pixels, views: layout.viewCount, &attention, &patches, on: compute)
    if !compute.isCancelled, let patches {
      selectionInputs = SelectionInputs(
        patchFeatures: patches.values, columns: vision.hiddenSize, classAttention: attention?.global ?? [],
        localAttention: attention?.local ?? [])
    }
    return packed(features, layout)
  }

  /// The features of separate views, encoded in batches.
  ///
  /// - Parameter pixels: Normalized values, `[views, 3, imageSize, imageSize]`.
  /// - Returns: `[views · tokensPerView, D]`.
  /// - Precondition: The model has an image encoder.
  package func viewFeatures(_ pixels: [Float], views: Int, on compute: ComputeContext) -> Matrix {
    var attention: ClassAttention?
    var patches: Matrix?
    return viewFeatures(pixels, views: views, &attention, &patches, on: compute)
  }

  /// The features of separate views, as above.
  ///
  /// - Parameters:
  ///   - attention: Receives the attention of the class token, unless it is `nil`.
  ///   - patches: Receives the vision encoder's features of the patches, without class tokens, unless it is `nil`.
  private func viewFeatures(
    _ pixels: [Float], views: Int, _ attention: inout ClassAttention?, _ patches: inout Matrix?,
    on compute: ComputeContext
  ) -> Matrix {
    guard let imageEncoder, let vision = configuration.vision else {
      preconditionFailure("viewFeatures: the model has no image encoder")
    }
    let (perView, viewSize) = (configuration.visualTokensPerView, 3 * vision.imageSize * vision.imageSize)
    precondition(pixels.count == views * viewSize, "viewFeatures: \(pixels.count) pixels for \(views) views")
    let batch = imageEncoder.vision.viewsPerBatch
    var scratch = EncoderScratch(rows: min(views, batch) * vision.rowsPerView, vision.layer)
    var features = Matrix(rows: 0, columns: configuration.text.hiddenSize, capacity: views * perView)
    for first in stride(from: 0, to: views, by: batch) {
      let count = min(batch, views - first)
      let part = count == views ? pixels : Array(pixels[first * viewSize..<(first + count) * viewSize])
      let encoded = compute.during(.encode) {
        imageEncoder.vision.features(part, views: count, &scratch, &attention, on: compute)
      }
      features.append(compute.during(.project) { imageEncoder.projector(encoded, on: compute) })
      if patches != nil {
        let classRows = configuration.keepsClassToken ? 1 : 0
        var part = Matrix(rows: 0, columns: encoded.columns)
        part.assign(encoded, rows: 0..<encoded.rows)
        if classRows > 0 { part.keepRows((0..<encoded.rows).filter { $0 % vision.rowsPerView >= classRows }) }
        patches?.append(part)
      }
    }
    return features
  }
}
