import Kernels
import ModelFormats

/// The MLP from vision features to decoder embeddings: two linear layers with an activation between them.
struct Projector: Sendable {
  /// `[D, visionHiddenSize]`, with the decoder's `D`.
  let expand: Linear
  /// `[D, D]`, with the decoder's `D`.
  let contract: Linear
  let activation: Activation

  init(
    _ scope: CheckpointScope, inputs: Int, _ configuration: LLaVAConfiguration
  ) throws(CheckpointError) {
    let outputs = configuration.text.hiddenSize
    let bias = configuration.projectorHasBias
    expand = try scope.linear("linear_1", inputs: inputs, outputs: outputs, bias: bias)
    contract = try scope.linear("linear_2", inputs: outputs, outputs: outputs, bias: bias)
    activation = configuration.projectorActivation
  }

  /// The decoder embeddings of vision features.
  ///
  /// - Parameter features: `[V, visionHiddenSize]`.
  /// - Returns: `[V, D]`, with the decoder's `D`.
  func callAsFunction(_ features: borrowing Matrix, on compute: ComputeContext) -> Matrix {
    var inner = Matrix(rows: 0, columns: expand.outputSize, capacity: features.rows)
    compute.matmul(&inner, features, by: expand, .projector, activation: activation)
    var result = Matrix(rows: 0, columns: contract.outputSize, capacity: features.rows)
    compute.matmul(&result, inner, by: contract, .projector)
    return result
  }
}
