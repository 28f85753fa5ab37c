/// VScan's local and global halves: tokens with much attention in each part of an image, then in all of it.
///
/// In each window, the tokens with the largest attention of the class token in an early layer are chosen, half of all
/// divided by the number of windows and rounded down; then the others with the largest attention in a late layer. Where
/// the windows do not divide half of the count, fewer tokens are chosen, as in the published code: of 80 in 16 windows,
/// 72. VScan's merging of the other tokens is left out, as it changes features.
///
/// - Parameters:
///   - local: Attention of the class token in the sixth layer, `[rows · columns]`, row by row.
///   - global: Attention of the class token in the second last layer.
///   - rows: Rows of the grid of tokens.
///   - window: Side of a window; windows that do not fit whole are left out.
///   - count: Number of tokens; all are chosen if there are not more.
/// - Returns: Indices in the order of choice: windows row by row, then the global half; the lowest first on ties.
/// - Throws: `SelectionError` for values that are not finite or negative.
///
/// Source: VScan (arXiv 2505.22654) and its code.
package func selectLocalAndGlobal(
  local: [Float], global: [Float], rows: Int, columns: Int, window: Int, count: Int
) throws(SelectionError) -> (local: [Int], global: [Int]) {
  precondition(rows >= 0 && columns >= 0 && window > 0, "selectLocalAndGlobal: \(rows)×\(columns), window \(window)")
  let tokens = rows * columns
  try requireWeights(local, count: tokens, "local_attention")
  try requireWeights(global, count: tokens, "class_attention")
  guard count < tokens else { return ([], Array(0..<tokens)) }
  let (down, across) = (rows / window, columns / window)
  let perWindow = down * across == 0 ? 0 : count / 2 / (down * across)
  var chosen: [Int] = []
  for y in 0..<down {
    for x in 0..<across {
      let inside = (0..<window * window).map { (y * window + $0 / window) * columns + x * window + $0 % window }
      chosen += descending(inside.map { local[$0] }).prefix(perWindow).map { inside[$0] }
    }
  }
  let taken = Set(chosen)
  return (chosen, Array(descending(global).lazy.filter { !taken.contains($0) }.prefix(count - count / 2)))
}
