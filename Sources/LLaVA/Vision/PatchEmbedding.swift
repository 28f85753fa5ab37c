internal import Kernels
internal import ModelFormats

/// Cuts pictures into square patches and turns each into a row: a convolution whose stride is its width.
struct PatchEmbedding: Sendable {
  /// `[D, 3 · patch · patch]`.
  let projection: Linear
  /// `[D]`, the row in front of each picture's patches.
  let classEmbedding: [Float]
  /// `[1 + patches, D]`.
  let positions: [Float]
  let imageSize: Int
  let patchSize: Int

  init(_ scope: CheckpointScope, _ configuration: VisionConfiguration) throws(CheckpointError) {
    let (size, patch) = (configuration.hiddenSize, configuration.patchSize)
    projection = try scope.convolution("patch_embedding", channels: 3, side: patch, outputs: size)
    classEmbedding = try scope.vector("class_embedding", count: size)
    positions = try scope.scope("position_embedding")
      .tensor("weight", shape: [1 + configuration.patchCount, size]).floats()
    imageSize = configuration.imageSize
    patchSize = patch
  }

  /// Embeds `views` pictures.
  ///
  /// - Parameter pixels: Normalised values, `[views, 3, imageSize, imageSize]`.
  /// - Returns: `[views · (1 + patches), D]`: of each picture the class row, then its patches in reading order.
  func callAsFunction(_ pixels: [Float], views: Int, on compute: Compute) -> Matrix {
    let patches = patchRows(pixels, views: views)
    let (size, patchCount) = (classEmbedding.count, patches.rows / views)
    var embedded = Matrix(rows: 0, columns: size)
    compute.multiply(&embedded, patches, by: projection, .patchEmbedding)

    var result = Matrix(rows: views * (1 + patchCount), columns: size)
    let source = embedded.span
    var target = result.mutableSpan
    for view in 0..<views {
      for i in 0...patchCount {
        var row = target.row(view * (1 + patchCount) + i, columns: size)
        if i == 0 {
          for d in 0..<size { row[d] = classEmbedding[d] + positions[d] }
        } else {
          let patch = source.row(view * patchCount + i - 1, columns: size)
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
