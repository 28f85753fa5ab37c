#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif
package import Kernels

/// SCOPE: greedy coverage of the features, weighted by the attention of the class token.
///
/// The score of a token is the sum over all tokens of what its similarity adds to the largest of the chosen, times its
/// attention to the power of `alpha`.
///
/// - Parameters:
///   - features: Features of the vision encoder, `[N, C]`.
///   - attention: Attention of the class token, `[N]`.
///   - alpha: Exponent of the attention.
///   - count: Number of tokens to choose; all of them if there are not more.
/// - Returns: Indices in the order of choice; the lowest on ties.
/// - Throws: `SelectionError` for values that are not finite or negative.
///
/// Source: SCOPE (arXiv 2510.24214) and its code.
package func selectByScope(
  _ features: borrowing Matrix, attention: [Float], alpha: Double, count: Int, on compute: ComputeContext
) throws(SelectionError) -> [Int] {
  try requireWeights(attention, count: features.rows, "class_attention")
  let similarity = try compute.cosines(features, "tower_features")
  let weights = attention.map { alpha == 1 ? $0 : Float(pow(Double($0), alpha)) }
  return maximumCoverage(similarity, weights: weights, count: count, on: compute)
}
