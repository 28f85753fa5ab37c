import Kernels
import ModelFormats

/// The part from vision features to decoder embeddings: an MLP of two linear layers with an activation between them, or
/// a pixel shuffle and one linear layer.
struct Projector: Sendable {
  /// The pixel shuffle before the first layer; `nil` for an MLP.
  let shuffle: PixelShuffle?
  /// `[D, inputs]`, with the decoder's `D`.
  let expand: Linear
  /// `[D, D]`, with the decoder's `D`; `nil` after a pixel shuffle.
  let contract: Linear?
  let activation: Activation

  init(
    _ scope: CheckpointScope, _ vision: VisionConfiguration, _ configuration: LLaVAConfiguration
  ) throws(CheckpointError) {
    let (inputs, outputs) = (vision.hiddenSize, configuration.text.hiddenSize)
    let bias = configuration.projectorHasBias
    activation = configuration.projectorActivation
    shuffle = configuration.pixelShuffle.map { PixelShuffle(side: vision.patchesPerSide, factor: $0) }
    if let shuffle {
      let joined = shuffle.factor * shuffle.factor * inputs
      expand = try scope.linear("linear", inputs: joined, outputs: outputs, bias: bias)
      contract = nil
    } else {
      expand = try scope.linear("linear_1", inputs: inputs, outputs: outputs, bias: bias)
      contract = try scope.linear("linear_2", inputs: outputs, outputs: outputs, bias: bias)
    }
  }

  var linears: [Linear] { [expand] + (contract.map { [$0] } ?? []) }

  /// The decoder embeddings of vision features.
  ///
  /// - Parameter features: `[views · patches, visionHiddenSize]`.
  /// - Returns: `[V, D]`, with the decoder's `D`.
  func callAsFunction(_ features: borrowing Matrix, on compute: ComputeContext) -> Matrix {
    if let shuffle {
      let joined = shuffle(features)
      var result = Matrix(rows: 0, columns: expand.outputSize, capacity: joined.rows)
      compute.matmul(&result, joined, by: expand, .projector)
      return result
    }
    guard let contract else { preconditionFailure("Projector: no second layer") }
    var inner = Matrix(rows: 0, columns: expand.outputSize, capacity: features.rows)
    compute.matmul(&inner, features, by: expand, .projector, activation: activation)
    var result = Matrix(rows: 0, columns: contract.outputSize, capacity: features.rows)
    compute.matmul(&result, inner, by: contract, .projector)
    return result
  }
}

/// The joining of the features of square groups of neighbouring patches to one row each.
///
/// Source: `Idefics3Connector.pixel_shuffle` in transformers.
struct PixelShuffle: Sendable {
  /// Patches along the side of a view, a multiple of `factor`.
  let side: Int
  /// Patches along the side of a group.
  let factor: Int

  /// - Parameter features: `[views · side · side, C]`, patches row by row.
  /// - Returns: `[views · side · side / factor², factor² · C]`: groups row by row, the patches of a group row by row.
  func callAsFunction(_ features: borrowing Matrix) -> Matrix {
    let (columns, groups) = (features.columns, side / factor)
    precondition(
      features.rows.isMultiple(of: side * side) && side.isMultiple(of: factor),
      "PixelShuffle: \(features.rows) rows of views of \(side) by \(side) patches, factor \(factor)")
    var result = Matrix(rows: features.rows / (factor * factor), columns: factor * factor * columns)
    let width = result.columns
    let source = features.span
    var target = result.mutableSpan
    for row in 0..<features.rows {
      let (view, y, x) = (row / (side * side), row / side % side, row % side)
      var group = target.row((view * groups + y / factor) * groups + x / factor, columns: width)
      var part = group.row(y % factor * factor + x % factor, columns: columns)
      let patch = source.row(row, columns: columns)
      for d in patch.indices { part[d] = patch[d] }
    }
    return result
  }
}
