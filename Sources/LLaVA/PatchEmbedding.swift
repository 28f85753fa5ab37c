import Kernels
import ModelFormats

/// Patch embedding: a convolution whose stride equals its width, computed as a matmul over the patches.
struct PatchEmbedding: Sendable {
  /// `[D, 3 · patch · patch]`.
  let projection: Linear
  /// `[D]`, the row before the patches of each view; `nil` for SigLIP.
  let classEmbedding: [Float]?
  /// `[rowsPerView, D]`.
  ///
  /// Idefics3's vision encoder finds the position of a patch from its distance to the edge as a fraction of the view.
  /// In transformers 4.55 to 4.57 the fraction is slightly too small in f32, so all patches but the first of a row or
  /// column have the position of the patch before. In bf16 and f16, in which the models are published, the fractions are
  /// rounded to those of the training. Weights stored in f32 have the former positions here, others the latter.
  let positions: [Float]
  let imageSize: Int
  let patchSize: Int

  init(_ scope: CheckpointScope, _ configuration: VisionConfiguration) throws(CheckpointError) {
    let (size, patch) = (configuration.hiddenSize, configuration.patchSize)
    let isCLIP = configuration.family == .clip
    projection = try scope.convolution(
      "patch_embedding", channels: 3, side: patch, outputs: size, bias: configuration.family == .siglip)
    classEmbedding = isCLIP ? try scope.vector("class_embedding", count: size) : nil
    let stored = try scope.scope("position_embedding").tensor("weight", shape: [configuration.rowsPerView, size])
    let table = stored.floats()
    if configuration.placesPatchesByFractions, stored.element == .f32 {
      let side = configuration.patchesPerSide
      positions = (0..<side * side).flatMap { patch in
        let place = max(0, patch / side - 1) * side + max(0, patch % side - 1)
        return table[place * size..<(place + 1) * size]
      }
    } else {
      positions = table
    }
    imageSize = configuration.imageSize
    patchSize = patch
  }

  /// The embeddings of separate views.
  ///
  /// - Parameter pixels: Normalized values, `[views, 3, imageSize, imageSize]`.
  /// - Returns: `[views · rowsPerView, D]`: for each view the class row, if there is one, then its patches row by row.
  func callAsFunction(_ pixels: [Float], views: Int, on compute: ComputeContext) -> Matrix {
    let patches = patchRows(pixels, views: views)
    let (size, patchCount) = (projection.outputSize, patches.rows / views)
    var embedded = Matrix(rows: 0, columns: size)
    compute.matmul(&embedded, patches, by: projection, .patchEmbedding)

    let first = classEmbedding == nil ? 0 : 1
    var result = Matrix(rows: views * (first + patchCount), columns: size)
    let source = embedded.span
    var target = result.mutableSpan
    for view in 0..<views {
      for i in 0..<first + patchCount {
        var row = target.row(view * (first + patchCount) + i, columns: size)
        if i < first, let classEmbedding {
          for d in 0..<size { row[d] = classEmbedding[d] + positions[d] }
        } else {
          let patch = source.row(view * patchCount + i - first, columns: size)
          for d in 0..<size { row[d] = patch[d] + positions[i * size + d] }
        }
      }
    }
    return result
  }

  /// The pixels of each patch as a row, `[views · patches, 3 · patch · patch]`.
  private func patchRows(_ pixels: [Float], views: Int) -> Matrix {
    precondition(pixels.count == views * 3 * imageSize * imageSize, "\(pixels.count) pixels for \(views) views")
    let side = imageSize / patchSize
    var rows = Matrix(rows: views * side * side, columns: 3 * patchSize * patchSize)
    let columns = rows.columns
    let source = pixels.span
    var target = rows.mutableSpan
    for index in 0..<views * side * side {
      let (view, y, x) = (index / (side * side), index / side % side, index % side)
      var row = target.row(index, columns: columns)
      for channel in 0..<3 {
        for dy in 0..<patchSize {
          let line = ((view * 3 + channel) * imageSize + y * patchSize + dy) * imageSize + x * patchSize
          let from = source.extracting(line..<line + patchSize)
          var to = row.row(channel * patchSize + dy, columns: patchSize)
          for i in from.indices { to[i] = from[i] }
        }
      }
    }
    return rows
  }
}
