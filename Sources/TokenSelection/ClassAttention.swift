/// The tokens with the largest attention of the class token.
///
/// - Parameters:
///   - attention: Attention of the class token to each token, `[N]`, a mean or sum over heads.
///   - count: Number of tokens to choose; all of them if there are not more.
/// - Returns: Indices in the order of choice: by attention, the lowest index first on ties.
/// - Throws: `SelectionError` for values that are not finite or negative.
///
/// Source: FasterVLM (arXiv 2412.01818); VisionZip's dominant tokens (arXiv 2412.04467).
package func selectByClassAttention(_ attention: [Float], count: Int) throws(SelectionError) -> [Int] {
  try requireWeights(attention, count: attention.count, "class_attention")
  return Array(descending(attention).prefix(count))
}
