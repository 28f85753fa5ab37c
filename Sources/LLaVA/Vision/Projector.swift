internal import Kernels
internal import ModelFormats

/// From the tower's features to rows that the decoder reads like words: two linear layers with an activation between.
struct Projector: Sendable {
  let expand: Linear
  let contract: Linear
  let activation: Activation

  init(_ scope: CheckpointScope, _ configuration: LLaVAConfiguration) throws(CheckpointError) {
    let (inputs, outputs) = (configuration.vision.hiddenSize, configuration.text.hiddenSize)
    let bias = configuration.projectorHasBias
    expand = try scope.linear("linear_1", inputs: inputs, outputs: outputs, bias: bias)
    contract = try scope.linear("linear_2", inputs: outputs, outputs: outputs, bias: bias)
    activation = configuration.projectorActivation
  }

  /// - Parameter features: `[V, tower size]`.
  /// - Returns: `[V, D]`.
  func callAsFunction(_ features: borrowing Matrix, on compute: Compute) -> Matrix {
    var inner = Matrix(rows: 0, columns: expand.outputSize, capacity: features.rows)
    compute.multiply(&inner, features, by: expand, .projector)
    compute.apply(activation, to: &inner)
    var result = Matrix(rows: 0, columns: contract.outputSize, capacity: features.rows)
    compute.multiply(&result, inner, by: contract, .projector)
    return result
  }
}
