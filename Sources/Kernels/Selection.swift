/// The indices of the `count` largest scores, ascending; of equal scores the lower index goes first, NaN goes last.
///
/// - Precondition: `count` is at most the number of scores.
package func topIndices(_ scores: [Float], count: Int) -> [Int] {
  precondition(count >= 0 && count <= scores.count, "topIndices: \(count) of \(scores.count)")
  if count == scores.count { return Array(scores.indices) }
  let rank = scores.map { $0.isNaN ? -Float.infinity : $0 }
  let best = rank.indices.sorted { rank[$0] > rank[$1] || (rank[$0] == rank[$1] && $0 < $1) }
  return best.prefix(count).sorted()
}

/// The index of the largest value, the first of equals; `nil` when there is none that is a number.
package func indexOfMaximum(_ values: [Float]) -> Int? {
  var best: Int?
  for i in values.indices where !values[i].isNaN {
    if let known = best, values[i] <= values[known] { continue }
    best = i
  }
  return best
}
