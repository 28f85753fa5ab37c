package import Kernels
import ModelFormats
public import Storage

/// The decoder: embedding, layers between which visual tokens may be dropped, final norm and output head.
package struct LanguageModel: Sendable {
  /// `[N, D]`.
  let embedding: Tensor
  let layers: [DecoderLayer]
  /// `[D]`.
  let outputNorm: [Float]
  /// `[N, D]`.
  let head: Linear
  let epsilon: Float

  init(
    _ checkpoint: Checkpoint, _ configuration: LLaVAConfiguration, layers conversion: LinearConversion,
    head headConversion: LinearConversion, scores: ScoreType
  ) throws(CheckpointError) {
    let text = configuration.text
    let model = checkpoint.scope("language_model.model", conversion)
    embedding = try model.scope("embed_tokens").tensor("weight", shape: [text.vocabularySize, text.hiddenSize])
    var layers: [DecoderLayer] = []
    for i in 0..<text.layerCount {
      layers.append(try DecoderLayer(model.scope("layers.\(i)"), text, scores: scores))
    }
    self.layers = layers
    outputNorm = try model.scope("norm").vector("weight", count: text.hiddenSize)
    head =
      configuration.tiesWordEmbeddings
      ? headConversion(Linear(weight: embedding), named: "language_model.model.embed_tokens.weight")
      : try checkpoint.scope("language_model", headConversion)
        .linear("lm_head", inputs: text.hiddenSize, outputs: text.vocabularySize)
    epsilon = text.rmsNormEpsilon
  }

  /// Runs generated tokens through all layers, from `state.hidden`, `[T, D]`.
  ///
  /// Row `i` belongs to cache `i`; rows with the same cache follow each other in it. Results do not depend on the rows
  /// of other caches, nor on later rows. Positions continue from each layer's own cache, so after a compact drop they
  /// differ from layer to layer.
  package func decode(_ state: inout DecoderState, _ caches: [KVCache], on compute: ComputeContext) {
    precondition(state.hidden.rows == caches.count, "decode: \(state.hidden.rows) rows, \(caches.count) caches")
    compute.during(.decode) {
      compute.ledger.stage = 0
      for index in layers.indices {
        compute.ledger.layer = index
        state.place(after: caches, layer: index)
        layers[index](&state, .each(caches, layer: index), on: compute)
      }
    }
  }

  /// The logits after the last row of `state.hidden`, `[N]`.
  package func logits(_ state: borrowing DecoderState, on compute: ComputeContext) -> [Float] {
    var lastRow = Matrix(rows: 0, columns: state.hidden.columns)
    lastRow.assign(state.hidden, rows: state.hidden.rows - 1..<state.hidden.rows)
    return logits(lastRow, on: compute).values
  }

  /// The logits after every row of `hidden`, `[T, N]`.
  ///
  /// - Parameter hidden: The residual stream after the last layer, `[T, D]`.
  package func logits(_ hidden: borrowing Matrix, on compute: ComputeContext) -> Matrix {
    compute.during(.head) {
      var normalized = Matrix(rows: 0, columns: hidden.columns)
      compute.rmsNorm(&normalized, hidden, weight: outputNorm, epsilon: epsilon)
      var logits = Matrix(rows: 0, columns: head.outputSize)
      compute.matmul(&logits, normalized, by: head, .output)
      return logits
    }
  }
}

/// An error of a prompt and its images as a sequence.
public enum SequenceError: UserFacingError, Equatable {
  case placeholderMismatch(placeholders: Int, images: Int)
  /// A token after the embeddings, with its text if the tokenizer has one.
  case tokenOutOfRange(token: Int, text: String?, vocabularySize: Int)
  case tooLong(length: Int, limit: Int)
  /// Longer than the model supports with any context length, as with a sliding window.
  case beyondModel(length: Int, limit: Int)
  case empty
  /// The features of an image cannot be selected from.
  case features(String)

  public var category: ErrorCategory { .input }
  public var problem: String {
    switch self {
    case .placeholderMismatch(let placeholders, 0):
      "the prompt has \(placeholders) <image> but no image is given"
    case .placeholderMismatch(0, let images):
      "\(images) image(s) given, but the prompt has no <image>; put <image> where the image belongs"
    case .placeholderMismatch(let placeholders, let images):
      "the prompt has \(placeholders) <image>, but \(images) image(s) are given; there must be one for each"
    case .tokenOutOfRange(let token, let text, let vocabularySize):
      "token \(text.map { "\($0.excerpt) with id " } ?? "")\(token) is outside the model's vocabulary of "
        + "\(vocabularySize); leave it out, or use weights that belong to the tokenizer"
    case .tooLong(let length, let limit):
      "the prompt has \(length) tokens with its images, the context only \(limit)"
    case .beyondModel(let length, let limit):
      "the prompt has \(length) tokens with its images, the attention of the model covers only \(limit)"
    case .empty:
      "the prompt is empty"
    case .features(let problem):
      "no visual tokens can be selected: \(problem)"
    }
  }

  public var remedies: [Remedy] {
    switch self {
    case .placeholderMismatch(_, images: 0): [.addImage, .removePlaceholder]
    case .tooLong: [.shortenPrompt, .raiseContextLength]
    case .beyondModel: [.shortenPrompt]
    default: []
    }
  }
}

extension LanguageModel {
  /// Writes a prompt's embeddings to `hidden`, with placeholders replaced by the features of their image.
  ///
  /// - Parameters:
  ///   - hidden: The result, resized to `[T, D]`.
  ///   - tokens: Text tokens, and one placeholder for each span of an image's tokens.
  ///   - placeholder: The image token.
  ///   - features: The features of all images, in order, `[V, D]`.
  ///   - featureCounts: Number of rows of `features` for each image.
  ///   - spans: Number of tokens at each placeholder of each image before any is selected; `nil` for one placeholder for
  ///     each image.
  ///   - selected: Indices of these rows among the tokens of each image; `nil` for all.
  ///   - limit: Maximum length of the sequence.
  package func splice(
    _ hidden: inout Matrix, tokens: [Int], placeholder: Int, features: borrowing Matrix, featureCounts: [Int],
    spans: [[Int]]? = nil, selected: [[Int]]? = nil, limit: Int
  ) throws(SequenceError) -> SequenceLayout {
    guard
      let layout = SequenceLayout(
        tokens, placeholder: placeholder, visualTokenCounts: featureCounts, spans: spans, selected: selected)
    else {
      throw .placeholderMismatch(
        placeholders: tokens.count { $0 == placeholder }, images: featureCounts.count)
    }
    precondition(featureCounts.reduce(0, +) == features.rows, "splice: \(featureCounts) of \(features.rows) features")
    let length = layout.rowCount
    guard length > 0 else { throw .empty }
    guard length <= limit else { throw .tooLong(length: length, limit: limit) }
    hidden.resize(rows: length)

    var feature = 0
    var span = Matrix(rows: 0, columns: hidden.columns)
    for rows in layout.visualSpans where rows[1] > 0 {
      span.assign(features, rows: feature..<feature + rows[1])
      hidden.replaceRows(from: rows[0], with: span)
      feature += rows[1]
    }
    for (row, token) in zip(layout.textRows, tokens.lazy.filter { $0 != placeholder }) {
      guard (0..<embedding.rows).contains(token) else {
        throw .tokenOutOfRange(token: token, text: nil, vocabularySize: embedding.rows)
      }
      hidden.setRow(row, to: embedding, row: token)
    }
    return layout
  }

  /// Writes the embeddings of generated tokens to `hidden`, resized to `[tokens, D]`.
  ///
  /// - Precondition: The tokens are in the vocabulary.
  package func embed(_ tokens: [Int], into hidden: inout Matrix) {
    hidden.resize(rows: tokens.count)
    for (row, token) in tokens.enumerated() { hidden.setRow(row, to: embedding, row: token) }
  }
}
