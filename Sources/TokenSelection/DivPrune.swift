package import Kernels

/// DivPrune: tokens that are as different from each other as possible.
///
/// The distance of two tokens is 1 minus the cosine of their embeddings. The first token is the one whose nearest other
/// token is farthest; then always the one whose nearest chosen token is farthest.
///
/// - Parameters:
///   - embeddings: Outputs of the projector, `[N, D]`.
///   - count: Number of tokens to choose; all of them if there are not more.
/// - Returns: Indices in the order of choice; the lowest on ties.
/// - Throws: `SelectionError` for values that are not finite.
///
/// Source: DivPrune (arXiv 2503.02175), from the description.
package func selectByDiversity(
  _ embeddings: borrowing Matrix, count: Int, on compute: ComputeContext
) throws(SelectionError) -> [Int] {
  let similarity = try compute.cosines(embeddings, "projected")
  let (tokens, span) = (similarity.rows, similarity.span)
  // The largest similarity to another token, later to a chosen one; only its order matters.
  var nearest = compute.workers.map(tasks: tokens) { row in
    let values = span.row(row, columns: tokens)
    var largest = -Float.infinity
    for i in values.indices where i != row { largest = max(largest, values[i]) }
    return largest
  }
  var isCandidate = [Bool](repeating: true, count: tokens)
  var chosen: [Int] = []
  while chosen.count < count, let next = best(nearest.map { 1 - $0 }, among: isCandidate) {
    if chosen.isEmpty { nearest = [Float](repeating: -.infinity, count: tokens) }
    chosen.append(next)
    isCandidate[next] = false
    let row = span.row(next, columns: tokens)
    for i in nearest.indices { nearest[i] = max(nearest[i], row[i]) }
  }
  return chosen
}
