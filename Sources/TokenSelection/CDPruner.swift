package import Kernels

/// CDPruner: tokens that are relevant to the question and different from each other, by a determinantal point process.
///
/// The kernel of two tokens is the cosine of their embeddings times the relevance of both. Tokens are chosen greedily so
/// that its determinant grows most. Beyond the rank of the embeddings nothing grows any more; the remaining tokens are
/// then chosen by relevance.
package enum CDPruner {
  /// The relevance of the tokens of all views, scaled from almost 0 to 1; 1 for all if they do not differ.
  ///
  /// - Parameters:
  ///   - x: What is compared with the question, `[N, E]`.
  ///   - question: `[M, E]`; may have no rows.
  ///   - sign: 1, or -1 for the similarity of CLIP's two encoders, as in the published code.
  /// - Throws: `SelectionError` for values that are not finite.
  ///
  /// Source: CDPruner (arXiv 2506.10967) and its code. Embeddings of the language model in place of CLIP's text
  /// encoder: OpenVINO GenAI.
  package static func relevance(
    _ x: borrowing Matrix, _ xName: String, question: borrowing Matrix, _ questionName: String, sign: Float,
    on compute: ComputeContext
  ) throws(SelectionError) -> [Float] {
    let cosines = try compute.cosines(x, xName, with: question, questionName)
    guard question.rows > 0 else { return [Float](repeating: 1, count: x.rows) }
    let means = (0..<x.rows).map { row in
      let values = cosines.row(row)
      return sign * sum(values) / Float(values.count)
    }
    guard let (least, most) = means.isEmpty ? nil : (means.min() ?? 0, means.max() ?? 0), most > least else {
      return [Float](repeating: 1, count: x.rows)
    }
    return means.map { ($0 - least + 1e-6) / (most - least) }
  }

  /// - Parameters:
  ///   - embeddings: Outputs of the projector for one view, `[N, D]`.
  ///   - relevance: `[N]`.
  ///   - count: Number of tokens to choose; all of them if there are not more.
  /// - Returns: Indices in the order of choice; the lowest on ties.
  /// - Throws: `SelectionError` for values that are not finite or negative.
  package static func select(
    _ embeddings: borrowing Matrix, relevance: [Float], count: Int, on compute: ComputeContext
  ) throws(SelectionError) -> [Int] {
    let tokens = embeddings.rows
    try requireWeights(relevance, count: tokens, "relevance")
    let similarity = try compute.cosines(embeddings, "projected")
    let cosines = similarity.span
    // What each token would add to the logarithm of the determinant, before the logarithm.
    var residual = (0..<tokens).map {
      Double(relevance[$0]) * Double(relevance[$0]) * Double(cosines[$0 * tokens + $0])
    }
    // A residual below this part of the first is rounding.
    let least = (residual.max() ?? 0) * 1e-6
    var isCandidate = [Bool](repeating: true, count: tokens)
    var (chosen, columns): ([Int], [[Double]]) = ([], [])
    while chosen.count < count, let next = best(residual, among: isCandidate), residual[next] > least {
      var column = (0..<tokens).map {
        Double(relevance[next]) * Double(cosines[next * tokens + $0]) * Double(relevance[$0])
      }
      for earlier in columns {
        let factor = earlier[next]
        for i in column.indices { column[i] -= factor * earlier[i] }
      }
      compute.ledger.add(.ranking, columns.count * tokens)
      let scale = 1 / residual[next].squareRoot()
      for i in column.indices {
        column[i] *= scale
        residual[i] -= column[i] * column[i]
      }
      columns.append(column)
      chosen.append(next)
      isCandidate[next] = false
    }
    return chosen
      + descending(relevance).lazy.filter { isCandidate[$0] }.prefix(max(0, min(count, tokens) - chosen.count))
  }
}
