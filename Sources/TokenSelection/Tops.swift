package import Kernels

/// TOPS: greedy choice by relevance, diversity and coverage.
///
/// The first token is the most relevant one. Then the score of a token is its relevance, plus `alpha` times 1 minus its
/// largest similarity to the chosen, plus `lambda` times what it adds to the largest similarities of the tokens that
/// are not chosen. Each of the three is divided by its mean over these tokens.
package struct Tops {
  package var alpha = 0.5
  package var lambda = 0.5

  package init() {}

  /// - Parameters:
  ///   - states: Hidden states of the tokens, before the language model the outputs of the projector, `[N, D]`.
  ///   - relevance: `[N]`, such as the attention of the class token.
  ///   - count: Number of tokens to choose; all of them if there are not more.
  /// - Returns: Indices in the order of choice; the lowest on ties.
  /// - Throws: `SelectionError` for values that are not finite or negative.
  ///
  /// Source: TOPS (arXiv 2606.27161), algorithm 1.
  package func select(
    _ states: borrowing Matrix, relevance: [Float], _ relevanceName: String = "class_attention", count: Int,
    on compute: ComputeContext
  ) throws(SelectionError) -> [Int] {
    let tokens = states.rows
    try requireWeights(relevance, count: tokens, relevanceName)
    let similarity = try compute.cosines(states, "projected")
    let cosines = similarity.span
    var isCandidate = [Bool](repeating: true, count: tokens)
    guard count > 0, let first = best(relevance, among: isCandidate) else { return [] }
    var chosen = [first]
    isCandidate[first] = false
    // The largest similarity of each token to the chosen.
    var nearest = similarity.rowValues(first)
    // What each token adds to the similarities of the candidates. Updated where `nearest` changes.
    var coverage = compute.workers.map(tasks: tokens) { token in
      let values = cosines.row(token, columns: tokens)
      var sum = 0.0
      for j in 0..<tokens where isCandidate[j] { sum += Double(max(0, values[j] - nearest[j])) }
      return sum
    }
    while chosen.count < min(count, tokens) {
      let candidates = (0..<tokens).filter { isCandidate[$0] }
      func scale(_ value: (Int) -> Double) -> Double {
        let total = candidates.reduce(0) { $0 + value($1) }
        return total > 0 ? Double(candidates.count) / total : 0
      }
      let scales = (
        relevance: scale { Double(relevance[$0]) }, diversity: scale { Double(1 - nearest[$0]) },
        coverage: scale { coverage[$0] }
      )
      var scores = [Double](repeating: 0, count: tokens)
      for i in candidates {
        scores[i] =
          Double(relevance[i]) * scales.relevance + alpha * Double(1 - nearest[i]) * scales.diversity
          + lambda * coverage[i] * scales.coverage
      }
      guard let next = best(scores, among: isCandidate) else { break }
      chosen.append(next)
      isCandidate[next] = false
      let values = cosines.row(next, columns: tokens)
      for j in 0..<tokens where isCandidate[j] || j == next {
        let (before, after) = (nearest[j], max(nearest[j], values[j]))
        nearest[j] = after
        guard after > before || j == next else { continue }
        // The similarities of `j` with all tokens are its row, as the matrix is symmetric.
        let column = cosines.row(j, columns: tokens)
        for i in 0..<tokens where isCandidate[i] {
          let old = max(0, column[i] - before)
          let new = j == next ? 0 : max(0, column[i] - after)
          coverage[i] -= Double(old) - Double(new)
        }
      }
    }
    return chosen
  }
}
