package import Kernels

/// MMTok: greedy coverage of the question and of the image.
///
/// Each word of the question and each token of the image is a column to cover. Its values are the softmax of its
/// similarities to all tokens, so a token is worth what it says about the question and about the rest of the image.
package struct MMTok {
  /// Temperature of the question's softmax.
  package var textTemperature = 0.02
  /// Temperature of the image's softmax.
  package var visionTemperature = 0.2
  /// Weight of the image against the question.
  package var alpha = 0.5

  package init() {}

  /// - Parameters:
  ///   - embeddings: Outputs of the projector, `[N, D]`.
  ///   - features: Features of the vision encoder, `[N, C]`.
  ///   - question: Embeddings of the question's tokens in the language model, `[Q, D]`; may have no rows.
  ///   - excluded: Tokens that are not chosen, such as padding; they stay in the softmax and have to be covered.
  ///   - count: Number of tokens to choose; all of them if there are not more.
  /// - Returns: Indices in the order of choice; the lowest on ties.
  /// - Throws: `SelectionError` for values that are not finite.
  ///
  /// Source: MMTok (arXiv 2508.18264) and its code.
  package func select(
    _ embeddings: borrowing Matrix, features: borrowing Matrix, question: borrowing Matrix, excluded: Set<Int> = [],
    count: Int, on compute: ComputeContext
  ) throws(SelectionError) -> [Int] {
    let tokens = embeddings.rows
    guard features.rows == tokens else {
      throw .differentCounts(input: "tower_features", found: features.rows, expected: tokens)
    }
    var text = try compute.cosines(question, "question_embeddings", with: embeddings, "projected")
    var vision = try compute.cosines(features, "tower_features")
    normalize(&text, temperature: textTemperature, weight: 1 / Double(max(1, question.rows)))
    normalize(&vision, temperature: visionTemperature, weight: alpha / Double(max(1, tokens)))

    let columns = text.rows + vision.rows
    var values = Matrix(rows: tokens, columns: max(1, columns))
    let (textValues, visionValues) = (text.span, vision.span)
    let textRows = text.rows
    var target = values.mutableSpan
    for i in 0..<tokens {
      var row = target.row(i, columns: columns)
      for q in 0..<textRows { row[q] = textValues[q * tokens + i] }
      for j in 0..<tokens { row[textRows + j] = visionValues[j * tokens + i] }
    }
    return maximumCoverage(
      values, weights: [Float](repeating: 1, count: tokens), excluded: excluded, count: count, on: compute)
  }

  /// Replaces each row by the softmax of its values divided by the temperature, times the weight.
  private func normalize(_ rows: inout Matrix, temperature: Double, weight: Double) {
    let (count, columns) = (rows.rows, rows.columns)
    var values = rows.mutableSpan
    for index in 0..<count {
      var row = values.row(index, columns: columns)
      for i in row.indices { row[i] = row[i] / Float(temperature) }
      softmax(&row)
      for i in row.indices { row[i] = row[i] * Float(weight) }
    }
  }
}
