package import Kernels
package import ModelFormats
package import TokenDropping

/// The embeddings of texts and image patches in CLIP's common space: its text encoder and both projections, in f32.
///
/// LLaVA itself needs neither. CDPruner compares the question with the image by them.
///
/// Source: `CLIPTextModelWithProjection` and `CLIPVisionModelWithProjection` of transformers.
package struct CLIPEmbeddings: Sendable {
  let configuration: CLIPConfiguration
  /// `[N, D]`, with the text encoder's `N` and `D`.
  private let tokens: Tensor
  /// `[contextLength, D]`.
  private let positions: [Float]
  private let layers: [EncoderLayer]
  private let textNorm: LayerNorm
  /// `[E, D]`.
  private let textProjection: Linear
  /// The norm after the last layer of the vision encoder, `[C]`.
  private let imageNorm: LayerNorm
  /// `[E, C]`.
  private let imageProjection: Linear

  /// - Throws: `CheckpointError` naming the first tensor that is missing or has another shape than `config.json`
  ///   requires.
  init(_ checkpoint: Checkpoint, _ configuration: CLIPConfiguration) throws(CheckpointError) {
    self.configuration = configuration
    let (text, vision) = (checkpoint.scope("text_model"), checkpoint.scope("vision_model"))
    let size = configuration.layer.hiddenSize
    tokens = try text.scope("embeddings.token_embedding").tensor("weight", shape: [configuration.vocabularySize, size])
    positions = try text.scope("embeddings.position_embedding")
      .tensor("weight", shape: [configuration.contextLength, size]).floats()
    var layers: [EncoderLayer] = []
    for i in 0..<configuration.layerCount {
      layers.append(try EncoderLayer(text.scope("encoder.layers.\(i)"), configuration.layer))
    }
    self.layers = layers
    textNorm = try LayerNorm(text.scope("final_layer_norm"), size: size)
    func projection(_ name: String, inputs: Int) throws(CheckpointError) -> Linear {
      Linear(weight: try checkpoint.tensor(name, shape: [configuration.embeddingSize, inputs]))
    }
    textProjection = try projection("text_projection.weight", inputs: size)
    imageNorm = try LayerNorm(vision.scope("post_layernorm"), size: configuration.visionHiddenSize)
    imageProjection = try projection("visual_projection.weight", inputs: configuration.visionHiddenSize)
  }

  /// Bytes of the weights.
  package var weightBytes: Int {
    (layers.flatMap(\.linears) + [textProjection, imageProjection]).reduce(tokens.byteCount) {
      $0 + $1.weightByteCount
    }
  }

  /// The embeddings of pieces of text.
  ///
  /// - Parameter pieces: Tokens of each piece, at most `contextLength`, in the vocabulary.
  /// - Returns: `[pieces, E]`, not normalized.
  package func text(_ pieces: [[Int]], on compute: ComputeContext) -> Matrix {
    let (layer, size) = (configuration.layer, configuration.layer.hiddenSize)
    var last = Matrix(rows: pieces.count, columns: size)
    var scratch = EncoderScratch(rows: configuration.contextLength, layer)
    for (index, piece) in pieces.enumerated() {
      precondition(piece.count <= configuration.contextLength, "CLIPEmbeddings: a piece of \(piece.count) tokens")
      // Attention is causal, so the rows after the one that is used need not be computed.
      let row = configuration.embeddedRow(of: piece)
      var hidden = embedded(piece.prefix(row + 1))
      for encoderLayer in layers {
        encoderLayer(&hidden, &scratch, sequences: 1, isCausal: true, layer, on: compute)
      }
      hidden.keepRows([row])
      last.replaceRows(from: index, with: hidden)
    }
    var normalized = Matrix(rows: 0, columns: size)
    compute.layerNorm(
      &normalized, last, weight: textNorm.weight, bias: textNorm.bias, epsilon: layer.layerNormEpsilon)
    return project(normalized, by: textProjection, on: compute)
  }

  private func embedded(_ piece: ArraySlice<Int>) -> Matrix {
    let size = configuration.layer.hiddenSize
    var hidden = Matrix(rows: piece.count, columns: size)
    for (row, token) in piece.enumerated() { hidden.setRow(row, to: tokens, row: token) }
    var values = hidden.mutableSpan
    for i in values.indices { values[i] += positions[i] }
    return hidden
  }

  /// The embeddings of image patches.
  ///
  /// - Parameter features: Features of the vision encoder as the projector sees them, `[T, C]`.
  /// - Returns: `[T, E]`, not normalized.
  package func image(_ features: borrowing Matrix, on compute: ComputeContext) -> Matrix {
    var normalized = Matrix(rows: 0, columns: features.columns)
    compute.layerNorm(
      &normalized, features, weight: imageNorm.weight, bias: imageNorm.bias, epsilon: configuration.visionEpsilon)
    return project(normalized, by: imageProjection, on: compute)
  }

  private func project(_ x: borrowing Matrix, by projection: Linear, on compute: ComputeContext) -> Matrix {
    var result = Matrix(rows: 0, columns: projection.outputSize)
    compute.matmul(&result, x, by: projection, .ranking)
    return result
  }
}

extension CLIPConfiguration {
  /// Multiply-adds of the embeddings of pieces of text.
  func multiplyAdds(text pieces: [[Int]]) -> Int {
    let (size, inner) = (layer.hiddenSize, layer.intermediateSize)
    return pieces.reduce(0) { sum, piece in
      let rows = embeddedRow(of: piece) + 1
      return sum + layerCount * (rows * (4 * size * size + 2 * size * inner) + size * rows * (rows + 1))
        + size * embeddingSize
    }
  }

  /// Multiply-adds of the embeddings of image patches.
  func multiplyAdds(patches: Int) -> Int { patches * visionHiddenSize * embeddingSize }

  /// Bytes of working memory of both embeddings and of their cosines.
  func workingByteCount(patches: Int) -> Int {
    let text = contextLength * (6 * layer.hiddenSize + layer.intermediateSize)
    return (text + patches * 2 * (visionHiddenSize + embeddingSize)) * ElementType.f32.byteCount
  }
}

/// The question of a request, for selections of visual tokens that compare it with the image.
package enum SelectionQuestion: Sendable, Equatable {
  /// Tokens of the language model, whose embeddings are compared with the projected features.
  case languageModel([Int])
  /// Tokens of CLIP's text encoder in pieces, whose embeddings are compared with those of the image.
  case clip([[Int]])

  /// A question of a number of tokens, to estimate the cost of a selection before one is known.
  package init(ofLength tokens: Int, for method: Preselection.Method, _ configuration: LLaVAConfiguration) {
    guard method == .cdPruner, let clip = configuration.clip else {
      self = .languageModel(Array(repeating: 0, count: tokens))
      return
    }
    // The largest token is the last one of the text.
    let rows = min(max(1, tokens), clip.contextLength)
    self = .clip([Array(repeating: 0, count: rows - 1) + [clip.eosToken ?? 1]])
  }

  /// What is compared with the image, in reports.
  package var relevanceName: String { if case .clip = self { "clip" } else { "language-model" } }

  /// Number of rows that are compared with each token of the image.
  var rowCount: Int {
    switch self {
    case .languageModel(let tokens): tokens.count
    case .clip(let pieces): pieces.count
    }
  }
}
