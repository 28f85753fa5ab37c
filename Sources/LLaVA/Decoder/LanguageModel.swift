package import Kernels
internal import ModelFormats

/// The language model: a stack of layers between which visual tokens may be dropped, and the output head.
package struct LanguageModel: Sendable {
  let embedding: Tensor
  let layers: [DecoderLayer]
  let outputNorm: [Float]
  let head: Linear
  let epsilon: Float

  init(
    _ checkpoint: Checkpoint, _ configuration: LLaVAConfiguration, layers conversion: LinearConversion,
    head headConversion: LinearConversion
  ) throws(CheckpointError) {
    let text = configuration.text
    let model = checkpoint.scope("language_model.model", conversion)
    embedding = try model.scope("embed_tokens").tensor("weight", shape: [text.vocabularySize, text.hiddenSize])
    var layers: [DecoderLayer] = []
    for i in 0..<text.layerCount { layers.append(try DecoderLayer(model.scope("layers.\(i)"), text)) }
    self.layers = layers
    outputNorm = try model.scope("norm").vector("weight", count: text.hiddenSize)
    head =
      configuration.tiesWordEmbeddings
      ? headConversion(Linear(weight: embedding), named: "language_model.model.embed_tokens.weight")
      : try checkpoint.scope("language_model", headConversion)
        .linear("lm_head", inputs: text.hiddenSize, outputs: text.vocabularySize)
    epsilon = text.rmsNormEpsilon
  }

  /// Runs generated tokens, one row of `state.hidden` for each of `caches`, through all layers.
  ///
  /// A row's result does not depend on the others. Positions go on from each layer's own cache, so after a compact drop they
  /// differ from layer to layer.
  package func decode(_ state: inout DecoderState, _ caches: [KVCache], on compute: Compute) {
    precondition(state.hidden.rows == caches.count, "decode: \(state.hidden.rows) rows, \(caches.count) caches")
    compute.during(.decode) {
      compute.ledger.stage = 0
      for index in layers.indices {
        compute.ledger.layer = index
        layers[index].project(&state, on: compute)
        state.place(after: caches, layer: index)
        layers[index].finish(&state, caches, layer: index, on: compute)
      }
    }
  }

  /// The logits after the last row of `state.hidden`, one per entry of the vocabulary.
  package func logits(_ state: borrowing DecoderState, on compute: Compute) -> [Float] {
    var lastRow = Matrix(rows: 0, columns: state.hidden.columns)
    lastRow.assign(state.hidden, rows: state.hidden.rows - 1..<state.hidden.rows)
    return logits(lastRow, on: compute).values
  }

  /// The logits of every row of `hidden`, `[T, N]`.
  package func logits(_ hidden: borrowing Matrix, on compute: Compute) -> Matrix {
    compute.counting(as: .head) {
      var normed = Matrix(rows: 0, columns: hidden.columns)
      compute.rmsNorm(&normed, hidden, gain: outputNorm, epsilon: epsilon)
      var logits = Matrix(rows: 0, columns: head.outputSize)
      compute.multiply(&logits, normed, by: head, .output)
      return logits
    }
  }
}
